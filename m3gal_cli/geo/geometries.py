"""Points of geometries: WKB (as bytes or hexadecimal digits), WKT and GeoJSON.

Coordinates are (lng, lat) in degrees. A point is returned as it is. Another geometry is replaced by a point on it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_POINT = 0  # shapely's type number
Floats = NDArray[np.float64]


def geometry_points(values: Sequence[Any]) -> tuple[Floats, Floats]:
    """Return a point of each geometry; NaN for a value that is missing, empty or no geometry.

    Args:
        values: bytes (WKB), text (WKT, hexadecimal WKB or GeoJSON), GeoJSON objects as dicts, or None. All of one kind.

    Shape: (N,) -> (N,), (N,) degrees.
    """
    lng, lat = np.full(len(values), np.nan), np.full(len(values), np.nan)
    kind = next((type(value) for value in values if value is not None), str)
    if kind is bytes:
        shapes = shapely.from_wkb(_objects(values), on_invalid="ignore")
    elif kind is dict:
        shapes = _from_text([None if value is None else json.dumps(value) for value in values])
    elif kind is str:
        shapes = _from_text(values)
    else:
        return lng, lat
    usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    extended = usable & (shapely.get_type_id(shapes) != _POINT)
    if extended.any():
        shapes[extended] = shapely.point_on_surface(shapely.force_2d(shapes[extended]))
    lng[usable], lat[usable] = shapely.get_x(shapes[usable]), shapely.get_y(shapes[usable])
    return lng, lat


def _from_text(values: Sequence[Any]) -> NDArray[np.object_]:
    texts = [value.strip() if isinstance(value, str) else None for value in values]
    first = next(filter(None, texts), "")
    if first.startswith("{"):
        return shapely.from_geojson(_objects(texts), on_invalid="ignore")
    if first[:1] == "0":
        return shapely.from_wkb(_objects(texts), on_invalid="ignore")
    without_srid = [text and text.rpartition(";")[2] for text in texts]  # EWKT: SRID=4326;POINT (…)
    return shapely.from_wkt(_objects(without_srid), on_invalid="ignore")


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    array = np.empty(len(values), object)
    array[:] = values
    return array
