"""Ranks of the gold from score matrices: among all POIs of the table, and among the candidates of each record.

The columns of a score matrix are the rows of the POI table, followed by candidates that the table lacks. Ranks in the
table ignore these. Ties never help; rows equal to the gold in text and coordinates are gold.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

from m3gal_cli.data.duplicates import PlaceKey, place_key
from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.geo.distances import haversine_m
from quality.bm25 import Bm25Index

DISTANCE_SCALE_M = 2_000.0  # the proximity of a POI at this distance is 1/e
INITIAL_SCALE = 20.0  # 1 / temperature at the start of the fit
TIMED_QUERIES = 20
WEIGHT_SETTINGS = {"weights": "likelihood", "near_m": DISTANCE_SCALE_M}  # part of the settings of methods with weights
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreResult:
    """Evaluation of one kind of score; lists are in the order of the test queries.

    Attributes:
        ranks: Rank of the gold in the table, from 1.
        rerank: Rank of the gold among the record's candidates, if these were scored.
        found: Row number of the best POI of the table, if known; among tied rows, one that is not gold.
        ms: Median milliseconds per query, if measured.
        weights: Weights fitted on the validation queries.
    """

    ranks: list[int]
    rerank: list[int] | None = None
    found: list[int] | None = None
    ms: float | None = None
    weights: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the known attributes."""
        return {name: value for name, value in vars(self).items() if value is not None}


class EvaluationSet:
    """Labelled queries and the POIs that they are scored against.

    Args:
        records: Q labelled queries.
        pois: The POI table, N rows. Candidates of the records that it lacks are appended: M POIs in all.
    """

    def __init__(self, records: Sequence[Record], pois: pd.DataFrame) -> None:
        self.records, self.table_rows = records, len(pois)
        self.texts: list[str] = pois["address"].tolist()
        lng, lat = pois["lng"].tolist(), pois["lat"].tolist()
        rows: dict[PlaceKey, list[int]] = {}
        for row, key in enumerate(map(place_key, self.texts, lng, lat)):
            rows.setdefault(key, []).append(row)
        for passage in (p for r in records for p in r.passages):
            if passage.key not in rows:
                rows[passage.key] = [len(self.texts)]
                self.texts.append(passage.text)
                lng.append(passage.lng)
                lat.append(passage.lat)
        self.lng, self.lat = np.array(lng), np.array(lat)
        self.gold = np.zeros((len(records), len(self.texts)), bool)
        for i, record in enumerate(records):
            self.gold[i, [row for key in record.gold for row in rows[key]]] = True
        self._candidates = [np.array([rows[p.key][0] for p in r.passages]) for r in records]

    @property
    def queries(self) -> list[str]:
        """Query texts."""
        return [r.query for r in self.records]

    def proximity(self) -> Scores:
        """Return exp(-distance / 2 km) of each POI to each query location; 0 if that is unknown. Shape: -> (Q, M)."""
        return np.stack([self.proximity_of(i) for i in range(len(self.records))])

    def proximity_of(self, query: int) -> Scores:
        """Return the proximity of each POI to the location of one query. Shape: -> (M,)."""
        record = self.records[query]
        if record.lng is None or record.lat is None:
            return np.zeros(len(self.texts))
        return np.exp(-haversine_m(record.lng, record.lat, self.lng, self.lat) / DISTANCE_SCALE_M)

    def ranks(self, scores: Scores) -> NDArray[np.int64]:
        """Return ranks of the gold in the table. Shape: (Q, M) -> (Q,)."""
        return gold_ranks(scores[:, : self.table_rows], self.gold[:, : self.table_rows])

    def candidate_ranks(self, scores: Scores) -> NDArray[np.int64]:
        """Return ranks of the gold among each record's candidates. Shape: (Q, M) -> (Q,)."""
        pairs = enumerate(self._candidates)
        return np.array([gold_ranks(scores[i : i + 1, own], self.gold[i : i + 1, own])[0] for i, own in pairs])

    def best_rows(self, scores: Scores) -> list[int]:
        """Return the best row of the table per query; among tied rows, one that is not gold. Shape: (Q, M)."""
        own = scores[:, : self.table_rows]
        best = own == own.max(axis=1, keepdims=True)
        wrong = best & ~self.gold[:, : self.table_rows]
        return np.where(wrong.any(axis=1), wrong.argmax(axis=1), best.argmax(axis=1)).tolist()

    def evaluate(
        self, scores: Scores, ms: float | None = None, weights: tuple[float, ...] | None = None
    ) -> ScoreResult:
        """Return ranks and best rows of a score matrix. Shape: (Q, M)."""
        ranks, candidate_ranks = self.ranks(scores).tolist(), self.candidate_ranks(scores).tolist()
        return ScoreResult(ranks, candidate_ranks, self.best_rows(scores), ms, weights)


