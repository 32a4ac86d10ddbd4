"""Exact search without torch: equal to sorting and, bit for bit, to the search by torch that takes its place."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from m3gal_cli.geo.filters import Area
from m3gal_cli.index import exact_numpy as module
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.exact_numpy import PlainSearcher
from tests.helpers.indexes import index_of, index_of_vectors, table_of
from tests.helpers.toy_models import ToyEncoder

NORTH = Area((-180.0, 0.0, 180.0, 90.0))


def device() -> torch.device:
    return torch.device("cpu")


def refuse() -> torch.device:
    raise AssertionError("asked for without need")


@pytest.mark.parametrize("k", [1, 7, 200])
@pytest.mark.parametrize("areas", [None, [NORTH, None, NORTH, Area((0.0, 0.0, 1e-9, 1e-9))]])
def test_against_sorting(tmp_path: Path, k: int, areas: list[Area | None] | None) -> None:
    """Small whole numbers, so that many scores are equal: these come in the order of the table."""
    encoder = ToyEncoder()
    index = index_of(tmp_path / "index", table_of(90), encoder, 40)
    queries = encoder.queries(["a", "b", "c", "d"])
    found = PlainSearcher(index, refuse).search(queries, k, areas)
    vectors = index.vectors(np.arange(90))
    for i, query in enumerate(queries):
        area = areas[i] if areas else None
        rows = list(range(90)) if area is None else area.rows(index.lng, index.lat).tolist()
        wanted = sorted(rows, key=lambda row: (-float(vectors[row] @ query), row))[:k]
        assert found.rows[i].tolist() == wanted + [-1] * (k - len(wanted))
        assert found.scores[i, : len(wanted)].tolist() == [float(vectors[row] @ query) for row in wanted]
        assert (found.scores[i, len(wanted) :] == -np.inf).all()


def test_a_large_batch_brings_torch_and_no_other_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    index = index_of_vectors(tmp_path / "index", draw.standard_normal((300, 24)).astype(np.float32), 128)
    queries = draw.standard_normal((module.PLAIN_QUERIES + 1, 24)).astype(np.float32)
    searcher = PlainSearcher(index, device)
    few = searcher.search(queries[:-1], 9)
    assert "whole" not in searcher.__dict__
    many = searcher.search(queries, 9)
    assert isinstance(searcher.whole, ExactSearcher)
    assert many.rows[:-1].tolist() == few.rows.tolist()
    assert many.scores[:-1].tolist() == few.scores.tolist(), "equal to the bit"
    assert many.rows.tolist() == ExactSearcher(index).search(queries, 9).rows.tolist()
    monkeypatch.setattr(module, "best_among", None)
    assert searcher.search(queries[:2], 9).rows.tolist() == few.rows[:2].tolist(), "what is loaded is used"


def test_many_small_batches_bring_torch_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLAIN_READ", 250)
    index = index_of(tmp_path / "index", table_of(100), ToyEncoder())
    query, searcher = ToyEncoder().queries(["a"]), PlainSearcher(index, device)
    wanted = ExactSearcher(index).search(query, 5)
    for number in range(5):
        found = searcher.search(query, 5)
        assert found.rows.tolist() == wanted.rows.tolist()
        assert ("whole" in searcher.__dict__) == (number > 2), "300 rows were looked at before"


def test_vectors_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways give the float32 number nearest to the sum of the two halves."""
    draw = np.random.default_rng(1)
    scale = 10.0 ** draw.integers(-7, 4, (200, 6))
    index = index_of_vectors(tmp_path / "index", (draw.standard_normal((200, 6)) * scale).astype(np.float32), 64)
    halves = zip(index._shards, index._rests, strict=True)
    wanted = np.concatenate([a.astype(np.float64) + b.astype(np.float64) for a, b in halves]).astype(np.float32)
    rows = draw.permutation(200)
    assert index.vectors(rows).tolist() == wanted[rows].tolist()
    monkeypatch.delitem(sys.modules, "torch")
    assert index.vectors(rows).tolist() == wanted[rows].tolist()
