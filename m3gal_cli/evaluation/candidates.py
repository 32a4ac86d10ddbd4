"""The candidates of queries in the full-database evaluation, as ``matching.candidates`` finds them in an index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.duplicates import first_occurrences
from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.rank_counting import Floats, GoldPairs, Numbers
from m3gal_cli.evaluation.result import Matches
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidates import CandidateRows, Depths

BATCH = 256  # queries whose further dense scores are computed at once
ScorePairs = Callable[[Numbers, Numbers], Floats]  # exact dense scores of pairs of query and row


class TableCandidates(NamedTuple):
    """The candidates of every query. Shape: (Q,) each."""

    by_query: list[CandidateRows]
    gold_dense: NDArray[np.bool_]  # whether the dense search found a gold row
    gold_sparse: NDArray[np.bool_]  # whether the sparse search found one

    def shares(self) -> dict[str, float]:
        """Return the share of queries with a gold POI among the candidates of each search, and of both."""
        found = {"dense": self.gold_dense, "sparse": self.gold_sparse, "joined": self.gold_dense | self.gold_sparse}
        return {name: float(which.mean()) for name, which in found.items()}


class Duplicates:
    """The duplicates of a table: rows with equal text and coordinates.

    Args:
        first_rows: The first duplicate of each row. Shape: (N,).
        gold: The gold.
        repeated: Whether a gold pair is left out, because an earlier row of the query is its duplicate. Shape: (G,).
    """

    def __init__(self, first_rows: Numbers, gold: GoldPairs, repeated: NDArray[np.bool_]) -> None:
        self.first_rows, self.gold = first_rows, gold
        self._repeated = GoldPairs(gold.query[repeated], gold.row[repeated], len(gold.count), gold.n_rows)
        self._order = np.argsort(first_rows, kind="stable")
        self._sorted = first_rows[self._order]

    @property
    def is_first(self) -> NDArray[np.bool_]:
        """Whether each row is the first of its duplicates. Shape: (N,)."""
        return self.first_rows == np.arange(len(self.first_rows))

    def best(self, rows: Numbers, scores: Floats, count: int) -> tuple[Numbers, Floats]:
        """Return the rows of the first ``count`` POIs, and their scores. Shape: (n,), (n,) -> (m,), (m,)."""
        kept = first_occurrences(self.first_rows[rows])[1] < count if len(rows) else np.zeros(0, bool)
        return rows[kept], scores[kept]

    def of(self, query: int, firsts: Numbers) -> Numbers:
        """Return all rows of some POIs, without repeated gold of the query. Shape: (n,) -> (m,)."""
        starts, ends = (np.searchsorted(self._sorted, firsts, side=side) for side in ("left", "right"))
        rows = np.concatenate([firsts[:0], *(self._order[a:b] for a, b in zip(starts, ends, strict=True))])
        return rows[~self._repeated.contain(np.full(len(rows), query), rows)]


def find_candidates(
    records: Sequence[Record],
    table: SparseTable,
    matches: Matches,
    duplicates: Duplicates,
    score_pairs: ScorePairs,
    depths: Depths,
) -> TableCandidates:
    """Join the dense matches of every query with those of the sparse search.

    All duplicates of a candidate are candidates, but of duplicates that are gold the first only.

    Args:
        records: The queries.
        table: The POI table, in which the first of duplicates are live.
        matches: Rows of each query, best first by dense score, for at least ``depths.dense`` POIs; and their scores.
        duplicates: The duplicates of the table.
        score_pairs: Returns the exact dense scores of pairs of query and row.
        depths: Numbers of POIs of each search.
    """
    gold, searcher, out = duplicates.gold, table.searcher, []
    gold_dense, gold_sparse = np.zeros(len(records), bool), np.zeros(len(records), bool)
    for first in range(0, len(records), BATCH):
        numbers = range(first, min(first + BATCH, len(records)))
        found = searcher.search([records[i].query for i in numbers], depths.sparse).rows
        dense = [duplicates.best(*matches[i], depths.dense) for i in numbers]
        sparse = [duplicates.of(i, rows[rows >= 0]) for i, rows in zip(numbers, found, strict=True)]
        others = [np.setdiff1d(rows, own) for rows, (own, _) in zip(sparse, dense, strict=True)]
        counts = [len(rows) for rows in others]
        further = np.split(score_pairs(np.repeat(numbers, counts), np.concatenate(others)), np.cumsum(counts)[:-1])
        for i, own, rows, more in zip(numbers, dense, others, further, strict=True):
            scored = more > -np.inf  # a row without a finite vector is no candidate
            joined = np.concatenate([own[0], rows[scored]])
            sparse_scores = searcher.scores(searcher.query(records[i].query), joined)
            out.append(CandidateRows.ordered(joined, np.concatenate([own[1], more[scored]]), sparse_scores))
            gold_dense[i] = gold.contain(np.full(len(own[0]), i), own[0]).any()
            gold_sparse[i] = gold.contain(np.full(len(sparse[i - first]), i), sparse[i - first]).any()
    return TableCandidates(out, gold_dense, gold_sparse)
