"""Heads bound scores from above, and what they leave out is never among the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from m3gal_cli.errors import InputError
from m3gal_cli.index import pca_pruning as module
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.pca_pruning import Head, heads_of, open_head, principal_directions
from m3gal_cli.index.searcher import products
from tests.helpers.vector_indexes import MakeIndex, clustered, make_index  # noqa: F401

DIM = 48


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads of 15 directions from the first POI on, in small steps."""
    for name, value in {"HEAD_FROM": 1, "DIRECTIONS": 15, "SAMPLE": 100, "WANTED": 40, "ROWS_AT_ONCE": 64}.items():
        monkeypatch.setattr(module, name, value)


def queries_for(vectors: np.ndarray, count: int) -> np.ndarray:
    draw = np.random.default_rng(9)
    near = vectors[draw.integers(0, len(vectors), count)] + 0.05 * draw.standard_normal((count, vectors.shape[1]))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("directions", [4, 15, 48])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_no_score_is_above_its_bound(directions: int, scale: float) -> None:
    vectors = clustered(700, DIM, directions) * np.float32(scale)
    queries = queries_for(vectors, 30) * np.float32(scale)
    norm = float(np.linalg.norm(vectors, axis=1).max())
    basis = principal_directions(vectors[:300], 15)
    np.testing.assert_allclose(basis.T @ basis, np.eye(15), atol=1e-5)
    head = Head(basis, heads_of(vectors, basis), norm)
    bounds = head._query(queries).astype(np.float64) @ head.rows.astype(np.float64).T
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    assert (bounds + head._slack(queries, False) >= scores).all()
    if directions == 4 and scale == 1.0:
        assert (bounds - scores).mean() < 0.05, "few directions: the bound is tight"


def test_principal_directions_keep_more_than_any_axes() -> None:
    vectors = clustered(500, DIM, 6)
    basis = principal_directions(vectors, 6)
    kept = np.square(vectors @ basis).sum()
    assert kept > 0.97 * np.square(vectors).sum()
    assert kept >= np.sort(np.square(vectors).sum(axis=0))[-6:].sum()


@pytest.mark.parametrize("k", [1, 7, 60, 500])
@pytest.mark.parametrize("count", [1, 3, 25])
@pytest.mark.parametrize("directions", [6, 48])
def test_search_by_heads_is_a_stable_sort(make_index: MakeIndex, k: int, count: int, directions: int) -> None:  # noqa: F811
    vectors = clustered(900, DIM, directions)
    vectors[100:140] = vectors[7]  # many that tie
    index = make_index(vectors, shard_rows=128)
    queries = queries_for(vectors, count)
    queries[0] = vectors[7]
    searcher = ExactSearcher(index)
    assert searcher.head is not None
    found = searcher.search(queries, k)
    for i, query in enumerate(queries):
        scores = products(index.vectors(np.arange(len(vectors))), query)
        order = np.lexsort((np.arange(len(vectors)), -scores))[:k]
        assert found.rows[i].tolist() == order.tolist()
        assert found.scores[i].tolist() == scores[order].tolist()
    assert np.isin(found.rows[0], [7, *range(100, 140)]).sum() == min(k, 41)


def test_most_rows_are_left_out_and_a_low_threshold_is_looked_below(make_index: MakeIndex) -> None:  # noqa: F811
    vectors = clustered(3000, DIM, 6)
    searcher = ExactSearcher(make_index(vectors, shard_rows=512))
    assert searcher.head is not None
    asked: list[int] = []

    def score(query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        asked.extend(np.bincount(query).tolist())
        return products(searcher.index.vectors(rows), queries[query])

    queries = queries_for(vectors, 20)
    kept = searcher.head.above(queries, 3, score)
    assert sum(map(len, kept)) < 0.1 * 20 * 3000
    assert max(asked) <= 6
    far = np.tile(-vectors.mean(axis=0), (5, 1))  # away from all: bounds are loose, and the threshold too high
    for rows, query in zip(
        searcher.head.above(far, 60, lambda i, rows: products(vectors[rows], far[i])), far, strict=True
    ):
        assert np.isin(np.argsort(-(vectors @ query))[:60], rows).all()


def test_the_same_answers_as_scanning_whole_vectors(make_index: MakeIndex) -> None:  # noqa: F811
    vectors = clustered(1200, DIM, 10)
    index, queries = make_index(vectors, shard_rows=300), queries_for(vectors, 12)
    plain = ExactSearcher(index, scan=torch.float32)
    assert plain.head is None
    for one, two in zip(ExactSearcher(index).search(queries, 9), plain.search(queries, 9), strict=True):
        assert (one == two).all()


def test_a_head_is_kept_and_a_damaged_one_named(make_index: MakeIndex) -> None:  # noqa: F811
    index = make_index(clustered(300, DIM, 6))
    first = open_head(index)
    assert first is not None
    before = (index.path / "head" / "rows.npy").stat().st_mtime_ns
    assert (open_head(index).rows == first.rows).all()  # type: ignore[union-attr]
    assert (index.path / "head" / "rows.npy").stat().st_mtime_ns == before
    Path(index.path / "head" / "rows.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="damaged"):
        open_head(index)


def test_small_or_narrow_indexes_have_none(make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert open_head(make_index(clustered(50, 30, 6))) is None  # as wide as two heads
    monkeypatch.setattr(module, "HEAD_FROM", 51)
    assert open_head(make_index(clustered(50, DIM, 6), name="other")) is None
