"""Pickled datasets of the published code: its class is read, other code is refused and never run."""

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
    """Makes a folder when it is unpickled without restrictions."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def published(monkeypatch: pytest.MonkeyPatch, name: str = "rerank_train_dataset", **attributes: Any) -> Any:
    """An object that pickles under the name of the published class, or another name of its module."""
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


def test_an_invalid_record_is_reported_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = ROWS[0] | {"positive_passages": []}
    torch.save(published(monkeypatch, ann=[*ROWS, bad]), tmp_path / "d.pth")
    with pytest.raises(InputError, match="no positive passage") as caught:
        read_records(tmp_path / "d.pth")
    assert caught.value.where == f"{tmp_path / 'd.pth'}: record 2: positive_passages"
    for records, words in ((["text"], "expected a record, got str"), ([], "contains no records")):
        torch.save(published(monkeypatch, ann=records), tmp_path / "d.pth")
        with pytest.raises(InputError, match=words):
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
    assert "No code was run" in str(error.hint)
    assert not marker.exists()
    torch.load(tmp_path / "d.pth", weights_only=False)
    assert marker.exists(), "the pickle runs code in a careless reader"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_raw_pickle_with_foreign_code_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "d.pth").write_bytes(pickle.dumps(Foreign(marker), protocol))
    refused(tmp_path / "d.pth")
    assert not marker.exists()


def test_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.pth"
    torch.save(published(monkeypatch, "other_dataset", ann=ROWS), path)
    assert "src.dataset.other_dataset" in refused(path).what
    for content in (torch.zeros(3), {"ann": ROWS}, "text"):
        torch.save(content, path)
        assert "not a dataset of the published code" in refused(path).what
    for attributes in ({}, {"ann": {"0": ROWS}}, {"ann": None}):
        torch.save(published(monkeypatch, **attributes), path)
        assert "not a dataset of the published code" in refused(path).what


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(published(monkeypatch, ann=ROWS * 100), tmp_path / "d.pth")
    whole = (tmp_path / "d.pth").read_bytes()
    cuts = [whole[:n] for n in (1, 10, 100, len(whole) // 2, len(whole) - 10)]
    others = [b"plain text\n" * 9, bytes(range(256)) * 9, pickle.dumps(ROWS, 2), '{"query": "湖"}\n'.encode()]
    for content in [*cuts, *others]:
        (tmp_path / "d.pth").write_bytes(content)
        assert "truncated, damaged, or not written by torch.save" in refused(tmp_path / "d.pth").what
