"""Datums, geohash digits and distances. Coordinates are (lng, lat) in degrees; arrays are float64 of shape (N,).

WGS-84 is what GPS and OpenStreetMap use. GCJ-02 is the obfuscated datum of Chinese map services (AMap, Tencent) and
BD-09 the further shift of Baidu. The shift formulas are the well-known polynomials-and-sines reconstruction of GCJ-02
on the Krasovsky 1940 ellipsoid; they apply in the mainland, Hong Kong and Macau, as ``china`` outlines them.

Whether a shifted point is to be moved back is decided by where it comes to lie: every point inside the outline returns
to where it was, also beside the edge. The price: a point up to a kilometre outside may be taken for a shifted one.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.geo.gcj02_area import in_china

Datum = Literal["wgs84", "gcj02", "bd09"]
Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # mean radius, IUGG
METRES_PER_DEGREE = np.pi * EARTH_RADIUS_M / 180.0
GEOHASH_LENGTH = 7

_KRASOVSKY_A = 6_378_245.0
_KRASOVSKY_EE = 0.006_693_421_622_965_943
_BD_PI = np.pi * 3000.0 / 180.0


def check_datum(name: str) -> Datum:
    """Return ``name`` as a datum. Raises InputError if it is none of wgs84, gcj02, bd09."""
    if name not in get_args(Datum):
        raise InputError(f"unknown datum {name!r}", hint=f"Use one of: {', '.join(get_args(Datum))}.")
    return name  # type: ignore[return-value]


def _gcj_shift(lng: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Degrees that GCJ-02 adds to a WGS-84 point in China."""
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


def _gcj_undone(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points that GCJ-02 would shift to (x, y), by fixed-point iteration to well below a millimetre."""
    guess_x, guess_y = x, y
    for _ in range(5):  # each leaves 1/300 of the error or less, of 1 km to begin with
        dx, dy = _gcj_shift(guess_x, guess_y)
        guess_x, guess_y = x - dx, y - dy
    return guess_x, guess_y


def _bd_shifted(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    z = np.hypot(x, y) + 0.00002 * np.sin(y * _BD_PI)
    theta = np.arctan2(y, x) + 0.000003 * np.cos(x * _BD_PI)
    return z * np.cos(theta) + 0.0065, z * np.sin(theta) + 0.006


def _bd_undone(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """The points that BD-09 would shift to (x, y), by fixed-point iteration."""
    guess_x, guess_y = x - 0.0065, y - 0.006
    for _ in range(6):  # each leaves 1/60 of the error or less
        there_x, there_y = _bd_shifted(guess_x, guess_y)
        guess_x, guess_y = guess_x + (x - there_x), guess_y + (y - there_y)
    return guess_x, guess_y


def wgs84_to_gcj02(lng: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """WGS-84 degrees to GCJ-02 degrees; unchanged outside China."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    dx, dy = _gcj_shift(x, y)
    return _either(in_china(x, y), (x + dx, y + dy), (x, y))


def gcj02_to_wgs84(lng: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """GCJ-02 degrees to WGS-84 degrees, to well below a millimetre; unchanged where that lies outside China."""
    return to_wgs84(lng, lat, "gcj02")


def gcj02_to_bd09(lng: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """GCJ-02 degrees to BD-09 degrees; unchanged outside China, which the place in WGS-84 decides."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    return _either(in_china(*_gcj_undone(x, y)), _bd_shifted(x, y), (x, y))


def bd09_to_gcj02(lng: ArrayLike, lat: ArrayLike) -> tuple[Floats, Floats]:
    """BD-09 degrees to GCJ-02 degrees, to well below a millimetre; unchanged where the place lies outside China."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    back = _bd_undone(x, y)
    return _either(in_china(*_gcj_undone(*back)), back, (x, y))


def _either(
    inside: NDArray[np.bool_], moved: tuple[Floats, Floats], still: tuple[Floats, Floats]
) -> tuple[Floats, Floats]:
    return np.where(inside, moved[0], still[0]), np.where(inside, moved[1], still[1])


def to_wgs84(lng: ArrayLike, lat: ArrayLike, datum: Datum) -> tuple[Floats, Floats]:
    """Degrees in ``datum`` to WGS-84 degrees: what every reader does at the door."""
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    if datum == "wgs84":
        return x, y
    back = _gcj_undone(*(_bd_undone(x, y) if datum == "bd09" else (x, y)))
    return _either(in_china(*back), back, (x, y))


def parse_lnglat(text: str, where: str, datum: Datum = "wgs84") -> tuple[float, float]:
    """``"lng,lat"`` in degrees to WGS-84 floats. Raises InputError naming what is wrong."""
    parts = text.split(",")
    try:
        lng, lat = (float(p) for p in parts)
    except ValueError as error:
        hint = "Write longitude, comma, latitude in degrees."
        raise InputError(f'expected "lng,lat", got {text!r}', where=where, hint=hint) from error
    if not (abs(lng) <= 180.0 and abs(lat) <= 90.0):  # also refuses NaN
        swapped = abs(lng) <= 90.0 < abs(lat) <= 180.0
        what = f"({lng:g}, {lat:g}) is no place in degrees" + (": lng and lat look swapped" if swapped else "")
        raise InputError(what, where=where, hint="lng in [-180, 180] comes before lat in [-90, 90].")
    if datum == "wgs84":
        return lng, lat
    x, y = to_wgs84(lng, lat, datum)
    return float(x), float(y)


def geohash_digits(lng: ArrayLike, lat: ArrayLike, length: int = GEOHASH_LENGTH) -> NDArray[np.int64]:
    """Geohash digits as integers 0-31 (not base-32 letters), most significant first.

    Shape:
        lng, lat: (N,) degrees -> (N, length).
    """
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


def haversine_m(lng1: ArrayLike, lat1: ArrayLike, lng2: ArrayLike, lat2: ArrayLike) -> Floats:
    """Great-circle distance in metres between points in degrees; the arguments broadcast."""
    a, b, c, d = (np.radians(np.asarray(v, np.float64)) for v in (lng1, lat1, lng2, lat2))
    h = np.sin((d - b) / 2.0) ** 2 + np.cos(b) * np.cos(d) * np.sin((c - a) / 2.0) ** 2
    return 2.0 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))


def local_metres(lng: ArrayLike, lat: ArrayLike, lng0: float, lat0: float) -> NDArray[np.float64]:
    """Equirectangular metres (east, north) from (lng0, lat0): right to 0.1% within a city.

    Shape:
        lng, lat: (N,) degrees -> (N, 2) metres.
    """
    x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
    east = (x - lng0) * METRES_PER_DEGREE * np.cos(np.radians(lat0))
    return np.stack([east, (y - lat0) * METRES_PER_DEGREE], axis=-1)
