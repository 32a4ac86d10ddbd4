"""Candidate sets: order the candidates of each query."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import PoiKey, Record
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.reranked import first_of_each, query_of, reranker_of
from m3gal_cli.evaluation.result import Evaluation, RowScores, best_match_m, summarise
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import RerankerWeights
from m3gal_cli.text.bm25 import LexicalIndex


def rerank_scores(
    records: Sequence[Record], encoder: TorchEncoder, max_chars: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Scores of every candidate, positives first, -inf behind the last one of a shorter list.

    Equal candidates get bit-equal scores: texts and places are encoded once each, and products are summed row by row.

    Args:
        max_words: characters at which queries and passages are cut (published: 64).

    Shape:
        -> text, location, fused: (Q, C), C the longest list.
    """
    passages = [p for r in records for p in r.passages]
    query = encoder.queries([r.query[:max_chars] for r in records])
    text = encoder.poi_texts([p.text[:max_chars] for p in passages])
    place = encoder.locations([p.lng for p in passages], [p.lat for p in passages])
    counts = np.array([len(r.passages) for r in records])
    starts = np.concatenate([[0], np.cumsum(counts)])
    out = {kind: np.full((len(records), counts.max()), -np.inf, np.float32) for kind in ("text", "location", "fused")}
    for i in range(len(records)):
        rows = slice(starts[i], starts[i + 1])
        out["text"][i, : counts[i]] = (text[rows] * query[i]).sum(axis=1)
        out["location"][i, : counts[i]] = (place[rows] * query[i]).sum(axis=1)
    out["fused"] = out["text"] + out["location"]
    return out


def evaluate_rerank(
    records: Sequence[Record],
    encoder: TorchEncoder,
    max_chars: int | None = None,
    bm25: bool = False,
    seed: int = 0,
    reranker: RerankerWeights | None = None,
) -> Evaluation:
    """Metrics over candidate sets. A candidate that equals a positive in text and coordinates is gold.

    Args:
        max_words: characters at which queries and passages are cut.
        bm25: add a row ``bm25``.
        seed: of the bootstrap.
        hybrid: adds a row ``hybrid``, by these weights.
    """
    began = time.perf_counter()
    scores: dict[str, NDArray[Any]] = dict(rerank_scores(records, encoder, max_chars))
    if bm25:
        scores["bm25"] = _bm25_scores(records, scores["text"].shape)
    if reranker is not None:
        scores["reranked"] = _hybrid_scores(records, scores["fused"], reranker)
    return _judged(records, scores, began, seed)


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


def _hybrid_scores(
    records: Sequence[Record], fused: NDArray[np.float32], weights: RerankerWeights
) -> NDArray[np.float64]:
    """Candidates that are one place are one candidate, as in an index, and share its score. Shape: -> (Q, C)."""
    passages = [(p.text, p.lng, p.lat) for r in records for p in r.passages]
    reranker = reranker_of(weights, pd.DataFrame(passages, columns=["address", "lng", "lat"]))
    out = np.full(fused.shape, -np.inf)
    for i, record in enumerate(records):
        seen: dict[PoiKey, int] = {}
        own, place = first_of_each(np.array([seen.setdefault(p.key, c) for c, p in enumerate(record.passages)]))
        distinct = [record.passages[c] for c in own]
        lng, lat = np.array([(p.lng, p.lat) for p in distinct], np.float64).T
        found = Candidates([p.text for p in distinct], fused[i, own], lng, lat)
        out[i, : len(place)] = reranker.scores(query_of(record), found)[place]
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
