"""The result of an evaluation: metrics for each kind of score, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import FAR_M, NEAR_M, Record, query_distances_m
from m3gal_cli.evaluation.calibration import Calibration
from m3gal_cli.evaluation.metrics import distance_metrics, rank_intervals, rank_metrics
from m3gal_cli.evaluation.misses import Miss
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.robustness import Rows

KINDS = ("text", "location", "fused")  # first-stage scores
Matches = Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]  # for each query: rows, best first, and their scores


class QueryResults(NamedTuple):
    """The results of all Q queries by one kind of score."""

    ranks: NDArray[np.int64]  # (Q,), of the gold
    metres: NDArray[np.float64]  # (Q,), from the best match to the nearest positive


@dataclass(frozen=True)
class TopMatches:
    """The best matches of every query, for a run file."""

    matches: Matches
    gold: NDArray[np.int64]  # (G, 2), pairs of query and gold row, ordered by query; the first of duplicates only
    # (Q,), best rows by the reranked score, gold last among equal scores; -1 for a query without candidates.
    reranked_best: NDArray[np.int64] | None = None


@dataclass
class Evaluation:
    """Metrics by kind of score: text, location, fused and, if they are computed, sparse and reranked.

    ``n_candidates`` is the number of POIs of the table (``over_database``), or of the longest candidate set. Slices are
    queries near their gold and far from it: ``slices`` by the fused score, ``reranked_slices`` by the reranked score.
    ``candidates`` is the share of queries with a gold POI among the candidates: dense, sparse and joined.
    ``robustness`` has the metrics of changed queries, by the score that orders answers: reranked, else fused.
    """

    n_queries: int
    n_candidates: int
    over_database: bool
    seconds: float
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]]
    slices: dict[str, dict[str, float]]
    ranks: dict[str, NDArray[np.int64]]
    notes: list[str] = field(default_factory=list)
    top: TopMatches | None = None
    reranked_slices: dict[str, dict[str, float]] = field(default_factory=dict)
    candidates: dict[str, float] = field(default_factory=dict)
    calibration: Calibration | None = None
    robustness: Rows | None = None
    misses: list[Miss] = field(default_factory=list)

    def to_json(self, checkpoint: str) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        out = {
            "checkpoint": checkpoint,
            "n_queries": self.n_queries,
            "n_pois" if self.over_database else "n_candidates": self.n_candidates,
            "seconds": round(self.seconds, 3),
            "metrics": self.metrics,
            "intervals": self.intervals,
            "slices": self.slices,
        }
        if "reranked" in self.metrics:
            out["reranked_slices"] = self.reranked_slices
        if self.candidates:
            out["candidates"] = self.candidates
        if self.calibration is not None:
            out["calibration"] = self.calibration.to_json()
        if self.robustness is not None:
            out["robustness"] = self.robustness
        return out | {"notes": self.notes}


def summarise(
    results: Mapping[str, QueryResults],
    records: Sequence[Record],
    n_candidates: int,
    over_database: bool,
    seconds: float,
    seed: int,
) -> Evaluation:
    """Compute metrics, 95% bootstrap intervals and slices from ranks and distances."""
    ranks = {kind: result.ranks for kind, result in results.items()}
    evaluation = Evaluation(
        len(records),
        n_candidates,
        over_database,
        seconds,
        metrics={kind: rank_metrics(r.ranks, n_candidates) | distance_metrics(r.metres) for kind, r in results.items()},
        intervals={kind: rank_intervals(r, seed) for kind, r in ranks.items()},
        slices=_slices(records, ranks["fused"], n_candidates),
        ranks=ranks,
        reranked_slices=_slices(records, ranks["reranked"], n_candidates) if "reranked" in ranks else {},
    )
    missing = int((ranks["fused"] == MISS).sum())
    if missing:
        evaluation.notes.append(f"{missing} of {len(records)} queries have no gold in the database: counted as misses")
    return evaluation


def _slices(records: Sequence[Record], ranks: NDArray[np.int64], candidates: int) -> dict[str, dict[str, float]]:
    """Return the recall of queries located near their gold, and of queries far from it."""
    metres = query_distances_m(records)
    out: dict[str, dict[str, float]] = {}
    for name, rows in (("within 2 km of the gold", metres <= NEAR_M), ("beyond 10 km of the gold", metres > FAR_M)):
        if rows.any():
            metrics = rank_metrics(ranks[rows], candidates)
            out[name] = {"n_queries": int(rows.sum())} | {k: v for k, v in metrics.items() if k.startswith("recall")}
    return out
