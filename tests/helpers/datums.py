"""Conversion from WGS-84 to BD-09, the inverse of which the program needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from m3gal_cli.geo.datums import Datum, wgs84_to_gcj02


def gcj02_to_bd09(lng: ArrayLike, lat: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The published formula; only for points in the GCJ-02 area."""
    x, y = np.asarray(lng, float), np.asarray(lat, float)
    waves = np.pi * 3000.0 / 180.0
    radius = np.hypot(x, y) + 0.00002 * np.sin(y * waves)
    angle = np.arctan2(y, x) + 0.000003 * np.cos(x * waves)
    return radius * np.cos(angle) + 0.0065, radius * np.sin(angle) + 0.006


def from_wgs84(lng: ArrayLike, lat: ArrayLike, datum: Datum) -> tuple[np.ndarray, np.ndarray]:
    """Degrees in ``datum`` of points in the GCJ-02 area."""
    if datum == "wgs84":
        return np.asarray(lng, float), np.asarray(lat, float)
    x, y = wgs84_to_gcj02(lng, lat)
    return gcj02_to_bd09(x, y) if datum == "bd09" else (x, y)
