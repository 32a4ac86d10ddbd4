"""Robustness: ranks of the gold of queries with typing errors and in other spellings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.metrics import rank_metrics, recall_at
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.text.perturbations import PERTURBATIONS, perturb

UNCHANGED = "unchanged"
METRICS = ("recall@1", "recall@5", "recall@20", "mrr@5")
BEFORE = "unchanged_recall@1"  # recall@1 of the same queries before the change

Ranks = NDArray[np.int64]
Rows = dict[str, dict[str, float]]  # by kind: number of queries and metrics


def robustness_rows(
    records: Sequence[Record], ranks: Ranks, rank: Callable[[Sequence[Record]], Ranks], candidates: int, seed: int
) -> Rows:
    """Return the number of queries and the metrics of the unchanged queries and of each kind of perturbation.

    Queries that a kind does not change are not in its row. A kind that changes no query has the number 0 and no
    metrics. A query whose gold is not in the table stays a miss.

    Args:
        records: The unchanged queries.
        ranks: The ranks of their gold. Shape: (Q,).
        rank: Returns the ranks of other queries, whose gold is in the table.
        candidates: Number of POIs.
        seed: Random seed of the perturbations.
    """
    out = {UNCHANGED: _row(ranks, ranks, candidates)}
    for kind in PERTURBATIONS:
        texts = [perturb(record.query, kind, seed) for record in records]
        numbers = [i for i, (text, record) in enumerate(zip(texts, records, strict=True)) if text != record.query]
        before = ranks[numbers]
        after, known = np.full(len(numbers), MISS), before != MISS
        if known.any():
            asked = [i for i, is_known in zip(numbers, known, strict=True) if is_known]
            after[known] = rank([replace(records[i], query=texts[i]) for i in asked])
        out[kind] = _row(after, before, candidates)
    return out


def _row(ranks: Ranks, before: Ranks, candidates: int) -> dict[str, float]:
    if not len(ranks):
        return {"n_queries": 0}
    metrics = {name: value for name, value in rank_metrics(ranks, candidates).items() if name in METRICS}
    return {"n_queries": len(ranks)} | metrics | {BEFORE: recall_at(before, 1)}
