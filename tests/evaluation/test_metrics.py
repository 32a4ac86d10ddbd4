"""Metrics against values computed by hand, intervals against the normal approximation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.evaluation.metrics import bootstrap_interval, distance_metrics, rank_intervals, rank_metrics
from m3gal_cli.evaluation.ranks import MISS

RANKS = np.array([1, 2, 3, 4, 5, 6, 20, 21, MISS, 1])


def test_rank_metrics_by_hand() -> None:
    expected = {f"recall@{k}": hits / 10 for k, hits in ((1, 2), (3, 4), (5, 6), (10, 7), (20, 8), (100, 9))}
    expected |= {"mrr@1": 0.2, "mrr@3": (1 + 1 / 2 + 1 / 3 + 1) / 10}
    expected["mrr@5"] = (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1) / 10
    gains = [1, 1 / math.log2(3), 1 / math.log2(4), 1 / math.log2(5), 1 / math.log2(6), 1]
    expected["ndcg@5"] = sum(gains) / 10
    assert rank_metrics(RANKS, 1000) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("candidates", "kept"), [(2, []), (10, []), (11, [10]), (101, [10, 20, 100])])
def test_recall_needs_more_candidates_than_k(candidates: int, kept: list[int]) -> None:
    names = [name for name in rank_metrics(RANKS, candidates) if name.startswith("recall")]
    assert names == [f"recall@{k}" for k in (1, 3, 5, *kept)]


def test_distances_by_hand() -> None:
    errors = distance_metrics(np.array([0.0, 100.0, 100.1, 999.0, 1000.0, 1001.0, 5e6, 20.0]))
    assert errors == {"median_error_m": (100.1 + 999.0) / 2, "within_100m": 3 / 8, "within_1km": 6 / 8}


@pytest.mark.parametrize("share", [0.5, 0.1, 0.0])
def test_intervals_against_the_normal_approximation(share: float) -> None:
    values = (np.arange(1000) < 1000 * share).astype(float)
    half = 1.960 * math.sqrt(share * (1 - share) / 1000)
    interval = bootstrap_interval(values, seed=3, resamples=4000)
    assert interval == pytest.approx((share - half, share + half), abs=0.12 * half)
    assert interval == bootstrap_interval(values, seed=3, resamples=4000)


def test_intervals_are_those_of_the_named_metrics() -> None:
    intervals = rank_intervals(RANKS, seed=4)
    for k, hits in ((1, 2), (5, 6), (20, 8)):
        inside = np.isin(np.arange(10), [*range(hits - 1), 9])  # the last query's rank is 1
        assert intervals[f"recall@{k}"] == bootstrap_interval(inside.astype(float), 4)
    reciprocal = np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0, 0, 0, 0, 1])
    assert intervals["mrr@5"] == pytest.approx(bootstrap_interval(reciprocal, 4), rel=1e-12)
    assert set(intervals) == {"recall@1", "recall@5", "recall@20", "mrr@5"}
