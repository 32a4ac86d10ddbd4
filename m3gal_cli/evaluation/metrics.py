"""Metrics of ranks (from 1; see ``ranks``) and of the distance between the best match and the gold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 3, 5, 10, 20, 100)
MRR_AT = (1, 3, 5)
NDCG_AT = 5

Ranks = NDArray[np.int64]


def recall_at(ranks: Ranks, k: int) -> float:
    """Return the share of queries with a gold POI among the first k (hit rate). Shape: (Q,)."""
    return float((ranks <= k).mean())


def mrr_at(ranks: Ranks, k: int) -> float:
    """Return the mean of 1/rank, 0 beyond k. Shape: (Q,)."""
    return float(np.where(ranks <= k, 1.0 / ranks, 0.0).mean())


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Return the mean of 1/log2(1 + rank), 0 beyond k: NDCG with one relevant POI per query. Shape: (Q,)."""
    return float(np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks.astype(np.float64)), 0.0).mean())


def metric_names(candidates: int | None = None) -> list[str]:
    """Return the names of the metrics for this number of candidates; None: the names of all metrics."""
    names = rank_metrics(np.ones(1, np.int64), max(RECALL_AT) + 1 if candidates is None else candidates)
    return [*names, *distance_metrics(np.ones(1))]


def rank_metrics(ranks: Ranks, candidates: int) -> dict[str, float]:
    """Return all rank metrics. Recall@k beyond k = 5 needs more than k candidates per query. Shape: (Q,)."""
    cutoffs = [k for k in RECALL_AT if k <= 5 or k < candidates]
    out = {f"recall@{k}": recall_at(ranks, k) for k in cutoffs}
    out |= {f"mrr@{k}": mrr_at(ranks, k) for k in MRR_AT}
    return out | {f"ndcg@{NDCG_AT}": ndcg_at(ranks, NDCG_AT)}


def distance_metrics(metres: NDArray[np.float64]) -> dict[str, float]:
    """Return the median error of the best match, and the shares within 100 m and 1 km. Shape: (Q,), metres."""
    return {
        "median_error_m": float(np.median(metres)),
        "within_100m": float((metres <= 100.0).mean()),
        "within_1km": float((metres <= 1000.0).mean()),
    }


def bootstrap_interval(values: NDArray[np.floating], seed: int, resamples: int = 1000) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of a mean over queries (Efron 1979). Shape: (Q,)."""
    generator = np.random.default_rng(seed)
    count = len(values)
    means = np.empty(resamples)
    for i in range(resamples):  # one resample at a time needs memory for Q numbers only
        means[i] = values[generator.integers(0, count, count)].mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def rank_intervals(ranks: Ranks, seed: int) -> dict[str, tuple[float, float]]:
    """Return 95% bootstrap intervals of recall@1, 5, 20 and mrr@5. Shape: (Q,)."""
    out = {f"recall@{k}": bootstrap_interval((ranks <= k).astype(np.float64), seed) for k in (1, 5, 20)}
    out["mrr@5"] = bootstrap_interval(np.where(ranks <= 5, 1.0 / ranks, 0.0), seed)
    return out
