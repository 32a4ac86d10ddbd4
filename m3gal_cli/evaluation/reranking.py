"""Reranking of the candidates of every query in the full-database evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from m3gal_cli.data.duplicates import first_occurrences
from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.calibration import Confidences
from m3gal_cli.evaluation.rank_counting import Floats, GroundTruth, Numbers
from m3gal_cli.evaluation.ranks import MISS, gold_ranks
from m3gal_cli.evaluation.result import QueryResults
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable, Reranked, query_of
from m3gal_cli.matching.candidates import CandidateRows
from m3gal_cli.rerank.features import FeatureContext, compute
from m3gal_cli.rerank.features.query_terms import QueryTerms
from m3gal_cli.rerank.shortlist import shortlist
from m3gal_cli.rerank.weights import RerankerWeights


class FusedResults(NamedTuple):
    """The results by fused score."""

    results: QueryResults
    best_gold: Floats  # (Q,), score of the best gold row; -inf without gold


class TableReranker:
    """Reranks candidates in a table.

    Args:
        table: The POI table, in which the first of duplicates are live.
        first_rows: The first duplicate of each row. Shape: (N,).
        weights: Weights of the reranker.
    """

    def __init__(self, table: SparseTable, first_rows: Numbers, weights: RerankerWeights) -> None:
        self._frequencies, self._first_rows = table.frequencies, first_rows
        self._table, self._reranker = CandidateTable.of_table(table), weights.reranker(table.frequencies)

    def score(self, record: Record, found: CandidateRows) -> Reranked:
        """Score the candidates of a query, at least one. Duplicates are one candidate, as in an index."""
        return self._table.rerank(self._reranker, query_of(record), found, self._first_rows[found.rows])

    def features(self, record: Record, found: CandidateRows, rows: Numbers) -> Floats:
        """Return the scaled features of some candidates of a query, inside the shortlist or not.

        Args:
            record: The query.
            found: Its candidates.
            rows: The first rows of the POIs.

        Shape:
            rows: (m,) -> (m, F).
        """
        numbers = self._first_rows[found.rows]
        first, _ = first_occurrences(numbers)
        candidates, query = self._table.candidates(found.take(first)), query_of(record)
        text = QueryTerms(query.text, self._frequencies)
        context = FeatureContext(query, text, candidates)
        listed = shortlist(context).positions
        wanted = np.flatnonzero(np.isin(numbers[first], rows))
        chosen = np.union1d(listed, wanted)  # some features depend on the words of all scored candidates
        values = compute(context.take(chosen))
        position = {row: at for at, row in enumerate(numbers[first[chosen]].tolist())}
        return values[[position[row] for row in rows.tolist()]]


class RerankedQueries(NamedTuple):
    """The reranked candidates of every query."""

    results: QueryResults
    ordered: list[tuple[Numbers, Floats]]  # rows and logits, best first; gold last among equals
    probabilities: list[Floats]  # of the ordered rows


def rerank_matches(
    records: Sequence[Record],
    found: Sequence[CandidateRows],
    truth: GroundTruth,
    fused: FusedResults,
    reranker: TableReranker,
    progress: Callable[[int], None],
) -> RerankedQueries:
    """Rerank the candidates of every query.

    POIs that are no candidates follow in their fused order. Duplicates are one candidate, as in an index, but each row
    counts for the ranks, as for the other kinds of score. Gold is last among equal scores. A query without candidates
    keeps its fused rank and distance.

    Args:
        records: The queries.
        found: The candidates of each query.
        truth: The gold.
        fused: Ranks, distances and best gold scores by fused score.
        reranker: The reranker.
        progress: Called with the number of queries done.
    """
    ranks, metres = fused.results.ranks.copy(), fused.results.metres.copy()
    out = RerankedQueries(QueryResults(ranks, metres), [], [])
    for i, record in enumerate(records):
        rows, scores, chances = found[i].rows, found[i].scores, np.zeros(0)
        if len(rows):
            below = int(np.count_nonzero(scores < fused.best_gold[i]))
            scores, chances = reranker.score(record, found[i])[:2]
            is_gold = truth.gold.contain(np.full(len(rows), i), rows)
            if is_gold.any():
                ranks[i] = gold_ranks(scores[None], is_gold[None])[0]
            elif ranks[i] != MISS:
                ranks[i] += below  # candidates of the sparse search that come before the gold now
            best = rows[scores == scores.max()]
            metres[i] = truth.metres(np.full(len(best), i), best).max()
            order = np.lexsort((is_gold, -scores))
            rows, scores, chances = rows[order], scores[order], chances[order]
        out.ordered.append((rows, np.asarray(scores, np.float64)))
        out.probabilities.append(chances)
        progress(i + 1)
    return out


def confidences(
    records: Sequence[Record],
    found: Sequence[CandidateRows],
    truth: GroundTruth,
    reranked: RerankedQueries,
    reranker: TableReranker,
    progress: Callable[[int], None],
) -> Confidences:
    """Return the confidence of the first answer to every query, and once more without the gold.

    A query whose gold is in the table counts twice: with all candidates, and as unanswerable with its gold rows taken
    out of them. See ``rerank_matches`` for the arguments.
    """
    values: list[tuple[float, bool, bool]] = []  # confidence, right, answerable
    for i, record in enumerate(records):
        rank = reranked.results.ranks[i]
        values.append((float(reranked.probabilities[i].max(initial=0.0)), bool(rank == 1), bool(rank != MISS)))
        if rank != MISS:
            others = np.flatnonzero(~truth.gold.contain(np.full(len(found[i].rows), i), found[i].rows))
            chances = reranker.score(record, found[i].take(others)).probabilities if len(others) else np.zeros(0)
            values.append((float(chances.max(initial=0.0)), False, False))
        progress(i + 1)
    confidence, right, answerable = (np.array(part) for part in zip(*values, strict=True))
    return Confidences(confidence, right, answerable)
