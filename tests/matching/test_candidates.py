"""The candidates of a query against loops over all rows: dense and sparse rows, filters, segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.factory import SegmentsSearcher
from m3gal_cli.index.searcher import Searcher, inner_products
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.index.writer import open_writer
from m3gal_cli.matching.candidates import CandidateRows, CandidateSearch, Depths, table_candidates
from tests.helpers.indexes import index_of
from tests.helpers.sparse import sparse_scores
from tests.helpers.toy_models import ClusteredEncoder
from tests.index.test_milvus import stand_in

NAMES = ["hotel kämp", "bar north", "north gate", "文三路 花园", "hotelli", "gate 12"]
POIS = pd.DataFrame(
    {
        "poi_id": range(60),
        "address": [f"{NAMES[i % 6]} {i % 11}" for i in range(60)],
        "lng": np.random.default_rng(0).uniform(-1, 1, 60),
        "lat": np.random.default_rng(1).uniform(-1, 1, 60),
    }
)
QUERIES = ["hotel kamp 3", "花园", "gate", "zzz"]
FILTERS = [None, GeoFilter((-1.0, -1.0, 0.3, 0.5)), None, GeoFilter((-1.0, -1.0, 0.9, 0.9))]


@pytest.mark.parametrize("kind", ["exact", "milvus"])
@pytest.mark.parametrize(("dense_depth", "sparse_depth", "least"), [(5, 4, 0), (5, 0, 9), (100, 100, 0), (1, 7, 2)])
def test_candidates_are_the_best_rows_of_both_searches_with_exact_scores(
    tmp_path: Path, kind: str, dense_depth: int, sparse_depth: int, least: int
) -> None:
    index_of(tmp_path / "index", POIS[:25], ClusteredEncoder(), 7)
    with open_writer(tmp_path / "index", ClusteredEncoder, shard_rows=7) as writer:
        writer.upsert(POIS[25:])
        writer.delete([3, 40])
        index = writer.index
    searchers: dict[str, list[Searcher]] = {
        "exact": [ExactSearcher(segment) for segment in index.segments],
        "milvus": [stand_in(segment, extra_hits=1)[0] for segment in index.segments],
    }
    search = CandidateSearch(index, SegmentsSearcher(index, searchers[kind]), Depths(dense_depth, sparse_depth))
    vectors = ClusteredEncoder().encode_queries(QUERIES)
    addresses = index.addresses_at(np.arange(60))
    every = index.vectors(np.arange(60))
    for i, found in enumerate(search.search(QUERIES, vectors, FILTERS, least)):
        given = FILTERS[i]
        allowed = np.arange(60) if given is None else given.rows(index.lng, index.lat)
        allowed = allowed[index.live[allowed]]
        dense, sparse = inner_products(every, vectors[i]), sparse_scores(addresses, QUERIES[i], index.live.tolist())
        best = sorted(allowed.tolist(), key=lambda row, own=dense: (-own[row], row))[: max(dense_depth, least)]
        of_sparse = [row for row in allowed.tolist() if sparse[row] > 0]
        of_sparse = sorted(of_sparse, key=lambda row, own=sparse: (-np.float32(own[row]), row))[:sparse_depth]
        rows = sorted({*best, *of_sparse}, key=lambda row, own=dense: (-own[row], row))
        assert found.rows.tolist() == rows
        assert found.scores.tolist() == dense[rows].tolist(), "bitwise the scores of exact search"
        np.testing.assert_allclose(found.sparse_scores, [sparse[row] for row in rows], rtol=1e-6)


def test_candidates_of_a_table_in_memory_are_those_of_its_index(tmp_path: Path) -> None:
    index, encoder, depths = index_of(tmp_path / "index", POIS, ClusteredEncoder()), ClusteredEncoder(), Depths(6, 5)
    vectors = encoder.encode_queries(QUERIES)
    search = CandidateSearch(index, ExactSearcher(index.segments[0]), depths)
    table = SparseTable.of(POIS["address"].tolist(), POIS["lng"].to_numpy(), POIS["lat"].to_numpy())
    for text, vector, expected in zip(QUERIES, vectors, search.search(QUERIES, vectors, None), strict=True):
        found = table_candidates(table, index.vectors(np.arange(60)), text, vector, depths)
        for own, other in zip(found, expected, strict=True):
            assert own.tolist() == other.tolist()


def test_equal_dense_scores_are_ordered_by_row() -> None:
    rows, scores = np.array([7, 2, 9, 4]), np.array([0.5, 0.25, 0.5, 0.25], np.float32)
    found = CandidateRows.ordered(rows, scores, scores * 2)
    assert found.rows.tolist() == [7, 9, 2, 4]
    assert found.take(np.array([3, 0])).sparse_scores.tolist() == [0.5, 1.0]
