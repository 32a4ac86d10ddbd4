"""Exact search by torch and by numpy, compared with sorting all scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.exact import ExactSearcher, scan_by_query, scan_error
from tests.helpers.indexes import Matrix, assert_same_as_sorting, segment_of_vectors, unit_rows

SCANS = [None, torch.float32, torch.float16, torch.bfloat16]
FILTERS = [None, GeoFilter((-60.0, -30.0, 60.0, 30.0)), GeoFilter(None, (0.0, 0.0), 3e6)]
FILTERS += [GeoFilter(None, (10.0, 80.0), 10.0)]


def integers(rows: int, width: int, reach: int, seed: int) -> Matrix:
    return np.random.default_rng(seed).integers(-reach, reach + 1, (rows, width)).astype(np.float32)


def unit_vectors(rows: int, width: int, seed: int) -> Matrix:
    return unit_rows(np.random.default_rng(seed).standard_normal((rows, width)))


@pytest.mark.parametrize("scan", SCANS, ids=str)
@pytest.mark.parametrize(("shard_rows", "reach"), [(7, 0), (7, 1), (1000, 40)])
def test_ties_are_ordered_by_row(tmp_path: Path, scan: torch.dtype | None, shard_rows: int, reach: int) -> None:
    """Few distinct vectors (one for reach 0), so that most scores are equal to others."""
    segment = segment_of_vectors(tmp_path / "index", integers(300, 3, reach, 1), shard_rows)
    searcher = ExactSearcher(segment, scan_dtype=scan)
    queries = integers(9, 3, 2, 2)
    queries[4] = 0
    for k in (1, 80, 310):
        for count in (1, 9):
            assert_same_as_sorting(searcher.search(queries[:count], k), segment, queries[:count], k)


@pytest.mark.parametrize("scan", SCANS, ids=str)
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e4])
def test_close_vectors_and_queries_of_any_length(tmp_path: Path, scan: torch.dtype | None, scale: float) -> None:
    """Vectors close to each other, as sentence encoders produce them."""
    vectors = (unit_vectors(400, 48, 3) * 0.3 + unit_vectors(1, 48, 4)).astype(np.float32)
    segment = segment_of_vectors(tmp_path / "index", vectors, 90)
    queries = ((vectors[::57] + 0.01 * unit_vectors(8, 48, 5)) * scale).astype(np.float32)
    for k in (1, 10):
        assert_same_as_sorting(ExactSearcher(segment, scan_dtype=scan).search(queries, k), segment, queries, k)


@pytest.mark.parametrize("shard_rows", [20, 500])
@pytest.mark.parametrize("filters", [[FILTERS[1]] * 24, FILTERS * 6], ids=["one filter", "several filters"])
def test_filters_limit_the_search(tmp_path: Path, shard_rows: int, filters: list[GeoFilter | None]) -> None:
    segment = segment_of_vectors(tmp_path / "index", integers(300, 4, 2, 6), shard_rows)
    queries = integers(24, 4, 3, 7)
    for k in (1, 400):
        assert_same_as_sorting(ExactSearcher(segment).search(queries, k, filters), segment, queries, k, filters)


def test_small_blocks_change_no_result(tmp_path: Path) -> None:
    segment = segment_of_vectors(tmp_path / "index", integers(200, 3, 1, 8), 30)
    queries = integers(12, 3, 2, 9)
    searcher = ExactSearcher(segment, max_scores=150, max_pairs=4)
    assert_same_as_sorting(searcher.search(queries, 5), segment, queries, 5)
    assert searcher.search(queries[:0], 4).rows.shape == (0, 4)


def test_equal_vectors_have_bitwise_equal_scores(tmp_path: Path) -> None:
    """In every shard, position and batch, with and without a filter."""
    vectors = unit_vectors(90, 37, 10)
    equal = np.array([0, 13, 14, 50, 51, 52, 89])
    vectors[equal] = vectors[0]
    segment = segment_of_vectors(tmp_path / "index", vectors, 17)
    queries = np.concatenate([vectors[:1] + 0.1 * unit_vectors(1, 37, 11), unit_vectors(8, 37, 12)])
    everywhere = GeoFilter((-180.0, -90.0, 180.0, 90.0))
    results = []
    for count in (1, 2, 9):
        for filters in (None, [everywhere] * count):
            result = ExactSearcher(segment).search(queries[:count].astype(np.float32), 10, filters)
            assert result.rows[0, :7].tolist() == equal.tolist()
            results.append(result.scores[0].tolist())
    assert len(set(results[0][:7])) == 1
    assert all(scores == results[0] for scores in results)


@pytest.mark.parametrize("scan", SCANS[1:], ids=str)
@pytest.mark.parametrize("width", [3, 64, 700])
def test_scan_error_bounds_the_error_of_scans(scan: torch.dtype, width: int) -> None:
    """Also for vectors of one sign, whose rounding errors do not cancel."""
    for part in (unit_vectors(300, width, 14), np.abs(unit_vectors(300, width, 15))):
        vectors: NDArray[np.float16] = part[20:].astype(np.float16)
        queries = part[:20]
        scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
        scanned, stored = torch.from_numpy(queries).to(scan), torch.from_numpy(vectors)
        bound = scan_error(scan, width) * float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
        assert np.abs((scanned @ stored.to(scan).T).double().numpy() - scores).max() < bound
        if scan == torch.float16:
            assert np.abs(scan_by_query(stored, scanned).double().numpy() - scores).max() < bound
