"""The table that candidates are taken from: an index or a POI table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.reranker import Reranker

if TYPE_CHECKING:
    from m3gal_cli.data.records import Record
    from m3gal_cli.index.index import Index

Rows = NDArray[np.int64]


class CandidateTable:
    """The POIs from which candidates are taken.

    Args:
        addresses: Function that returns the addresses of some rows.
        lng, lat: Degrees, WGS-84. Shape: (N,).
    """

    def __init__(self, addresses: Callable[[Rows], list[str]], lng: Floats, lat: Floats) -> None:
        self._addresses, self.lng, self.lat = addresses, lng, lat

    @classmethod
    def of_index(cls, index: Index) -> CandidateTable:
        """Take candidates from an index."""
        return cls(index.addresses_at, index.lng, index.lat)

    @classmethod
    def of_pois(cls, pois: Any) -> CandidateTable:
        """Take candidates from a DataFrame with the columns address, lng, lat."""
        addresses = pois["address"].to_numpy()
        return cls(lambda rows: addresses[rows].tolist(), *(pois[name].to_numpy(np.float64) for name in ("lng", "lat")))

    def candidates(self, rows: Rows, scores: NDArray[np.floating]) -> Candidates:
        """Return rows with their first-stage scores as candidates. Shape: (n,), (n,)."""
        return Candidates(self._addresses(rows), scores, self.lng[rows], self.lat[rows])

    def rerank(
        self,
        reranker: Reranker,
        query: Query,
        rows: Rows,
        scores: NDArray[np.floating],
        poi_numbers: Rows | None = None,
        depth: int | None = None,
    ) -> tuple[Rows, Floats]:
        """Score the best rows of a query again. Duplicates are one candidate and share its logit.

        Args:
            reranker: The reranker.
            query: The query.
            rows: Rows of the table, best first.
            scores: Their first-stage scores.
            poi_numbers: Equal numbers mark duplicates among the rows. None: there are no duplicates.
            depth: Number of candidates. None: all.

        Returns:
            The rows of the candidates, with all duplicates, in the given order; and their logits.

        Shape:
            rows, scores, poi_numbers: (n,) -> (m,), (m,), with m <= n.
        """
        first = candidate = np.arange(len(rows))
        if poi_numbers is not None:
            from m3gal_cli.data.duplicates import first_occurrences

            first, candidate = first_occurrences(poi_numbers)
        first = first[:depth]
        kept = candidate < len(first)
        logits = reranker.score(query, self.candidates(rows[first], scores[first]))
        return rows[kept], logits[candidate[kept]]


def query_of(record: Record) -> Query:
    """Return the query of a record."""
    return Query(record.query_id, record.query, record.lng, record.lat)
