"""Ranks, proximity, fitted weights and latency, against counts by hand and brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from quality import evaluation_set as module
from quality.bm25 import Bm25Index
from quality.evaluation_set import DISTANCE_SCALE_M, EvaluationSet, negative_log_likelihood

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.geo.distances import METRES_PER_DEGREE

ROWS = [("mill lane 1", 24.0, 60.0), ("mill lane 2", 24.0, 60.1), ("mill lane 1", 24.0, 60.0), ("castle", 25.0, 60.0)]
POIS = pd.DataFrame(ROWS, columns=["address", "lng", "lat"])
MILL, LANE, CASTLE = (Passage(*ROWS[i]) for i in (0, 1, 3))
HARBOUR = Passage("harbour", 26.0, 60.0)  # a candidate that the table lacks
RECORDS = [
    Record("one", [MILL], [LANE, HARBOUR], lng=24.0, lat=60.0),
    Record("two", [CASTLE], [MILL, LANE]),
    Record("three", [LANE], [CASTLE, HARBOUR, LANE], lng=24.0, lat=60.1 + DISTANCE_SCALE_M / METRES_PER_DEGREE),
]


def rank_by_hand(scores: np.ndarray, pois: list[tuple[str, float, float]], gold: Passage) -> int:
    """Return 1 + the number of rows that are not gold and not below the best gold."""
    is_gold = [poi == (gold.text, gold.lng, gold.lat) for poi in pois]
    best = max(score for score, own in zip(scores, is_gold, strict=True) if own)
    return 1 + sum(score >= best and not own for score, own in zip(scores, is_gold, strict=True))


def test_ranks_equal_counts_by_hand() -> None:
    evaluation_set = EvaluationSet(RECORDS, POIS)
    pois = [*ROWS, ("harbour", 26.0, 60.0)]
    assert list(zip(evaluation_set.texts, evaluation_set.lng, evaluation_set.lat, strict=True)) == pois
    generator = np.random.default_rng(0)
    for _ in range(50):
        scores = generator.integers(0, 3, (3, 5)).astype(float)  # many ties
        result = evaluation_set.evaluate(scores)
        assert result.ranks == [rank_by_hand(s[:4], ROWS, r.positives[0]) for s, r in zip(scores, RECORDS, strict=True)]
        for i, record in enumerate(RECORDS):
            candidates = [(p.text, p.lng, p.lat) for p in record.passages]
            own = np.array([scores[i, pois.index(poi)] for poi in candidates])
            assert result.rerank[i] == rank_by_hand(own, candidates, record.positives[0])
            best = result.found[i]
            assert scores[i, best] == scores[i, :4].max()
            assert evaluation_set.gold[i, best] == (result.ranks[i] == 1)


def test_proximity_falls_with_distance_and_is_zero_without_a_query_location() -> None:
    proximity = EvaluationSet(RECORDS, POIS).proximity()
    assert proximity[0, 0] == proximity[0, 2] == pytest.approx(1.0)
    assert proximity[0, 1] == pytest.approx(math.exp(-0.1 * METRES_PER_DEGREE / DISTANCE_SCALE_M), rel=1e-6)
    assert (proximity[1] == 0).all()
    assert proximity[2, 1] == pytest.approx(math.exp(-1), rel=1e-6)


def test_bm25_scores_are_divided_by_the_best_of_the_query() -> None:
    evaluation_set = EvaluationSet([Record("mill lane", [MILL], []), Record("???", [MILL], [])], POIS)
    index = Bm25Index(evaluation_set.texts)
    scores, raw = module.bm25_scores(evaluation_set, index), index.scores("mill lane")
    np.testing.assert_allclose(scores[0], raw / raw.max(), rtol=1e-6)
    assert (scores[1] == 0).all()  # punctuation only


def test_negative_log_likelihood_and_gradient_equal_hand_and_finite_differences() -> None:
    scores = np.array([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0], [3.0, 0.0, 0.0]]])
    gold = np.array([[False, True, True], [False, False, False]])  # the second query has no gold
    factors = np.array([2.0, 0.5])
    value, gradient = negative_log_likelihood(factors, scores, gold)
    assert value == pytest.approx(-math.log(2 * math.exp(4.5) / (2 * math.exp(4.5) + math.exp(2))))
    for i, step in enumerate(np.eye(2) * 1e-6):
        upper, lower = (negative_log_likelihood(factors + sign * step, scores, gold)[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((upper - lower) / 2e-6, abs=1e-7)


def test_fitted_weights_maximise_the_likelihood() -> None:
    generator = np.random.default_rng(1)
    rows = [(f"place {i}", 24.0 + i / 100, 60.0) for i in range(12)]
    pois = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    evaluation_set = EvaluationSet([Record(f"q{i}", [Passage(*rows[i % 12])], []) for i in range(60)], pois)
    gold = evaluation_set.gold
    base, good, bad = (sign * 0.3 * gold + 0.3 * generator.normal(size=gold.shape) for sign in (1, 1, -1))
    weight, zero = module.fit_weights(evaluation_set, base, [good, bad])
    assert zero == 0.0
    grid = product(np.linspace(1, 12, 45), np.linspace(0.2, 2, 46))
    stacked = np.stack([base, good])
    _, best = min((negative_log_likelihood(np.array([a, a * w]), stacked, gold)[0], w) for a, w in grid)
    assert weight == pytest.approx(best, abs=0.05)
    np.testing.assert_allclose(module.weighted_sum(base, [good, bad], (weight, 2.0)), base + weight * good + 2 * bad)
    ranks = [evaluation_set.ranks(scores) for scores in (base + weight * good, base)]
    assert (1 / ranks[0]).mean() > (1 / ranks[1]).mean()
