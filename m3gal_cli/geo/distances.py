"""Distances in metres between points in degrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
METRES_PER_DEGREE = np.pi * EARTH_RADIUS_M / 180.0
Floats = NDArray[np.float64]


def haversine_m(lng1: ArrayLike, lat1: ArrayLike, lng2: ArrayLike, lat2: ArrayLike) -> Floats:
    """Return great-circle distances in metres between points in degrees; the arguments broadcast."""
    a, b, c, d = (np.radians(np.asarray(v, np.float64)) for v in (lng1, lat1, lng2, lat2))
    h = np.sin((d - b) / 2.0) ** 2 + np.cos(b) * np.cos(d) * np.sin((c - a) / 2.0) ** 2
    return 2.0 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))


def local_metres(lng: ArrayLike, lat: ArrayLike, lng0: float, lat0: float) -> Floats:
    """Return equirectangular metres (east, north) from (lng0, lat0), exact to 0.1% in a city. Shape: (N,) -> (N, 2)."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    east = (x - lng0) * METRES_PER_DEGREE * np.cos(np.radians(lat0))
    return np.stack([east, (y - lat0) * METRES_PER_DEGREE], axis=-1)
