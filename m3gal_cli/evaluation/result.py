"""What an evaluation found: one row of metrics a kind of score, with its JSON form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import FAR_M, NEAR_M, Record, typed_m
from m3gal_cli.evaluation.metrics import distance_metrics, rank_intervals, rank_metrics
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.geo.coordinates import haversine_m

KINDS = ("text", "location", "fused")


@dataclass
class RowScores:
    """Ranks of the gold, and metres from the best match to the nearest gold, of every query, by one kind of score."""

    ranks: list[NDArray[np.int64]] = field(default_factory=list)
    metres: list[NDArray[np.float64]] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """The best matches of every query, for a run file.

    Args:
        matches: by query: rows of the POI table, best first, and their scores.
        gold: (G, 2) pairs of query and row that are gold, by query; of rows that are one place, the first alone.
        hybrid: (Q,) best row of each query by the hybrid score, of rows that tie one that is not gold; None without it.
    """

    matches: list[tuple[NDArray[np.int64], NDArray[np.float64]]]
    gold: NDArray[np.int64]
    reranker: NDArray[np.int64] | None = None


@dataclass
class Evaluation:
    """Metrics by kind of score: text, location, fused and, where asked for, bm25 and hybrid.

    Slices are of the fused score, or of the only one; ``hybrid_slices`` of the hybrid one, where there is one.
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
    found: Found | None = None
    reranked_slices: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_json(self, checkpoint: str) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        out: dict[str, Any] = {"checkpoint": checkpoint}
        out["n_queries"] = self.n_queries
        out["n_pois" if self.over_database else "n_candidates"] = self.n_candidates
        out |= {"seconds": round(self.seconds, 3), "metrics": self.metrics, "intervals": self.intervals}
        out["slices"] = self.slices
        return (
            out
            | ({"reranked_slices": self.reranked_slices} if "reranked" in self.metrics else {})
            | {"notes": self.notes}
        )


def summarise(
    rows: dict[str, RowScores],
    records: Sequence[Record],
    n_candidates: int,
    over_database: bool,
    seconds: float,
    seed: int,
) -> Evaluation:
    """Metrics, 95% bootstrap intervals and slices from ranks and distances."""
    ranks = {kind: np.concatenate(row.ranks) for kind, row in rows.items()}
    metrics = {
        kind: rank_metrics(ranks[kind], n_candidates) | distance_metrics(np.concatenate(row.metres))
        for kind, row in rows.items()
    }
    intervals = {kind: rank_intervals(r, seed) for kind, r in ranks.items()}
    of = ranks["fused" if "fused" in ranks else next(iter(ranks))]
    evaluation = Evaluation(
        len(records),
        n_candidates,
        over_database,
        seconds,
        metrics,
        intervals,
        _slices(records, of, n_candidates),
        ranks,
    )
    if "reranked" in ranks:
        evaluation.reranked_slices = _slices(records, ranks["reranked"], n_candidates)
    missing = int((of == MISS).sum())
    if missing:
        evaluation.notes.append(f"{missing} of {len(records)} queries have no gold in the database: counted as misses")
    return evaluation


def _slices(records: Sequence[Record], ranks: NDArray[np.int64], candidates: int) -> dict[str, dict[str, float]]:
    """Metrics of queries typed near their gold and far from it, where records say where they were typed."""
    own = typed_m(records)
    chosen = {"within 2 km of the gold": own <= NEAR_M, "beyond 10 km of the gold": own > FAR_M}
    out: dict[str, dict[str, float]] = {}
    for name, rows in chosen.items():
        if rows.any():
            found = rank_metrics(ranks[rows], candidates)
            out[name] = {"n_queries": int(rows.sum())} | {k: v for k, v in found.items() if k.startswith("recall")}
    return out


def best_match_m(
    record: Record, scores: NDArray[np.floating], lng: NDArray[np.float64], lat: NDArray[np.float64]
) -> float:
    """Metres from the best match to the nearest positive; of matches that tie, the farthest: ties never help.

    Shape:
        scores, lng, lat (degrees): (N,), of the candidates of one record.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    tied = scores == scores.max()
    metres = [haversine_m(lng[tied], lat[tied], p.lng, p.lat) for p in record.positives]
    return float(np.min(metres, axis=0).max())
