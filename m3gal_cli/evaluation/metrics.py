"""Metrics over ranks and over the distance between the best match and the gold. Pure functions, numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECALL_AT = (1, 3, 5, 10, 20, 100)
MRR_AT = (1, 3, 5)
NDCG_AT = 5

Ranks = NDArray[np.int64]


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of queries whose gold is among the first k (hit@k). Shape: (Q,)."""
    return float((ranks <= k).mean())


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean of 1/rank, 0 beyond k. Shape: (Q,)."""
    return float(np.where(ranks <= k, 1.0 / ranks, 0.0).mean())


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Mean of 1/log2(1 + rank), 0 beyond k: NDCG with one relevant place a query. Shape: (Q,)."""
    return float(np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks.astype(np.float64)), 0.0).mean())


def metric_names(candidates: int | None = None) -> list[str]:
    """Names of the metrics over so many candidates; None: over however many."""
    some = rank_metrics(np.ones(1, np.int64), max(RECALL_AT) + 1 if candidates is None else candidates)
    return [*some, *distance_metrics(np.ones(1))]


def rank_metrics(ranks: Ranks, candidates: int) -> dict[str, float]:
    """All rank metrics; recall@k only for k that leave something out (k < ``candidates``), and always for 1, 3, 5."""
    kept = [k for k in RECALL_AT if k <= 5 or k < candidates]
    out = {f"recall@{k}": recall_at(ranks, k) for k in kept}
    out |= {f"mrr@{k}": mrr_at(ranks, k) for k in MRR_AT}
    return out | {f"ndcg@{NDCG_AT}": ndcg_at(ranks, NDCG_AT)}


def distance_metrics(metres: NDArray[np.float64]) -> dict[str, float]:
    """What map people ask of the best match: median error and shares within 100 m and 1 km. Shape: (Q,) metres."""
    return {
        "median_error_m": float(np.median(metres)),
        "within_100m": float((metres <= 100.0).mean()),
        "within_1km": float((metres <= 1000.0).mean()),
    }


def bootstrap_interval(
    values: NDArray[np.floating], seed: int, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over queries (Efron 1979). Shape: (Q,)."""
    generator = np.random.default_rng(seed)
    count = len(values)
    means = np.empty(resamples)
    for i in range(resamples):  # one resample at a time keeps memory at Q
        means[i] = values[generator.integers(0, count, count)].mean()
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def rank_intervals(ranks: Ranks, seed: int) -> dict[str, tuple[float, float]]:
    """95% bootstrap intervals of recall@1, 5, 20 and mrr@5."""
    out = {f"recall@{k}": bootstrap_interval((ranks <= k).astype(np.float64), seed) for k in (1, 5, 20)}
    out["mrr@5"] = bootstrap_interval(np.where(ranks <= 5, 1.0 / ranks, 0.0), seed)
    return out
