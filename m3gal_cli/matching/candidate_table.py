"""The table that candidates are taken from: an index or a POI table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.matching.candidates import CandidateRows
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.reranker import Reranker, probabilities
from m3gal_cli.text.terms import Terms

if TYPE_CHECKING:
    from m3gal_cli.data.records import Record
    from m3gal_cli.index.index import Index
    from m3gal_cli.index.sparse_table import SparseTable

Rows = NDArray[np.int64]


class Reranked(NamedTuple):
    """The reranked candidates of a query, in the order in which they were given."""

    logits: Floats  # (n,)
    probabilities: Floats  # (n,), that the query means this candidate; equal for duplicates


class CandidateTable:
    """The POIs from which candidates are taken.

    Args:
        terms: Function that returns the terms of the addresses of some rows.
        lng, lat: Degrees, WGS-84. Shape: (N,).
    """

    def __init__(self, terms: Callable[[Rows], Terms], lng: Floats, lat: Floats) -> None:
        self._terms, self.lng, self.lat = terms, lng, lat

    @classmethod
    def of_index(cls, index: Index) -> CandidateTable:
        """Take candidates from an index."""
        return cls(index.terms_at, index.lng, index.lat)

    @classmethod
    def of_table(cls, table: SparseTable) -> CandidateTable:
        """Take candidates from a table in memory."""
        return cls(table.terms.take, table.lng, table.lat)

    def candidates(self, found: CandidateRows) -> Candidates:
        """Return the candidates of a query, with their terms and coordinates."""
        rows, scores, sparse_scores = found
        return Candidates(scores, sparse_scores, self._terms(rows), self.lng[rows], self.lat[rows])

    def rerank(
        self, reranker: Reranker, query: Query, found: CandidateRows, poi_numbers: Rows | None = None
    ) -> Reranked:
        """Score candidates. Duplicates are one candidate: they share its logit and its probability.

        Args:
            reranker: The reranker.
            query: The query.
            found: Its candidates.
            poi_numbers: Equal numbers mark duplicates among the rows. None: there are no duplicates.

        Shape:
            poi_numbers: (n,).
        """
        if poi_numbers is None:
            logits = reranker.score(query, self.candidates(found))
            return Reranked(logits.candidates, probabilities(logits))
        from m3gal_cli.data.duplicates import first_occurrences

        first, candidate = first_occurrences(poi_numbers)
        logits = reranker.score(query, self.candidates(found.take(first)))
        return Reranked(logits.candidates[candidate], probabilities(logits)[candidate])


def query_of(record: Record) -> Query:
    """Return the query of a record."""
    return Query(record.query_id, record.query, record.lng, record.lat)
