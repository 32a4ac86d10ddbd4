"""Exact search against sorting all products, with ties, several shards, areas and each kind of scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from m3gal_cli.geo.filters import Area
from m3gal_cli.index import exact
from m3gal_cli.index.exact import ExactSearcher, scan_error
from m3gal_cli.index.searcher import Found, products
from tests.helpers.indexes import index_of_vectors

SCANS = [None, torch.float32, torch.float16, torch.bfloat16]
AREAS = [None, Area((-60.0, -30.0, 60.0, 30.0)), Area(None, (0.0, 0.0), 3e6), Area(None, (10.0, 80.0), 10.0)]


def whole_numbers(rows: int, width: int, reach: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-reach, reach + 1, (rows, width)).astype(np.float32)


def lengths_of_one(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    v = np.random.default_rng(seed).standard_normal((rows, width))
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(np.float32)


def assert_best(
    found: Found, index: exact.Index, queries: NDArray[np.float32], k: int, areas: Sequence[Area | None] | None
) -> None:
    """Against a loop that sorts what lies in the area."""
    vectors = index.vectors(np.arange(len(index)))
    for i, query in enumerate(queries):
        area = areas[i] if areas is not None else None
        rows = np.arange(len(index)) if area is None else area.rows(index.lng, index.lat)
        scored = sorted((-score, row) for row, score in zip(rows, products(vectors[rows], query), strict=True))[:k]
        assert found.rows[i].tolist() == [row for _, row in scored] + [-1] * (k - len(scored))
        assert found.scores[i].tolist() == [-score for score, _ in scored] + [-np.inf] * (k - len(scored))


@pytest.mark.parametrize("scan", SCANS, ids=str)
@pytest.mark.parametrize("shard_rows", [7, 64, 1000])
@pytest.mark.parametrize("reach", [0, 1, 40])
def test_many_ties(tmp_path: Path, scan: torch.dtype | None, shard_rows: int, reach: int) -> None:
    """Few different vectors (reach 0: one alone), so that most of what is asked for is level with something else."""
    index = index_of_vectors(tmp_path / "index", whole_numbers(300, 3, reach, 1), shard_rows)
    searcher = ExactSearcher(index, scan=scan)
    queries = whole_numbers(9, 3, 2, 2)
    queries[4] = 0
    for k in (1, 5, 80, 310):
        for count in (1, 3, 9):
            assert_best(searcher.search(queries[:count], k), index, queries[:count], k, None)


@pytest.mark.parametrize("scan", SCANS, ids=str)
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e4])
def test_vectors_of_a_model(tmp_path: Path, scan: torch.dtype | None, scale: float) -> None:
    """Near each other, as sentence encoders make them; queries of any length."""
    vectors = lengths_of_one(400, 48, 3) * 0.3 + lengths_of_one(1, 48, 4)
    index = index_of_vectors(tmp_path / "index", vectors.astype(np.float32), 90)
    np.testing.assert_allclose(index.vectors(np.arange(400)), vectors, rtol=0, atol=6e-8)
    queries = ((vectors[::57] + 0.01 * lengths_of_one(8, 48, 5)) * scale).astype(np.float32)
    for k in (1, 10):
        assert_best(ExactSearcher(index, scan=scan).search(queries, k), index, queries, k, None)


@pytest.mark.parametrize("shard_rows", [20, 500])
@pytest.mark.parametrize("each", [False, True])
def test_areas(tmp_path: Path, shard_rows: int, each: bool) -> None:
    index = index_of_vectors(tmp_path / "index", whole_numbers(300, 4, 2, 6), shard_rows)
    queries = whole_numbers(24, 4, 3, 7)
    areas = [AREAS[i % 4] for i in range(24)] if each else [AREAS[1]] * 24
    for k in (1, 6, 400):
        assert_best(ExactSearcher(index).search(queries, k, areas), index, queries, k, areas)
    nowhere = ExactSearcher(index).search(queries[:1], 3, [AREAS[3]])
    assert nowhere.rows.tolist() == [[-1, -1, -1]], "nothing lies there"


def test_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little is held at once."""
    index = index_of_vectors(tmp_path / "index", whole_numbers(200, 3, 1, 8), 30)
    queries = whole_numbers(12, 3, 2, 9)
    monkeypatch.setattr(exact, "SCORES_AT_ONCE", 150)
    monkeypatch.setattr(exact, "PAIRS_AT_ONCE", 4)
    assert_best(ExactSearcher(index).search(queries, 5), index, queries, 5, None)


def test_equal_vectors_score_equal_to_the_bit(tmp_path: Path) -> None:
    """In whatever shard and at whatever place, whoever else is asked."""
    vectors = lengths_of_one(90, 37, 10)
    equal = np.array([0, 13, 14, 50, 51, 52, 89])
    vectors[equal] = vectors[0]
    index = index_of_vectors(tmp_path / "index", vectors, 17)
    asked = np.concatenate([vectors[:1] + 0.1 * lengths_of_one(1, 37, 11), lengths_of_one(8, 37, 12)])
    everywhere = Area((-180.0, -90.0, 180.0, 90.0))
    found = []
    for count in (1, 2, 9):
        for areas in (None, [everywhere] * count):
            answer = ExactSearcher(index).search(asked[:count].astype(np.float32), 10, areas)
            assert answer.rows[0, :7].tolist() == equal.tolist()
            found.append(answer.scores[0].tolist())
    assert len(set(found[0][:7])) == 1
    assert all(scores == found[0] for scores in found)


def test_nothing_asked(tmp_path: Path) -> None:
    index = index_of_vectors(tmp_path / "index", whole_numbers(5, 3, 1, 13))
    assert ExactSearcher(index).search(np.zeros((0, 3), np.float32), 4).rows.shape == (0, 4)


@pytest.mark.parametrize("scan", SCANS[1:], ids=str)
@pytest.mark.parametrize("width", [3, 64, 700])
def test_the_error_of_a_scan_holds(scan: torch.dtype, width: int) -> None:
    """Also for vectors of one sign, whose roundings all point one way, by both ways of scanning."""
    for part in (lengths_of_one(300, width, 14), np.abs(lengths_of_one(300, width, 15))):
        vectors, queries = part[20:].astype(np.float16), part[:20]
        exactly = queries.astype(np.float64) @ vectors.astype(np.float64).T
        asked, stored = torch.from_numpy(queries).to(scan), torch.from_numpy(vectors)
        largest = float(np.linalg.norm(vectors.astype(np.float64), axis=1).max())
        bound = scan_error(scan, width) * largest
        assert np.abs((asked @ stored.to(scan).T).double().numpy() - exactly).max() < bound
        if scan == torch.float16:
            assert np.abs(exact._each(stored, asked).double().numpy() - exactly).max() < bound
