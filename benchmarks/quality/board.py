"""Scores become ranks: among all rows of the POI table, and among the candidates of a query's record.

A method scores every query against the board's places: the rows of the table, then candidates that are not in it. Ranks
in the table count its rows alone. Ties never help; rows equal to the gold in text and coordinates are gold.
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

from m3gal_cli.data.records import PoiKey, Record, poi_key
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.geo.coordinates import haversine_m
from m3gal_cli.text.bm25 import LexicalIndex

NEAR_M = 2_000.0  # a place so far away counts 1/e of one on the spot
SHARPNESS = 20.0  # 1 / temperature, to begin with
TIMED = 20  # queries
WEIGHING = {"weights": "likelihood", "near_m": NEAR_M}  # how weights are learned, among the settings of a method
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """What one kind of score found, by test query.

    Args:
        ranks: of the gold in the table. Shape: (Q,).
        rerank: of the gold among the record's candidates, if they were ordered.
        found: the best row of the table, if it is known; of rows that tie, one that is not gold.
        ms: milliseconds a query, if they were measured.
        weights: what was learned on the validation queries.
    """

    ranks: list[int]
    rerank: list[int] | None = None
    found: list[int] | None = None
    ms: float | None = None
    weights: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """What is known."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Board:
    """The places that queries are scored against.

    Args:
        records: the queries. Shape: Q of them.
        pois: the POI table, N rows.
    """

    def __init__(self, records: Sequence[Record], pois: pd.DataFrame) -> None:
        self.records, self.rows = records, len(pois)
        self.texts: list[str] = pois["address"].tolist()
        lng, lat = pois["lng"].tolist(), pois["lat"].tolist()
        places: dict[PoiKey, list[int]] = {}
        for i, key in enumerate(map(poi_key, self.texts, lng, lat)):
            places.setdefault(key, []).append(i)
        for passage in (p for r in records for p in r.passages):
            if passage.key not in places:
                places[passage.key] = [len(self.texts)]
                self.texts.append(passage.text)
                lng.append(passage.lng)
                lat.append(passage.lat)
        self.lng, self.lat = np.array(lng), np.array(lat)
        self.gold = np.zeros((len(records), len(self.texts)), bool)
        for i, record in enumerate(records):
            self.gold[i, [at for key in record.gold for at in places[key]]] = True
        self._candidates = [np.array([places[p.key][0] for p in r.passages]) for r in records]

    @property
    def queries(self) -> list[str]:
        return [r.query for r in self.records]

    def nearness(self) -> Scores:
        """exp(-distance / 2 km) from where each query was typed, 0 where that is unknown. Shape: -> (Q, M)."""
        return np.stack([self.nearness_of(i) for i in range(len(self.records))])

    def nearness_of(self, query: int) -> Scores:
        """The same of one query. Shape: -> (M,)."""
        record = self.records[query]
        if record.lng is None or record.lat is None:
            return np.zeros(len(self.texts))
        return np.exp(-haversine_m(record.lng, record.lat, self.lng, self.lat) / NEAR_M)

    def ranks(self, scores: Scores) -> NDArray[np.int64]:
        """Ranks of the gold in the table. Shape: (Q, M) -> (Q,)."""
        return gold_ranks(scores[:, : self.rows], self.gold[:, : self.rows])

    def rerank(self, scores: Scores) -> NDArray[np.int64]:
        """Ranks of the gold among each record's candidates. Shape: (Q, M) -> (Q,)."""
        pairs = enumerate(self._candidates)
        return np.array([gold_ranks(scores[i : i + 1, own], self.gold[i : i + 1, own])[0] for i, own in pairs])

    def found(self, scores: Scores) -> list[int]:
        """The best row of the table; of rows that tie, one that is not gold. Shape: (Q, M) -> Q numbers."""
        own = scores[:, : self.rows]
        best = own == own.max(axis=1, keepdims=True)
        wrong = best & ~self.gold[:, : self.rows]
        return np.where(wrong.any(axis=1), wrong.argmax(axis=1), best.argmax(axis=1)).tolist()

    def judge(self, scores: Scores, ms: float | None = None, weights: tuple[float, ...] | None = None) -> Row:
        """All that a row tells. Shape: (Q, M)."""
        return Row(self.ranks(scores).tolist(), self.rerank(scores).tolist(), self.found(scores), ms, weights)


def lexical_scores(board: Board, lexical: LexicalIndex) -> Scores:
    """BM25 over character n-grams as a share of the query's best, so that weights mean the same for every query.

    Shape: -> (Q, M).
    """
    scores = np.stack([lexical.scores(query) for query in board.queries]).astype(np.float64)
    return scores / np.maximum(scores.max(axis=1, keepdims=True), 1e-12)


def learn_weights(board: Board, base: Scores, terms: Sequence[Scores]) -> tuple[float, ...]:
    """The weights, from 0, of terms added to ``base`` under which the gold of the board's queries is likeliest.

    Likely is what a softmax over the table says, at the temperature that fits best. This is smooth, so that a few dozen
    queries tell more than by counting ranks: over five folds of BM25 with distance, weights by likelihood vary by a
    fifth and reach more than those by the best mean reciprocal rank.

    Shape: base, terms: (Q, M) each.
    """
    scores = np.stack([base, *terms])[:, :, : board.rows]
    start, lowest = [SHARPNESS, *(0.1 * SHARPNESS for _ in terms)], [(1e-3, None), *((0.0, None) for _ in terms)]
    found = minimize(unlikeliness, start, (scores, board.gold[:, : board.rows]), "L-BFGS-B", True, bounds=lowest)
    return tuple(float(x) for x in found.x[1:] / found.x[0])


def unlikeliness(factors: Scores, scores: Scores, gold: NDArray[np.bool_]) -> tuple[float, Scores]:
    """Mean of -log of the probability of the gold, rows level with it together, and its gradient; convex in factors.

    Shape:
        factors: (T,). scores: (T, Q, N). gold: (Q, N); a query without gold counts for nothing -> scalar, (T,).
    """
    known = gold.any(axis=1)
    scores, gold = scores[:, known], gold[known]
    logits = np.tensordot(factors, scores, 1)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    total, right = weights.sum(axis=1), np.maximum((weights * gold).sum(axis=1), 1e-300)
    off = weights / total[:, None] - weights * gold / right[:, None]
    return float(np.log(total / right).mean()), np.einsum("qn,tqn->t", off, scores) / len(gold)


def weighted(base: Scores, terms: Sequence[Scores], weights: Sequence[float]) -> Scores:
    """``base`` and each term times its weight. Shape: (Q, M) each."""
    out = base.copy()
    for term, weight in zip(terms, weights, strict=True):
        out += weight * term
    return out


def milliseconds(ask: Callable[[int], Any], queries: int) -> float:
    """The median time of one query by itself; the first is asked once before."""
    ask(0)
    taken = []
    for i in range(min(queries, TIMED)):
        began = time.perf_counter()
        ask(i)
        taken.append(time.perf_counter() - began)
    return 1000.0 * statistics.median(taken)
