"""Candidate-set evaluation: rank the candidates of each record."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.duplicates import PlaceKey
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.protocol import Encoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.leakage import leakage_notes
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.result import Evaluation, QueryResults, summarise
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable, query_of
from m3gal_cli.matching.candidates import CandidateRows
from m3gal_cli.rerank.weights import RerankerWeights


def rerank_scores(
    records: Sequence[Record], encoder: Encoder, max_chars: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the scores of every candidate, positives first, padded with -inf.

    Equal candidates get bit-equal scores: each distinct text and location is encoded once, and products are summed row
    by row.

    Args:
        records: Labelled queries.
        encoder: The model.
        max_chars: Number of characters to which queries and passages are cut (published code: 64).

    Shape:
        -> text, location, fused: (Q, C), C the longest list of candidates.
    """
    passages = [p for r in records for p in r.passages]
    query = encoder.encode_queries([r.query[:max_chars] for r in records])
    text = encoder.encode_poi_texts([p.text[:max_chars] for p in passages])
    location = encoder.encode_locations([p.lng for p in passages], [p.lat for p in passages])
    counts = [len(r.passages) for r in records]
    starts = np.cumsum([0, *counts])
    out = {kind: np.full((len(records), max(counts)), -np.inf, np.float32) for kind in ("text", "location")}
    for i, count in enumerate(counts):
        rows = slice(starts[i], starts[i + 1])
        out["text"][i, :count] = (text[rows] * query[i]).sum(axis=1)
        out["location"][i, :count] = (location[rows] * query[i]).sum(axis=1)
    return out | {"fused": out["text"] + out["location"]}


def require_negatives(records: Sequence[Record]) -> None:
    """Raise InputError if no record has a candidate that is not gold: every rank would be 1."""
    if _without_negatives(records) == len(records):
        hint = "Give records with negative passages, or use eval-retrieval, which needs none."
        raise InputError("no record has a negative passage, so there is nothing to rank", hint=hint)


def evaluate_rerank(
    records: Sequence[Record],
    encoder: Encoder,
    max_chars: int | None = None,
    sparse: bool = False,
    seed: int = 0,
    reranker: RerankerWeights | None = None,
    training_records: Sequence[Record] = (),
) -> Evaluation:
    """Compute metrics over candidate sets. A candidate with the place key of a positive is gold.

    Args:
        records: Labelled queries.
        encoder: The model.
        max_chars: Number of characters to which queries and passages are cut.
        sparse: Add the sparse scores.
        seed: Random seed of the bootstrap.
        reranker: Weights of the reranker; adds the reranked scores.
        training_records: Training records of the run, to find leaked queries.
    """
    began = time.perf_counter()
    scores: dict[str, NDArray[Any]] = dict(rerank_scores(records, encoder, max_chars))
    fused = scores["fused"]
    if sparse or reranker is not None:
        passages = _Passages(records)
        sparse_scores = passages.sparse_scores(fused.shape)
    if sparse:
        scores["sparse"] = sparse_scores
    if reranker is not None:
        scores["reranked"] = passages.reranked_scores(fused, sparse_scores, reranker)
    results = _results(records, scores)
    evaluation = summarise(results, records, fused.shape[1], False, time.perf_counter() - began, seed)
    without = _without_negatives(records)
    if without:
        note = f"{without:,} of {len(records):,} records have no negative passage: their ranks are always 1"
        evaluation.notes.append(note)
    evaluation.notes += leakage_notes(records, training_records)
    return evaluation


def _without_negatives(records: Sequence[Record]) -> int:
    """Return the number of records that have gold candidates only."""
    return sum({p.key for p in r.negatives} <= r.gold for r in records)


def _results(records: Sequence[Record], scores: dict[str, NDArray[Any]]) -> dict[str, QueryResults]:
    """Return ranks and distances by kind of score. Shape: scores: (Q, C) each."""
    gold, valid = np.zeros(scores["fused"].shape, bool), np.zeros(scores["fused"].shape, bool)
    for i, record in enumerate(records):
        positives, count = record.gold, len(record.passages)
        gold[i, :count], valid[i, :count] = [p.key in positives for p in record.passages], True
    out = {}
    for kind, table in scores.items():
        metres = [best_match_m(record, row) for record, row in zip(records, table, strict=True)]
        out[kind] = QueryResults(gold_ranks(table, gold, valid), np.array(metres))
    return out


def best_match_m(record: Record, scores: NDArray[np.floating]) -> float:
    """Return the metres from the best candidate to the nearest positive; among equal scores the farthest counts."""
    scores = np.where(np.isnan(scores), -np.inf, scores)[: len(record.passages)]
    lng, lat = np.array([(p.lng, p.lat) for p in record.passages])[scores == scores.max()].T
    return float(np.min([haversine_m(lng, lat, p.lng, p.lat) for p in record.positives], axis=0).max())


class _Passages:
    """The passages of all records as a POI table; equal places are duplicates."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        passages = [p for r in records for p in r.passages]
        first_of: dict[PlaceKey, int] = {}
        self._numbers = np.array([first_of.setdefault(p.key, row) for row, p in enumerate(passages)])
        lng, lat = np.array([(p.lng, p.lat) for p in passages]).T
        is_first = self._numbers == np.arange(len(passages))
        self._table = SparseTable.of([p.text for p in passages], lng, lat, is_first)

    def sparse_scores(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the sparse scores of every candidate. Shape: -> (Q, C)."""
        out, searcher = np.full(shape, -np.inf, np.float32), self._table.searcher
        for i, rows in enumerate(self._rows()):
            out[i, : len(rows)] = searcher.scores(searcher.query(self._records[i].query), rows)
        return out

    def reranked_scores(
        self, fused: NDArray[np.float32], sparse: NDArray[np.float32], weights: RerankerWeights
    ) -> NDArray[np.float64]:
        """Return the logits of every candidate; duplicates of a record share theirs. Shape: -> (Q, C)."""
        reranker = weights.reranker(self._table.frequencies)
        table, out = CandidateTable.of_table(self._table), np.full(fused.shape, -np.inf)
        for i, rows in enumerate(self._rows()):
            found = CandidateRows(rows, fused[i, : len(rows)], sparse[i, : len(rows)])
            reranked = table.rerank(reranker, query_of(self._records[i]), found, self._numbers[rows])
            out[i, : len(rows)] = reranked.logits
        return out

    def _rows(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of the candidates of each record."""
        start = 0
        for record in self._records:
            yield np.arange(start, start + len(record.passages))
            start += len(record.passages)
