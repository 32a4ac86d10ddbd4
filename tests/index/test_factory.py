"""The choice of a searcher, and the change from numpy to torch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.ann import AnnSearcher, SearchSetting
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.exact_numpy import NumpySearcher
from m3gal_cli.index.factory import SearchOptions, make_searcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.writer import open_writer
from tests.helpers.indexes import assert_same_as_sorting, index_of, poi_table, segment_of, segment_of_vectors
from tests.helpers.toy_models import ToyEncoder

NORTH = GeoFilter((-180.0, 0.0, 180.0, 90.0))
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("kind", "max_exact_pois", "recall", "device", "expected"),
    [
        ("exact", 1, 0.9, "cpu", "exact"),
        ("auto", 10, 0.9, "cpu", "exact"),
        ("auto", 9, 0.9, "cpu", "ann"),
        ("auto", 9, 0.9, "meta", "exact"),
        ("auto", 9, 1.0, "cpu", "exact"),
        ("ann", 10, 0.9, "cpu", "ann"),
        ("milvus", 10, 0.9, "cpu", "milvus"),
    ],
)
def test_kind_size_recall_and_device_choose_the_searcher(
    tmp_path: Path, monkeypatch: Any, kind: Any, max_exact_pois: int, recall: float, device: str, expected: str
) -> None:
    index = index_of(tmp_path / "index", poi_table(10), ToyEncoder())
    stand_ins = {
        "ann": SimpleNamespace(open_ann=lambda segment, encoder, recall, log, progress: ("ann", recall)),
        "milvus": SimpleNamespace(open_milvus=lambda segment, uri, progress, keep: ("milvus", uri)),
        "milvus_store": SimpleNamespace(collection_name=lambda segment: segment.path.name),
    }
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, f"m3gal_cli.index.{name}", module)
    options = SearchOptions(kind, recall, "pois.db", max_exact_pois)
    found: Any = make_searcher(options, index, ToyEncoder(), lambda: torch.device(device), print, print)
    if expected == "exact":
        assert isinstance(found, ExactSearcher)
        assert str(found.device) == device
    else:
        assert found == (expected, {"ann": recall, "milvus": "pois.db"}[expected])


@pytest.mark.parametrize(("max_numpy_pois", "expected"), [(10, NumpySearcher), (9, ExactSearcher)])
def test_small_indexes_are_searched_without_torch_until_it_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_numpy_pois: int, expected: type
) -> None:
    index = index_of(tmp_path / "index", poi_table(10), ToyEncoder())
    options = SearchOptions("exact", max_numpy_pois=max_numpy_pois)
    given: Any = (options, index, ToyEncoder(), lambda: CPU, print, print)
    assert isinstance(make_searcher(*given), ExactSearcher)
    monkeypatch.delitem(sys.modules, "torch")
    assert isinstance(make_searcher(*given), expected)
    with pytest.raises(InputError, match="needs a URI"):
        make_searcher(SearchOptions("milvus"), *given[1:])


@pytest.mark.parametrize("filters", [None, [NORTH, None, NORTH, GeoFilter((0.0, 0.0, 1e-9, 1e-9))]])
def test_numpy_search_equals_sorting(tmp_path: Path, filters: list[GeoFilter | None] | None) -> None:
    segment = segment_of(tmp_path / "index", poi_table(90), ToyEncoder(), 40)
    queries = ToyEncoder().encode_queries(["a", "b", "c", "d"])
    result = NumpySearcher(segment).search(queries, 7, filters)
    assert_same_as_sorting(result, segment, queries, 7, filters)


def test_numpy_and_torch_have_bitwise_equal_scores(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    segment = segment_of_vectors(tmp_path / "index", generator.standard_normal((300, 24)).astype(np.float32), 128)
    queries = generator.standard_normal((4, 24)).astype(np.float32)
    found, expected = NumpySearcher(segment).search(queries, 9), ExactSearcher(segment).search(queries, 9)
    assert found.rows.tolist() == expected.rows.tolist()
    assert found.scores.tobytes() == expected.scores.tobytes()


def test_of_several_segments_only_large_ones_are_searched_approximately(tmp_path: Path) -> None:
    path, encoder = tmp_path / "index", ToyEncoder()
    pois = poi_table(90)
    index_of(path, pois[:60], encoder)
    with open_writer(path, lambda: encoder) as writer:
        writer.upsert(pois[60:])
    index = Index(path)
    given: Any = (index, encoder, lambda: CPU, lambda text: None, lambda done, total: None)
    searcher: Any = make_searcher(SearchOptions("ann", max_exact_rows=30), *given)
    assert [type(own) for own in searcher.searchers] == [AnnSearcher, ExactSearcher]
    assert [(own.segment.path / "ann").exists() for own in searcher.searchers] == [True, False]
    searcher.searchers[0].setting = SearchSetting(99, 60, 1.0, 0.0)  # all lists, all rows
    queries = encoder.encode_queries(["a", "b"])
    assert_same_as_sorting(searcher.search(queries, 20), index, queries, 20)


def test_approximate_search_without_its_files_in_a_protected_folder_says_what_to_do(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", poi_table(20), ToyEncoder())
    (index.segments[0].path / "ann").write_text("")  # no folder can be made there
    given: Any = (index, ToyEncoder(), lambda: CPU, print, print)
    with pytest.raises(InputError, match="approximate search needs files that the index lacks") as caught:
        make_searcher(SearchOptions("ann"), *given)
    assert "m3gal index build --index ann" in str(caught.value)
