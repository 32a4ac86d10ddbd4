"""Candidates: the POIs that the first stage found for a query, as the input of a reranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.terms import Terms

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """The candidates of one query, as columns.

    Shape:
        addresses: n texts. scores: (n,), dense scores q·v. lng, lat: (n,), degrees, WGS-84. sparse_scores: (n,).
        terms: those of n addresses.
    """

    addresses: Sequence[str]
    scores: NDArray[np.floating]
    lng: Floats
    lat: Floats
    sparse_scores: NDArray[np.floating] | None = None
    terms: Terms | None = None

    def __len__(self) -> int:
        return len(self.addresses)
