"""The published code's pickles: its own class is read, foreign code is refused and never run."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.compat.legacy_pickle import load_published_dataset
from m3gal_cli.data.records import Passage, Record, read_records
from m3gal_cli.errors import InputError

ROWS = [
    {
        "query": "湖边路图书馆",
        "query_gis": [[], "湖边路图书馆", "120.1,30.2"],
        "positive_passages": [{"docid": "7", "text": "市图书馆", "gis": [[], "120.11,30.21"]}],
        "negative_passages": [{"docid": "8", "text": "水磨坊", "gis": [[], "120.2,30.3"]}],
    }
]


class Foreign:
    """Makes a folder when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def published(monkeypatch: pytest.MonkeyPatch, name: str = "rerank_train_dataset", **attributes: Any) -> Any:
    """An object of a class that pickles under the published class's name (or another name of its module)."""
    module = types.ModuleType("src.dataset")
    kind = type(name, (), {"__module__": "src.dataset", "__qualname__": name})
    setattr(module, name, kind)
    monkeypatch.setitem(sys.modules, "src", types.ModuleType("src"))
    monkeypatch.setitem(sys.modules, "src.dataset", module)
    made = kind()
    made.__dict__.update(attributes)
    return made


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_published_dataset(path)
    assert caught.value.where == str(path)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("zipped", [True, False])
def test_the_published_class_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    made = published(monkeypatch, ann=ROWS, max_length=64, tensor=torch.zeros(2))
    torch.save(made, tmp_path / "d.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert load_published_dataset(tmp_path / "d.pth") == ROWS
    library, mill = Passage("市图书馆", 120.11, 30.21, "7"), Passage("水磨坊", 120.2, 30.3, "8")
    assert read_records(tmp_path / "d.pth") == [Record("湖边路图书馆", [library], [mill], None, 120.1, 30.2)]


def test_a_bad_record_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ROWS[0] | {"positive_passages": []}
    torch.save(published(monkeypatch, ann=[*ROWS, bad]), tmp_path / "d.pth")
    with pytest.raises(InputError, match="no positive passage") as caught:
        read_records(tmp_path / "d.pth")
    assert caught.value.where == f"{tmp_path / 'd.pth'}: record 2: positive_passages"
    torch.save(published(monkeypatch, ann=["text"]), tmp_path / "d.pth")
    with pytest.raises(InputError, match="expected a record, got str"):
        read_records(tmp_path / "d.pth")
    torch.save(published(monkeypatch, ann=[]), tmp_path / "d.pth")
    with pytest.raises(InputError, match="holds no record"):
        read_records(tmp_path / "d.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("inside", ["alone", "in a list", "in the published class"])
def test_foreign_code_is_refused_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, inside: str
) -> None:
    marker = tmp_path / "marker"
    foreign: Any = Foreign(marker)
    if inside == "in a list":
        foreign = [*ROWS, foreign]
    elif inside == "in the published class":
        foreign = published(monkeypatch, ann=[*ROWS, foreign])
    torch.save(foreign, tmp_path / "d.pth", _use_new_zipfile_serialization=zipped)
    error = refused(tmp_path / "d.pth")
    assert "mkdir" in error.what
    assert "nothing was run" in str(error.hint)
    assert not marker.exists()
    torch.load(tmp_path / "d.pth", weights_only=False)
    assert marker.exists(), "the pickle does bite a careless reader"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_raw_pickle_with_foreign_code_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "d.pth").write_bytes(pickle.dumps(Foreign(marker), protocol))
    refused(tmp_path / "d.pth")
    assert not marker.exists()


def test_another_class_of_the_same_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(published(monkeypatch, "other_dataset", ann=ROWS), tmp_path / "d.pth")
    assert "src.dataset.other_dataset" in refused(tmp_path / "d.pth").what


@pytest.mark.parametrize("thing", [torch.zeros(3), {"ann": ROWS}, ROWS, "text"])
def test_what_is_no_dataset_is_told(tmp_path: Path, thing: Any) -> None:
    torch.save(thing, tmp_path / "d.pth")
    assert "is not a dataset of the published code" in refused(tmp_path / "d.pth").what


@pytest.mark.parametrize("attributes", [{}, {"ann": {"0": ROWS}}, {"ann": None}])
def test_a_dataset_without_a_list_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attributes: dict[str, Any]
) -> None:
    torch.save(published(monkeypatch, **attributes), tmp_path / "d.pth")
    assert "is not a dataset of the published code" in refused(tmp_path / "d.pth").what


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(published(monkeypatch, ann=ROWS * 100), tmp_path / "d.pth")
    whole = (tmp_path / "d.pth").read_bytes()
    cuts = [whole[:n] for n in (1, 10, 100, len(whole) // 2, len(whole) - 10)]
    others = [b"plain text\n" * 9, bytes(range(256)) * 9, pickle.dumps(ROWS, 2), '{"query": "湖"}\n'.encode()]
    for content in [*cuts, *others]:
        (tmp_path / "d.pth").write_bytes(content)
        assert "truncated, damaged, or not written by torch.save" in refused(tmp_path / "d.pth").what


def test_the_golden_pickle_reads_like_its_jsonl(shared: Path) -> None:
    golden = shared / "golden"
    records = read_records(golden / "candidates.jsonl")
    assert records == read_records(golden / "candidates_use_gis.pth")
    assert len(records) == 24
