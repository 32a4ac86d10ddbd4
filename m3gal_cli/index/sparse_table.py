"""A POI table in memory that can be searched by ``SparseSearcher``, as a segment of an index can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.geo.filters import Coordinates, GeoFilter
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import Terms


@dataclass(frozen=True)
class SparseTable:
    """N POIs with the terms of their addresses.

    Args:
        terms: The terms.
        lng, lat: Degrees, WGS-84. Shape: (N,).
        live: Which rows can be found, and count for the document frequencies, shape (N,); None: all. Later duplicates
            do not, as in an index.
    """

    terms: Terms
    lng: Coordinates
    lat: Coordinates
    live: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls, addresses: Sequence[str], lng: Coordinates, lat: Coordinates, live: NDArray[np.bool_] | None = None
    ) -> SparseTable:
        """Compute the terms of POIs."""
        return cls(Terms.of(addresses), lng, lat, live)

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def postings(self) -> Postings:
        """The postings of the n-grams of the addresses."""
        return Postings.of(self.terms.ngrams)

    @cached_property
    def frequencies(self) -> NgramFrequencies:
        """The document frequencies of the live rows."""
        if self.live is None:
            return NgramFrequencies.of_postings(self.postings, len(self))
        return NgramFrequencies.of(self.terms.ngrams.take(np.flatnonzero(self.live)))

    @cached_property
    def searcher(self) -> SparseSearcher:
        """The sparse search of the table."""
        return SparseSearcher([self], self.frequencies)

    def rows_in(self, geo_filter: GeoFilter) -> NDArray[np.int64]:
        """Return the live rows that pass a geographic filter, ascending."""
        rows = geo_filter.rows(self.lng, self.lat)
        return rows if self.live is None else rows[self.live[rows]]
