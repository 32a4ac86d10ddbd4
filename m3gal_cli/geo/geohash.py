"""Geohash digits of coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

GEOHASH_LENGTH = 7


def geohash_digits(lng: ArrayLike, lat: ArrayLike, length: int = GEOHASH_LENGTH) -> NDArray[np.int64]:
    """Return geohash digits as integers 0-31, most significant first. Shape: (N,) degrees -> (N, length)."""
    x, y = np.atleast_1d(np.asarray(lng, np.float64)), np.atleast_1d(np.asarray(lat, np.float64))
    bits = 5 * length
    n_lng, n_lat = (bits + 1) // 2, bits // 2
    cell_x = np.clip(np.floor((x + 180.0) / 360.0 * 2**n_lng), 0, 2**n_lng - 1).astype(np.int64)
    cell_y = np.clip(np.floor((y + 90.0) / 180.0 * 2**n_lat), 0, 2**n_lat - 1).astype(np.int64)
    out = np.zeros((x.size, length), np.int64)
    for bit in range(bits):  # bits alternate, longitude first
        value = (cell_x >> (n_lng - 1 - bit // 2)) & 1 if bit % 2 == 0 else (cell_y >> (n_lat - 1 - bit // 2)) & 1
        out[:, bit // 5] = out[:, bit // 5] * 2 + value
    return out
