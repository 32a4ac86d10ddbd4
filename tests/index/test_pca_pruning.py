"""Bounds from principal components, and the rows that they leave out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from m3gal_cli.errors import InputError
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.pca_pruning import PcaPruner, PruningSettings, open_pruner, principal_directions, project_vectors
from m3gal_cli.index.searcher import inner_products
from tests.helpers.indexes import Matrix, assert_same_as_sorting, clustered_vectors, segment_of_vectors, unit_rows

DIM = 48
SMALL = PruningSettings(min_pois=1, dims=15, sample_rows=100, expected_candidates=40, block_rows=64)


def queries_near(vectors: Matrix, count: int) -> Matrix:
    generator = np.random.default_rng(9)
    rows = generator.integers(0, len(vectors), count)
    return unit_rows(vectors[rows] + 0.05 * generator.standard_normal((count, vectors.shape[1])))


@pytest.mark.parametrize("directions", [4, 15, 48])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_no_score_exceeds_its_bound(directions: int, scale: float) -> None:
    vectors = clustered_vectors(700, DIM, directions) * np.float32(scale)
    queries = queries_near(vectors, 30) * np.float32(scale)
    basis = principal_directions(vectors[:300], 15)
    np.testing.assert_allclose(basis.T @ basis, np.eye(15), atol=1e-5)
    max_norm = float(np.linalg.norm(vectors, axis=1).max())
    pruner = PcaPruner(basis, project_vectors(vectors, basis), max_norm, SMALL)
    bounds = pruner.project_queries(queries).astype(np.float64) @ pruner.rows.astype(np.float64).T
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    assert (bounds + pruner.slack(queries, False) >= scores).all()
    if directions == 4 and scale == 1.0:
        assert (bounds - scores).mean() < 0.05, "with few directions the bound is tight"


@pytest.mark.parametrize("k", [1, 60, 500])
@pytest.mark.parametrize(("count", "directions"), [(1, 6), (25, 6), (25, 48)])
def test_pruned_search_equals_sorting(tmp_path: Path, k: int, count: int, directions: int) -> None:
    vectors = clustered_vectors(900, DIM, directions)
    vectors[100:140] = vectors[7]  # ties
    segment = segment_of_vectors(tmp_path / "index", vectors, shard_rows=128)
    queries = queries_near(vectors, count)
    queries[0] = vectors[7]
    searcher = ExactSearcher(segment, pruning=SMALL)
    assert searcher.pruner is not None
    result = searcher.search(queries, k)
    assert_same_as_sorting(result, segment, queries, k)
    assert np.isin(result.rows[0], [7, *range(100, 140)]).sum() == min(k, 41)
    scanned = ExactSearcher(segment, scan_dtype=torch.float32)
    assert scanned.pruner is None
    assert scanned.search(queries, k).rows.tolist() == result.rows.tolist()


def test_most_rows_are_skipped_and_a_high_threshold_is_lowered(tmp_path: Path) -> None:
    vectors = clustered_vectors(3000, DIM, 6)
    pruner = open_pruner(segment_of_vectors(tmp_path / "index", vectors, shard_rows=512), SMALL)
    assert pruner is not None
    scored: list[int] = []
    queries = queries_near(vectors, 20)

    def score(query: np.ndarray, rows: np.ndarray) -> Matrix:
        scored.extend(np.bincount(query).tolist())
        return inner_products(vectors[rows], queries[query])

    kept = pruner.candidates(queries, 3, score)
    assert sum(map(len, kept)) < 0.1 * 20 * 3000
    assert max(scored) <= 6
    far = np.tile(-vectors.mean(axis=0), (5, 1))  # far from all vectors: loose bounds, and too high a first threshold
    found = pruner.candidates(far, 60, lambda q, r: inner_products(vectors[r], far[q]))
    for rows, query in zip(found, far, strict=True):
        assert np.isin(np.argsort(-(vectors @ query))[:60], rows).all()


def test_projections_are_stored_and_damaged_ones_are_reported(tmp_path: Path) -> None:
    segment = segment_of_vectors(tmp_path / "index", clustered_vectors(300, DIM, 6))
    first = open_pruner(segment, SMALL)
    assert first is not None
    file = segment.path / "head" / "rows.npy"
    written = file.stat().st_mtime_ns
    second = open_pruner(segment, SMALL)
    assert second is not None
    assert (second.rows == first.rows).all()
    assert file.stat().st_mtime_ns == written
    file.write_bytes(b"no array")
    with pytest.raises(InputError, match="damaged projections"):
        open_pruner(segment, SMALL)


def test_small_indexes_and_short_vectors_are_not_pruned(tmp_path: Path) -> None:
    segment = segment_of_vectors(tmp_path / "index", clustered_vectors(50, 31, 6))
    settings = PruningSettings(min_pois=50, dims=15)
    assert open_pruner(segment, settings) is not None
    assert open_pruner(segment, replace(settings, min_pois=51)) is None
    assert open_pruner(segment, replace(settings, dims=16)) is None
