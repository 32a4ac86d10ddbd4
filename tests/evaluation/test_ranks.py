"""Ranks of the gold against a full sort in which the gold loses every tie."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.evaluation.ranks import MISS, gold_ranks


def worst_rank(scores: list[float], gold: list[bool], valid: list[bool]) -> int:
    """Where the first gold stands in the order that puts gold behind all that ties with it."""
    rows = [(-math.inf if math.isnan(s) else s, g) for s, g, v in zip(scores, gold, valid, strict=True) if v]
    order = sorted(rows, key=lambda row: (-row[0], row[1]))
    return next((place for place, (_, g) in enumerate(order, 1) if g), MISS)


@pytest.mark.parametrize("levels", [1, 3, 1000], ids=["all tie", "many ties", "few ties"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("with_valid", [False, True])
def test_against_a_sort(levels: int, dtype: type, with_valid: bool) -> None:
    draw = np.random.default_rng(levels)
    scores = draw.integers(0, levels, (300, 12)).astype(dtype)
    scores[draw.random(scores.shape) < 0.1] = np.nan
    scores[draw.random(scores.shape) < 0.1] = -np.inf
    gold = draw.random(scores.shape) < 0.15
    valid = draw.random(scores.shape) < 0.8 if with_valid else None
    before = scores.copy()
    found = gold_ranks(scores, gold, valid)
    every = np.ones(scores.shape, bool) if valid is None else valid
    rows = zip(scores.tolist(), gold.tolist(), every.tolist(), strict=True)
    assert found.tolist() == [worst_rank(*row) for row in rows]
    assert found.dtype == np.int64
    assert (found == MISS).any()
    assert (found < MISS).any()
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize(
    ("scores", "gold", "rank"),
    [
        ([3, 2, 1], [1, 0, 0], 1),
        ([3, 3, 1], [1, 0, 0], 2),
        ([3, 3, 1], [1, 1, 0], 1),
        ([3, 2, 2], [0, 1, 1], 2),
        ([0, 0, 0], [0, 1, 0], 3),
        ([1, math.nan, 0], [0, 1, 0], 3),
        ([math.nan, math.nan, math.nan], [1, 0, 0], 3),
        ([math.nan, 1, math.nan], [0, 1, 0], 1),
        ([1, 2, 3], [0, 0, 0], MISS),
    ],
)
def test_by_hand(scores: list[float], gold: list[int], rank: int) -> None:
    assert gold_ranks(np.array([scores], float), np.array([gold], bool)).tolist() == [rank]


def test_what_is_no_candidate_neither_wins_nor_ties() -> None:
    scores, gold = np.array([[5.0, 1.0, 1.0, 0.0]]), np.array([[False, True, False, False]])
    assert gold_ranks(scores, gold, np.array([[False, True, False, True]])).tolist() == [1]
    assert gold_ranks(scores, gold, np.array([[True, False, True, True]])).tolist() == [MISS]