def bm25_scores(evaluation_set: EvaluationSet, index: Bm25Index) -> Scores:
    """Return BM25 scores divided by the best of each query, so that weights suit all queries. Shape: -> (Q, M)."""
    scores = np.stack([index.scores(query) for query in evaluation_set.queries]).astype(np.float64)
    return scores / np.maximum(scores.max(axis=1, keepdims=True), 1e-12)


def fit_weights(evaluation_set: EvaluationSet, base: Scores, terms: Sequence[Scores]) -> tuple[float, ...]:
    """Fit non-negative weights of terms that are added to ``base``, by maximum likelihood of the gold.

    The likelihood is a softmax over the table with a fitted temperature. It is smooth, so a few dozen queries suffice.
    Over five folds of BM25 with distance these weights vary by a fifth and rank better than weights that maximise MRR.

    Shape:
        base, each term: (Q, M).
    """
    scores = np.stack([base, *terms])[:, :, : evaluation_set.table_rows]
    gold = evaluation_set.gold[:, : evaluation_set.table_rows]
    start = [INITIAL_SCALE, *(0.1 * INITIAL_SCALE for _ in terms)]
    bounds = [(1e-3, None), *((0.0, None) for _ in terms)]
    optimum = minimize(negative_log_likelihood, start, (scores, gold), "L-BFGS-B", True, bounds=bounds)
    return tuple(float(x) for x in optimum.x[1:] / optimum.x[0])


def negative_log_likelihood(factors: Scores, scores: Scores, gold: NDArray[np.bool_]) -> tuple[float, Scores]:
    """Return the mean of -log p(gold) under a softmax of the weighted scores, and its gradient; convex in ``factors``.

    The probabilities of several gold rows are added. Queries without gold are ignored.

    Shape:
        factors: (T,); scores: (T, Q, N); gold: (Q, N) -> scalar, (T,).
    """
    known = gold.any(axis=1)
    scores, gold = scores[:, known], gold[known]
    logits = np.tensordot(factors, scores, 1)
    mass = np.exp(logits - logits.max(axis=1, keepdims=True))
    total, gold_mass = mass.sum(axis=1), np.maximum((mass * gold).sum(axis=1), 1e-300)
    difference = mass / total[:, None] - mass * gold / gold_mass[:, None]
    return float(np.log(total / gold_mass).mean()), np.einsum("qn,tqn->t", difference, scores) / len(gold)


def weighted_sum(base: Scores, terms: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """Return ``base`` plus each term times its weight. Shape: (Q, M) each."""
    return base + sum(weight * term for term, weight in zip(terms, weights, strict=True))


def median_latency_ms(answer: Callable[[int], Any], queries: int) -> float:
    """Return the median milliseconds of answering one query at a time, after one call to warm up."""
    answer(0)
    seconds = []
    for i in range(min(queries, TIMED_QUERIES)):
        start = time.perf_counter()
        answer(i)
        seconds.append(time.perf_counter() - start)
    return 1000.0 * statistics.median(seconds)
