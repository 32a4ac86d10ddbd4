"""Candidate sets: order the candidates of each query."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import PoiKey, Record
from m3gal_cli.evaluation.hybrid import first_of_each, hybrid_of, query_of
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.result import Evaluation, RowScores, best_match_m, summarise
from m3gal_cli.retrieval.cross import CrossScorer
from m3gal_cli.retrieval.embed import Embedder, Progress
from m3gal_cli.retrieval.evidence import Candidates
from m3gal_cli.retrieval.hybrid import Weights
from m3gal_cli.retrieval.lexical import LexicalIndex


def rerank_scores(
    records: Sequence[Record], embedder: Embedder, max_words: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Scores of every candidate, positives first, -inf behind the last one of a shorter list.

    Equal candidates get bit-equal scores: texts and places are encoded once each, and products are summed row by row.

    Args:
        max_words: characters at which queries and passages are cut (published: 64).

    Shape:
        -> text, location, fused: (Q, C), C the longest list.
    """
    passages = [p for r in records for p in r.passages]
    query = embedder.queries([r.query[:max_words] for r in records])
    text = embedder.poi_texts([p.text[:max_words] for p in passages])
    place = embedder.locations([p.lng for p in passages], [p.lat for p in passages])
    counts = np.array([len(r.passages) for r in records])
    starts = np.concatenate([[0], np.cumsum(counts)])
    out = {kind: np.full((len(records), counts.max()), -np.inf, np.float32) for kind in ("text", "location", "fused")}
    for i in range(len(records)):
        rows = slice(starts[i], starts[i + 1])
        out["text"][i, : counts[i]] = (text[rows] * query[i]).sum(axis=1)
        out["location"][i, : counts[i]] = (place[rows] * query[i]).sum(axis=1)
    out["fused"] = out["text"] + out["location"]
    return out


def cross_scores(
    records: Sequence[Record], scorer: CrossScorer, max_words: int | None = None, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Scores of every candidate by a cross-encoder, as ``rerank_scores`` has them. Shape: -> (Q, C)."""
    counts = np.array([len(r.passages) for r in records])
    pairs = [(r.query[:max_words], p.text[:max_words]) for r in records for p in r.passages]
    out = np.full((len(records), counts.max()), -np.inf, np.float32)
    out[np.arange(counts.max()) < counts[:, None]] = scorer.scores(pairs, progress)
    return out


def evaluate_rerank(
    records: Sequence[Record],
    embedder: Embedder,
    max_words: int | None = None,
    bm25: bool = False,
    seed: int = 0,
    hybrid: Weights | None = None,
    scorer: CrossScorer | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Metrics over candidate sets. A candidate that equals a positive in text and coordinates is gold.

    Args:
        max_words: characters at which queries and passages are cut.
        bm25: add a row ``bm25``.
        seed: of the bootstrap.
        hybrid: adds a row ``hybrid``, by these weights.
        scorer: adds a row ``cross``; ``progress`` is told how many pairs it has read.
    """
    began = time.perf_counter()
    scores: dict[str, NDArray[Any]] = dict(rerank_scores(records, embedder, max_words))
    if scorer is not None:
        scores["cross"] = cross_scores(records, scorer, max_words, progress)
    if bm25:
        scores["bm25"] = _bm25_scores(records, scores["text"].shape)
    if hybrid is not None:
        scores["hybrid"] = _hybrid_scores(records, scores["fused"], hybrid)
    return _judged(records, scores, began, seed)


def evaluate_cross(
    records: Sequence[Record], scorer: CrossScorer, max_words: int | None = None, seed: int = 0
) -> Evaluation:
    """The row ``cross`` alone (see ``evaluate_rerank``)."""
    began = time.perf_counter()
    return _judged(records, {"cross": cross_scores(records, scorer, max_words)}, began, seed)


def _judged(records: Sequence[Record], scores: dict[str, NDArray[Any]], began: float, seed: int) -> Evaluation:
    width = next(iter(scores.values())).shape[1]
    gold = np.zeros((len(records), width), bool)
    valid = np.zeros((len(records), width), bool)
    for i, record in enumerate(records):
        wanted = record.gold
        gold[i, : len(record.passages)] = [p.key in wanted for p in record.passages]
        valid[i, : len(record.passages)] = True
    places = [np.array([(p.lng, p.lat) for p in r.passages], np.float64) for r in records]
    rows = {}
    for kind, table in scores.items():
        metres = [best_match_m(r, t[: len(p)], *p.T) for r, t, p in zip(records, table, places, strict=True)]
        rows[kind] = RowScores([gold_ranks(table, gold, valid)], [np.array(metres)])
    return summarise(rows, records, width, False, time.perf_counter() - began, seed)


def _hybrid_scores(records: Sequence[Record], fused: NDArray[np.float32], weights: Weights) -> NDArray[np.float64]:
    """Candidates that are one place are one candidate, as in an index, and share its score. Shape: -> (Q, C)."""
    passages = [(p.text, p.lng, p.lat) for r in records for p in r.passages]
    hybrid = hybrid_of(weights, pd.DataFrame(passages, columns=["address", "lng", "lat"]))
    out = np.full(fused.shape, -np.inf)
    for i, record in enumerate(records):
        seen: dict[PoiKey, int] = {}
        own, place = first_of_each(np.array([seen.setdefault(p.key, c) for c, p in enumerate(record.passages)]))
        distinct = [record.passages[c] for c in own]
        lng, lat = np.array([(p.lng, p.lat) for p in distinct], np.float64).T
        found = Candidates([p.text for p in distinct], fused[i, own], lng, lat)
        out[i, : len(place)] = hybrid.scores(query_of(record), found)[place]
    return out


def _bm25_scores(records: Sequence[Record], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """BM25 with the document frequencies of all distinct candidates. Shape: (Q, C)."""
    index: dict[str, int] = {}
    columns = [[index.setdefault(p.text, len(index)) for p in r.passages] for r in records]
    lexical = LexicalIndex(list(index))
    out = np.full(shape, -np.inf, np.float32)
    for i, record in enumerate(records):
        out[i, : len(columns[i])] = lexical.scores(record.query)[columns[i]]
    return out
