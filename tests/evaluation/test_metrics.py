"""Metrics against values by hand, intervals against the normal approximation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.evaluation import metrics
from m3gal_cli.evaluation.metrics import bootstrap_interval, distance_metrics, rank_intervals, rank_metrics
from m3gal_cli.evaluation.ranks import MISS

RANKS = np.array([1, 2, 3, 4, 5, 6, 20, 21, MISS, 1])


def test_rank_metrics_by_hand() -> None:
    wanted = {"recall@1": 0.2, "recall@3": 0.4, "recall@5": 0.6, "recall@10": 0.7, "recall@20": 0.8, "recall@100": 0.9}
    wanted |= {"mrr@1": 0.2, "mrr@3": (1 + 1 / 2 + 1 / 3 + 1) / 10}
    wanted["mrr@5"] = (1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 5 + 1) / 10
    gains = [1, 1 / math.log2(3), 1 / math.log2(4), 1 / math.log2(5), 1 / math.log2(6), 1]
    wanted["ndcg@5"] = sum(gains) / 10
    assert rank_metrics(RANKS, 1000) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("candidates", "kept"), [(2, []), (10, []), (11, [10]), (20, [10]), (21, [10, 20]), (101, [10, 20, 100])]
)
def test_recall_that_leaves_nothing_out_is_not_told(candidates: int, kept: list[int]) -> None:
    names = [name for name in rank_metrics(RANKS, candidates) if name.startswith("recall")]
    assert names == [f"recall@{k}" for k in (1, 3, 5, *kept)]


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_every_metric_at_every_rank(k: int) -> None:
    for rank in [*range(1, 10), MISS]:
        one, inside = np.array([rank]), rank <= k
        assert metrics.recall_at(one, k) == inside
        assert metrics.mrr_at(one, k) == (1 / rank if inside else 0)
        assert metrics.ndcg_at(one, k) == pytest.approx(1 / math.log2(1 + rank) if inside else 0, rel=1e-15)


def test_distances_by_hand() -> None:
    found = distance_metrics(np.array([0.0, 100.0, 100.1, 999.0, 1000.0, 1001.0, 5e6, 20.0]))
    assert found == {"median_error_m": (100.1 + 999.0) / 2, "within_100m": 3 / 8, "within_1km": 6 / 8}


def test_the_interval_of_a_constant_is_a_point() -> None:
    assert bootstrap_interval(np.full(50, 0.25), seed=1) == (0.25, 0.25)


@pytest.mark.parametrize(("level", "quantile"), [(0.95, 1.960), (0.8, 1.282)])
@pytest.mark.parametrize("share", [0.5, 0.1])
def test_intervals_against_the_normal_approximation(share: float, level: float, quantile: float) -> None:
    values = (np.arange(1000) < 1000 * share).astype(float)
    half = quantile * math.sqrt(share * (1 - share) / 1000)
    low, high = bootstrap_interval(values, seed=3, resamples=4000, level=level)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.12 * half)


def test_seeds() -> None:
    values = np.random.default_rng(1).random(40)
    assert bootstrap_interval(values, 5) == bootstrap_interval(values, 5)
    assert bootstrap_interval(values, 5) != bootstrap_interval(values, 6)


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 200 samples of 60 from a known mean about 190 cover it; 176 is 4 standard deviations and small-sample loss."""
    draw = np.random.default_rng(2)
    covered = 0
    for i in range(200):
        low, high = bootstrap_interval((draw.random(60) < 0.4).astype(float), seed=i, resamples=300)
        covered += low <= 0.4 <= high
    assert 176 <= covered < 200


def test_intervals_are_of_the_metrics_that_they_name() -> None:
    found = rank_intervals(RANKS, seed=4)
    for k, hits in ((1, 2), (5, 6), (20, 8)):
        inside = np.isin(np.arange(10), [*range(hits - 1), 9])  # the last query's rank is 1
        assert found[f"recall@{k}"] == bootstrap_interval(inside.astype(float), 4)
    reciprocal = np.array([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 0, 0, 0, 0, 1])
    assert found["mrr@5"] == pytest.approx(bootstrap_interval(reciprocal, 4), rel=1e-12)
    assert set(found) == {"recall@1", "recall@5", "recall@20", "mrr@5"}
