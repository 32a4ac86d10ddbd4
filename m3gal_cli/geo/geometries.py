"""Points of geometries: WKB (as bytes or hexadecimal digits), WKT and GeoJSON.

Coordinates are (lng, lat) in degrees. A geometry that is not a point is replaced by a point on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_MYSQL = re.compile(r"^(?:0[xX])?[0-9A-Fa-f]{8}(?=010[1-7]000000)|^0[xX]")  # MySQL puts the SRID before WKB
_POINT = 0  # shapely's type number
Floats = NDArray[np.float64]


def geometry_points(values: Sequence[Any]) -> tuple[Floats, Floats]:
    """Return a point of each geometry; NaN for a value that is missing, empty, infinite or no geometry.

    Args:
        values: bytes (WKB), text (WKT, hexadecimal WKB or GeoJSON), GeoJSON objects as dicts, or None. All of one kind.

    Shape: (N,) -> (N,), (N,) degrees.
    """
    lng, lat = np.full(len(values), np.nan), np.full(len(values), np.nan)
    kind = next((type(value) for value in values if value is not None), str)
    if kind is bytes:
        shapes = _read(shapely.from_wkb, values)
    elif kind is dict:
        shapes = _from_text([None if value is None else json.dumps(value, default=str) for value in values])
    elif kind is str:
        shapes = _from_text(values)
    else:
        return lng, lat
    usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    extended = usable & (shapely.get_type_id(shapes) != _POINT)
    if extended.any():
        with np.errstate(all="ignore"):  # of infinite coordinates
            shapes[extended] = shapely.point_on_surface(shapely.force_2d(shapes[extended]))
    lng[usable], lat[usable] = shapely.get_x(shapes[usable]), shapely.get_y(shapes[usable])
    finite = np.isfinite(lng) & np.isfinite(lat)
    return np.where(finite, lng, np.nan), np.where(finite, lat, np.nan)


def _from_text(values: Sequence[Any]) -> NDArray[np.object_]:
    texts = [value.strip() if isinstance(value, str) else None for value in values]
    first = next(filter(None, texts), "")
    if first.startswith("{"):
        return _read(shapely.from_geojson, texts)
    if first[:1] == "0" or _MYSQL.match(first):
        return _read(shapely.from_wkb, [text and _MYSQL.sub("", text) for text in texts])
    return _read(shapely.from_wkt, [text and text.rpartition(";")[2] for text in texts])  # SRID=4326;POINT (…)


def _read(reader: Callable[..., Any], values: Sequence[Any]) -> NDArray[np.object_]:
    """Return the geometries that a function of shapely reads; None for a value that it cannot read."""
    array = np.empty(len(values), object)
    array[:] = values
    try:
        with np.errstate(all="ignore"):  # of coordinates that are no numbers
            shapes: NDArray[np.object_] = reader(array, on_invalid="ignore")
    except NotImplementedError:  # shapely has no curves: one of them fails all values
        if len(values) == 1:
            return np.array([None], object)
        half = len(values) // 2
        return np.concatenate([_read(reader, values[:half]), _read(reader, values[half:])])
    return shapes
