"""Ranks of the gold against a full sort in which the gold is last among equal scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.evaluation.ranks import MISS, gold_ranks


def worst_rank(scores: list[float], gold: list[bool], valid: list[bool]) -> int:
    """Return the rank of the first gold in a sort that puts gold last among equal scores."""
    rows = [(-math.inf if math.isnan(s) else s, g) for s, g, v in zip(scores, gold, valid, strict=True) if v]
    order = sorted(rows, key=lambda row: (-row[0], row[1]))
    return next((place for place, (_, g) in enumerate(order, 1) if g), MISS)


@pytest.mark.parametrize("levels", [1, 3, 1000], ids=["all tie", "many ties", "few ties"])
@pytest.mark.parametrize("with_valid", [False, True])
def test_ranks_equal_those_of_a_sort(levels: int, with_valid: bool) -> None:
    draw = np.random.default_rng(levels)
    scores = draw.integers(0, levels, (300, 12)).astype(np.float32)
    scores[draw.random(scores.shape) < 0.1] = np.nan
    scores[draw.random(scores.shape) < 0.1] = -np.inf
    gold = draw.random(scores.shape) < 0.15
    valid = draw.random(scores.shape) < 0.8 if with_valid else np.ones(scores.shape, bool)
    before = scores.copy()
    ranks = gold_ranks(scores, gold, valid if with_valid else None)
    rows = zip(scores.tolist(), gold.tolist(), valid.tolist(), strict=True)
    assert ranks.tolist() == [worst_rank(*row) for row in rows]
    assert ranks.min() < ranks.max() == MISS
    np.testing.assert_array_equal(scores, before)
