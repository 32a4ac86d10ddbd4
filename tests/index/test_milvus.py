"""The search logic of Milvus with a stand-in store, and the errors that need no engine."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.milvus import MilvusSearcher, filter_expression, open_milvus
from m3gal_cli.index.milvus_store import MilvusSettings, MilvusStore, collection_name, without_password
from m3gal_cli.index.segment import Segment
from tests.helpers.indexes import Matrix, assert_same_as_sorting
from tests.helpers.milvus import DIM, FILTERS, SIZE, make_index, random_vectors, refused

INSTALLED = all(importlib.util.find_spec(name) for name in ("pymilvus", "milvus_lite"))


class StandInStore:
    """A store that computes what a FLAT index of Milvus returns, and records its calls."""

    def __init__(self, segment: Segment, **settings: int) -> None:
        self.segment, self.settings = segment, MilvusSettings(**settings)  # type: ignore[arg-type]
        self.calls: list[tuple[int, int, str]] = []

    def search(self, queries: Matrix, limit: int, expression: str) -> list[tuple[np.ndarray, Matrix]]:
        self.calls.append((len(queries), limit, expression))
        coordinates = zip(self.segment.lng.tolist(), self.segment.lat.tolist(), strict=True)
        passes = [not expression or eval(expression, {"lng": lng, "lat": lat}) for lng, lat in coordinates]
        rows = np.flatnonzero(passes)
        hits = []
        for query in queries:
            scores = self.segment.vectors(rows) @ query
            best = np.argsort(-scores, kind="stable")[:limit]
            hits.append((rows[best], scores[best]))
        return hits


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    return make_index(tmp_path_factory.mktemp("index") / "index", random_vectors(0))


def stand_in(segment: Segment, **settings: int) -> tuple[MilvusSearcher, list[tuple[int, int, str]]]:
    store = StandInStore(segment, **settings)
    return MilvusSearcher(cast(MilvusStore, store)), store.calls


@pytest.mark.parametrize("k", [3, 1000])
@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_passed_to_milvus_and_checked_exactly(segment: Segment, name: str, k: int) -> None:
    searcher, calls = stand_in(segment)
    geo_filter, queries = FILTERS[name], random_vectors(5, 3)
    assert name == "empty" or 3 < len(segment.rows_in(geo_filter)) < SIZE
    assert_same_as_sorting(searcher.search(queries, k, [geo_filter] * 3), segment, queries, k, [geo_filter] * 3)
    assert {expression for _, _, expression in calls} == {filter_expression(geo_filter)}


def test_the_edges_of_a_box_pass_its_filter(segment: Segment) -> None:
    searcher, query, row = stand_in(segment)[0], random_vectors(6, 1), 5
    lng, lat = float(segment.lng[row]), float(segment.lat[row])
    assert searcher.search(query, 3, [GeoFilter((lng, lat, lng, lat))]).rows[0].tolist() == [row, -1, -1]
    beside = GeoFilter((float(np.nextafter(lng, 181)), -90.0, 180.0, 90.0))
    assert row not in searcher.search(query, SIZE, [beside]).rows[0]


def test_ties_are_ordered_by_row(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    segment = make_index(tmp_path / "index", generator.integers(-1, 2, (SIZE, 3)).astype(np.float32))
    queries = generator.integers(-2, 3, (4, 3)).astype(np.float32)
    queries[3] = 0
    assert_same_as_sorting(stand_in(segment)[0].search(queries, 10), segment, queries, 10)


@pytest.mark.parametrize("k", [40, SIZE + 5])
def test_more_rows_than_milvus_returns_are_searched_locally(segment: Segment, k: int) -> None:
    searcher, calls = stand_in(segment, max_hits=30)
    queries, filters = random_vectors(4, 2), [None, FILTERS["box"]]
    assert_same_as_sorting(searcher.search(queries, k, filters), segment, queries, k, filters)
    assert {limit for _, limit, _ in calls} == {30}


def test_more_candidates_are_requested_until_enough_pass_the_filter(segment: Segment) -> None:
    searcher, calls = stand_in(segment, extra_hits=0)
    geo_filter, queries = FILTERS["circle and box"], random_vectors(7, 40)
    assert_same_as_sorting(searcher.search(queries, 2, [geo_filter] * 40), segment, queries, 2, [geo_filter] * 40)
    assert [limit for _, limit, _ in calls][:2] == [4, 16]


def test_queries_of_one_filter_are_sent_together_in_batches(segment: Segment) -> None:
    searcher, calls = stand_in(segment, hits_per_call=40)
    filters = [FILTERS[name] if name else None for name in ("box", "", "circle", "box", "", "", "empty")]
    queries = random_vectors(8, 7)
    assert_same_as_sorting(searcher.search(queries, 4, filters), segment, queries, 4, filters)
    assert max(count for count, _, _ in calls) == 2
    calls.clear()
    assert searcher.search(queries[:0], 3).rows.shape == (0, 3)
    assert calls == []


def test_the_collection_name_depends_on_content_only(tmp_path: Path) -> None:
    vectors = random_vectors(20, 10)
    one, copy = (make_index(tmp_path / name, vectors) for name in ("one", "copy"))
    assert collection_name(one) == collection_name(copy)
    others = [
        make_index(tmp_path / "model", vectors, model="other"),
        make_index(tmp_path / "table", vectors, table="other"),
        make_index(tmp_path / "wider", random_vectors(20, 10, DIM + 1)),
    ]
    assert len({collection_name(segment) for segment in (one, *others)}) == 4


def test_invalid_uris_are_refused_and_passwords_are_not_shown(segment: Segment) -> None:
    for uri in ("pois.sqlite", "", "ftp://127.0.0.1:19530", "127.0.0.1:1", "http://", "http://a:b"):
        with refused(repr(uri), ".db", "http://host:19530"):
            open_milvus(segment, uri)
    assert without_password("https://user:p@ss@host:19530/db") == "https://host:19530/db"
    assert without_password("./pois@home.db") == "./pois@home.db"


def test_missing_packages_are_named(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, uri in (("milvus_lite", str(tmp_path / "pois.db")), ("pymilvus", "http://127.0.0.1:1")):
        monkeypatch.setitem(sys.modules, package, None)
        with refused(package if INSTALLED else "pymilvus", "pip install 'm3gal[milvus]'"):
            open_milvus(segment, uri)
