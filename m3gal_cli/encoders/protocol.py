"""Protocols of the encoders, and the types that they share. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]  # called with the number done and the total


class QueryEncoder(Protocol):
    """Encoder of query texts, which is sufficient to search an index."""

    @property
    def dim(self) -> int:
        """Return the width D of the vectors."""

    @property
    def device(self) -> Any:
        """Return the torch device that runs the model, or its name."""

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode query texts as unit vectors. Shape: N texts -> (N, D) float32."""


class Encoder(QueryEncoder, Protocol):
    """Encoder of queries, POI texts and POI locations into one space."""

    def encode_poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode POI texts as unit vectors. Shape: N texts -> (N, D) float32."""

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Encode locations in degrees, WGS-84, as vectors of length ``location_weight``. Shape: -> (N, D) float32."""

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.floating]:
        """Return the z-scores that the location encoder reads. Shape: (N,), (N,) -> (N, 2), lng first."""
