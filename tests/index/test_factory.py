"""Which search is chosen, and what the others are called with."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from m3gal_cli.errors import InputError
from m3gal_cli.index import factory as choose
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.exact_numpy import PlainSearcher
from m3gal_cli.index.factory import make_searcher
from tests.helpers.indexes import index_of, table_of
from tests.helpers.toy_models import ToyEncoder


@pytest.mark.parametrize(
    ("kind", "most", "device", "wanted"),
    [
        ("exact", 1, "cpu", "exact"),
        ("auto", 10, "cpu", "exact"),
        ("auto", 9, "cpu", "ann"),
        ("auto", 9, "meta", "exact"),
        ("ann", 10, "cpu", "ann"),
        ("milvus", 10, "cpu", "milvus"),
    ],
)
def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, most: int, device: str, wanted: str) -> None:
    said, told = [].append, lambda done, total: None
    encoder = ToyEncoder()
    index = index_of(tmp_path / "index", table_of(10), encoder)
    others = {
        "ann": SimpleNamespace(open_ann=lambda *given: ("ann", *given)),
        "milvus": SimpleNamespace(open_milvus=lambda *given: ("milvus", *given)),
    }
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, f"m3gal_cli.index.{name}", module)
    monkeypatch.setattr(choose, "EXACT_POIS", most)
    found: Any = make_searcher(kind, index, encoder, lambda: torch.device(device), "here", 0.9, said, told)
    if wanted == "exact":
        assert isinstance(found, ExactSearcher)
        assert str(found.device) == device
    else:
        assert (
            found
            == {
                "ann": ("ann", index, encoder, 0.9, said, told),
                "milvus": ("milvus", index, "here", told),
            }[wanted]
        )


def test_all_of_the_answer_is_exact_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "EXACT_POIS", 9)
    index = index_of(tmp_path / "index", table_of(10), ToyEncoder())
    found = make_searcher("auto", index, ToyEncoder(), lambda: torch.device("cpu"), None, 1.0, print, print)
    assert isinstance(found, ExactSearcher)


@pytest.mark.parametrize(("rows", "kind"), [(10, PlainSearcher), (9, ExactSearcher)])
def test_few_rows_are_searched_without_torch_until_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, kind: type
) -> None:
    index = index_of(tmp_path / "index", table_of(10), ToyEncoder())
    given: Any = ("exact", index, ToyEncoder(), lambda: torch.device("cpu"), None, 0.9, print, print)
    assert isinstance(make_searcher(*given), ExactSearcher)
    monkeypatch.setattr(choose, "PLAIN_ROWS", rows)
    monkeypatch.delitem(sys.modules, "torch")
    assert isinstance(make_searcher(*given), kind)


def test_an_unknown_kind(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", table_of(3), ToyEncoder())
    with pytest.raises(InputError, match="unknown index 'annoy'"):
        make_searcher("annoy", index, ToyEncoder(), lambda: torch.device("cpu"), None, 0.9, print, print)  # type: ignore[arg-type]
