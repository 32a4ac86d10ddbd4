"""The table that candidates are taken from: an index or a POI table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.matching.candidates import CandidateRows
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.reranker import Reranker
from m3gal_cli.text.terms import Terms

if TYPE_CHECKING:
    from m3gal_cli.data.records import Record
    from m3gal_cli.index.index import Index
    from m3gal_cli.index.sparse_table import SparseTable

Rows = NDArray[np.int64]


class CandidateTable:
    """The POIs from which candidates are taken.

    Args:
        addresses: Function that returns the addresses of some rows.
        terms: Function that returns the terms of the addresses of some rows.
        lng, lat: Degrees, WGS-84. Shape: (N,).
    """

    def __init__(
        self, addresses: Callable[[Rows], list[str]], terms: Callable[[Rows], Terms], lng: Floats, lat: Floats
    ) -> None:
        self._addresses, self._terms, self.lng, self.lat = addresses, terms, lng, lat

    @classmethod
    def of_index(cls, index: Index) -> CandidateTable:
        """Take candidates from an index."""
        return cls(index.addresses_at, index.terms_at, index.lng, index.lat)

    @classmethod
    def of_pois(cls, pois: Any, table: SparseTable) -> CandidateTable:
        """Take candidates from a DataFrame with the column address, and its rows as a ``SparseTable``."""
        addresses = pois["address"].to_numpy()
        return cls(lambda rows: addresses[rows].tolist(), table.terms.take, table.lng, table.lat)

    def candidates(self, found: CandidateRows) -> Candidates:
        """Return the candidates of a query, with their terms and coordinates."""
        rows, scores, sparse_scores = found
        return Candidates(
            self._addresses(rows), scores, self.lng[rows], self.lat[rows], sparse_scores, self._terms(rows)
        )

    def rerank(self, reranker: Reranker, query: Query, found: CandidateRows, poi_numbers: Rows | None = None) -> Floats:
        """Return the logits of candidates. Duplicates are one candidate and share its logit.

        Args:
            reranker: The reranker.
            query: The query.
            found: Its candidates.
            poi_numbers: Equal numbers mark duplicates among the rows. None: there are no duplicates.

        Shape:
            poi_numbers: (n,) -> (n,).
        """
        if poi_numbers is None:
            return reranker.score(query, self.candidates(found))
        from m3gal_cli.data.duplicates import first_occurrences

        first, candidate = first_occurrences(poi_numbers)
        return reranker.score(query, self.candidates(found.take(first)))[candidate]


def query_of(record: Record) -> Query:
    """Return the query of a record."""
    return Query(record.query_id, record.query, record.lng, record.lat)
