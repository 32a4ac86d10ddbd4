"""Candidates: the POIs that the two searches found for a query, as the input of a reranker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.terms import Terms

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """The n candidates of one query, as columns.

    Shape:
        scores, sparse_scores: (n,), of the dense and of the sparse search. terms: those of n addresses.
        lng, lat: (n,), degrees, WGS-84.
    """

    scores: NDArray[np.floating]
    sparse_scores: NDArray[np.floating]
    terms: Terms
    lng: Floats
    lat: Floats

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, positions: NDArray[np.int64]) -> Candidates:
        """Return some of the candidates. Shape: (m,)."""
        return Candidates(
            self.scores[positions],
            self.sparse_scores[positions],
            self.terms.take(positions),
            self.lng[positions],
            self.lat[positions],
        )
