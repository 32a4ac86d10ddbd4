"""Datums of coordinates: WGS-84, GCJ-02 and BD-09, and the conversion between them.

WGS-84 is the datum of GPS and OpenStreetMap. GCJ-02 is the obfuscated datum of Chinese map services (AMap, Tencent).
BD-09 is a further shift by Baidu. The formulas are the well-known reconstruction of GCJ-02 by polynomials and sines on
the Krasovsky 1940 ellipsoid. They apply in the mainland, Hong Kong and Macau (``gcj02_area``).

A point is shifted if its WGS-84 position is in the area, so conversion there and back is exact, also at the border.
Points up to a kilometre outside the border, which vendors do not shift, may therefore be converted as if they were.

Coordinates are (lng, lat) in degrees; arrays are float64 of shape (N,).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.geo.gcj02_area import in_gcj02_area

Datum = Literal["wgs84", "gcj02", "bd09"]
Floats = NDArray[np.float64]

_KRASOVSKY_A = 6_378_245.0
_KRASOVSKY_EE = 0.006_693_421_622_965_943
_BD_PI = np.pi * 3000.0 / 180.0


def check_datum(name: str) -> Datum:
    """Return ``name`` as a datum. Raises InputError if it is not wgs84, gcj02 or bd09."""
    if name not in get_args(Datum):
        raise InputError(f"unknown datum {name!r}", hint=f"Use one of: {', '.join(get_args(Datum))}.")
    return name  # type: ignore[return-value]


def to_wgs84(lng: ArrayLike, lat: ArrayLike, datum: Datum) -> tuple[Floats, Floats]:
    """Convert degrees in ``datum`` to WGS-84, to well below a millimetre; points outside the GCJ-02 area stay."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    if datum == "wgs84":
        return x, y
    lng, lat = _undo_gcj02(*(_undo_bd09(x, y) if datum == "bd09" else (x, y)))
    inside = in_gcj02_area(lng, lat)
    return np.where(inside, lng, x), np.where(inside, lat, y)


def wgs84_to_gcj02(lng: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """Convert WGS-84 degrees to GCJ-02 degrees; points outside the GCJ-02 area stay."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    dx, dy = _gcj02_shift(x, y)
    inside = in_gcj02_area(x, y)
    return np.where(inside, x + dx, x), np.where(inside, y + dy, y)


def _gcj02_shift(lng: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Return the degrees that GCJ-02 adds to a WGS-84 point."""
    x, y = lng - 105.0, lat - 35.0
    root = np.sqrt(np.abs(x))
    waves = (20.0 * np.sin(6.0 * x * np.pi) + 20.0 * np.sin(2.0 * x * np.pi)) * 2.0 / 3.0
    d_lat = -100.0 + 2.0 * x + 3.0 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + waves
    d_lat += (20.0 * np.sin(y * np.pi) + 40.0 * np.sin(y / 3.0 * np.pi)) * 2.0 / 3.0
    d_lat += (160.0 * np.sin(y / 12.0 * np.pi) + 320.0 * np.sin(y * np.pi / 30.0)) * 2.0 / 3.0
    d_lng = 300.0 + x + 2.0 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + waves
    d_lng += (20.0 * np.sin(x * np.pi) + 40.0 * np.sin(x / 3.0 * np.pi)) * 2.0 / 3.0
    d_lng += (150.0 * np.sin(x / 12.0 * np.pi) + 300.0 * np.sin(x / 30.0 * np.pi)) * 2.0 / 3.0
    phi = np.radians(lat)
    magic = 1.0 - _KRASOVSKY_EE * np.sin(phi) ** 2
    metres_lat = _KRASOVSKY_A * (1.0 - _KRASOVSKY_EE) / (magic * np.sqrt(magic)) * np.pi / 180.0
    metres_lng = _KRASOVSKY_A / np.sqrt(magic) * np.cos(phi) * np.pi / 180.0
    return d_lng / metres_lng, d_lat / metres_lat


def _undo_gcj02(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Invert GCJ-02 by fixed-point iteration, to well below a millimetre."""
    guess_x, guess_y = x, y
    for _ in range(5):  # each step divides the error, 1 km at first, by 300 or more
        dx, dy = _gcj02_shift(guess_x, guess_y)
        guess_x, guess_y = x - dx, y - dy
    return guess_x, guess_y


def _add_bd09(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    z = np.hypot(x, y) + 0.00002 * np.sin(y * _BD_PI)
    theta = np.arctan2(y, x) + 0.000003 * np.cos(x * _BD_PI)
    return z * np.cos(theta) + 0.0065, z * np.sin(theta) + 0.006


def _undo_bd09(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Invert BD-09 by fixed-point iteration."""
    guess_x, guess_y = x - 0.0065, y - 0.006
    for _ in range(6):  # each step divides the error by 60 or more
        shifted_x, shifted_y = _add_bd09(guess_x, guess_y)
        guess_x, guess_y = guess_x + (x - shifted_x), guess_y + (y - shifted_y)
    return guess_x, guess_y
