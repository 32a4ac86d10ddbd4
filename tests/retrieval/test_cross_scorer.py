"""Scores of pairs do not depend on the company they come in."""

from __future__ import annotations

import numpy as np
import pytest
from toy import TEXTS, toy_cross

from m3gal_cli.retrieval.cross import CrossScorer

PAIRS = [(a, " ".join([b] * n)) for a in TEXTS[:3] for b in TEXTS[:4] for n in (1, 3)]


def test_one_by_one_or_together_in_any_order() -> None:
    checkpoint = toy_cross()
    wanted = np.array([CrossScorer(checkpoint).scores([pair])[0] for pair in PAIRS])
    assert np.std(wanted) > 0.01
    order = np.random.default_rng(3).permutation(len(PAIRS))
    for budget in (1, 60, 100_000):
        scorer = CrossScorer(checkpoint, batch_tokens=budget)
        found = scorer.scores(PAIRS)
        assert (found.dtype, found.shape) == (np.float32, (len(PAIRS),))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(scorer.scores([PAIRS[i] for i in order]), wanted[order], atol=1e-5)


def test_equal_pairs_are_read_once_and_get_equal_scores() -> None:
    told: list[tuple[int, int]] = []
    checkpoint = toy_cross()
    checkpoint.model.train()
    scorer = CrossScorer(checkpoint, batch_tokens=40)
    found = scorer.scores([*PAIRS, *PAIRS[::-1], PAIRS[4]], lambda done, total: told.append((done, total)))
    n = len(PAIRS)
    assert (found[:n] == found[n : 2 * n][::-1]).all()
    assert found[-1] == found[4]
    assert told[-1] == (n, n)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert np.array_equal(scorer.scores(PAIRS), found[:n]), "no dropout"


def test_nothing_to_score() -> None:
    assert CrossScorer(toy_cross()).scores([]).shape == (0,)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_is_not_read(pooling: str) -> None:
    """A short pair beside the longest that there is."""
    checkpoint = toy_cross(pooling=pooling)
    short, long = ("north", "mall"), ("north", "harbour street " * 60)
    alone = CrossScorer(checkpoint).scores([short])
    together = CrossScorer(checkpoint, batch_tokens=10_000).scores([short, long])
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
