"""Select the places of a city by bounding box, polygon or named boundary, and limit their number.

The facts of a selected place also name objects outside the selection: streets, crossings, landmarks, areas, boundaries.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.files import open_text, require_file
from m3gal_cli.geo.distances import METRES_PER_DEGREE
from m3gal_cli.geo.filters import Box, check_box, in_box, swapped_box_warning
from m3gal_cli.osm.extract import Extract, NamedShape
from m3gal_cli.osm.places import Place, coordinates_of, projection_of
from m3gal_cli.osm.tags import NAME_KEYS, NAME_PREFIX
from m3gal_cli.text.normalise import reading_key

CONTEXT_M = 25_000.0  # larger than the reach of any fact
LEAF = 8  # largest number of places in a cell of the k-d tree of ``limit_places``
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
_OSM_ID = re.compile(r"[wr]\d+")
_CRS84 = ("CRS84", "EPSG:4326", "EPSG::4326")


@dataclass(frozen=True)
class Selection:
    """Conditions on places; a place must meet all that are given. Coordinates are degrees WGS-84.

    Attributes:
        bbox: West, south, east, north; the edges are included.
        polygon: GeoJSON file with a Polygon, MultiPolygon, Feature or FeatureCollection (the union of its polygons).
        place: Name of a boundary in the extract, in any language and case, or its OSM id ("r1155955"). If no boundary
            has the name, a named area (park, campus ...) is taken.
    """

    bbox: Box | None = None
    polygon: Path | None = None
    place: str | None = None

    def check(self) -> None:
        """Raise InputError for invalid values, including an invalid polygon file."""
        if self.bbox is not None:
            check_box(self.bbox, crossing=False)
        if self.polygon is not None:
            read_polygon(self.polygon)
        if self.place is not None and not reading_key(self.place):
            raise InputError("the name of the place is empty", hint="Give --place the name of a boundary.")

    def window(self) -> Box | None:
        """Return the part of the extract to read: the box around bbox and polygon with a margin of ``CONTEXT_M``.

        None without bbox and polygon. The objects in the window give all facts of the selected places. But the
        uniqueness of names is decided within the window, too.
        """
        boxes: list[Sequence[float]] = [] if self.bbox is None else [self.bbox]
        boxes += [] if self.polygon is None else [read_polygon(self.polygon).bounds]
        if not boxes:
            return None
        west, south = (max(box[n] for box in boxes) for n in (0, 1))
        east, north = (min(box[n] for box in boxes) for n in (2, 3))
        high = CONTEXT_M / METRES_PER_DEGREE
        wide = high / max(math.cos(math.radians(min(max(abs(south), abs(north)) + high, 89.0))), 0.01)
        return west - wide, south - high, east + wide, north + high


def parse_count(text: str) -> int:
    """Parse a number of places: "5000", "100k", "2.5m". Raises InputError if it is no whole number from 1 on."""
    match = _COUNT.fullmatch(text.strip())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0.0
    if count < 1 or abs(count - round(count)) > 1e-6:
        raise InputError(f"{text!r} is not a number of places", hint="Give a whole number such as 5000, 100k or 2.5m.")
    return round(count)


def read_polygon(path: Path) -> Any:
    """Return the union of the polygons of a GeoJSON file, in degrees WGS-84. Raises InputError."""
    require_file(path, "GeoJSON file")
    try:
        with open_text(path) as file:
            data = json.load(file)
    except (ValueError, OSError) as error:
        raise InputError(f"is not JSON ({error})", where=path, hint="Give a GeoJSON file.") from error
    crs = data.get("crs") if isinstance(data, dict) else None
    if crs is not None and not str((crs.get("properties") or {}).get("name", "")).endswith(_CRS84):
        raise InputError("has coordinates in another system than WGS-84", where=path, hint="Export it in EPSG:4326.")
    shapes: list[Any] = []
    for geometry in _polygons_of(data, path):
        try:
            shape = shapely.make_valid(shapely.from_geojson(json.dumps(geometry)))
        except (shapely.errors.GEOSException, ValueError) as error:
            raise InputError(f"holds a broken {geometry['type']} ({error})", where=path) from error
        if not shape.is_empty:
            west, south, east, north = shape.bounds
            if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
                hint = "GeoJSON has longitude, latitude in degrees WGS-84."
                raise InputError(f"has coordinates out of range: up to {east:g},{north:g}", where=path, hint=hint)
        shapes.append(shape)
    union = shapely.union_all(shapes)
    if union.area <= 0:
        raise InputError("holds no polygon with an area", where=path, hint="Draw a Polygon or a MultiPolygon.")
    return union


def _polygons_of(data: Any, path: Path) -> list[dict[str, Any]]:
    """Return the polygons of a GeoJSON object, also those inside features and collections."""
    kind = data.get("type") if isinstance(data, dict) else None
    for collection, members in (("FeatureCollection", "features"), ("GeometryCollection", "geometries")):
        if kind == collection and isinstance(data.get(members), list):
            return [shape for one in data[members] for shape in _polygons_of(one, path)]
    if kind == "Feature":
        return _polygons_of(data.get("geometry"), path)
    if kind in ("Polygon", "MultiPolygon") and isinstance(data.get("coordinates"), list):
        return [data]
    hint = "Use Polygon, MultiPolygon, or features or collections of them."
    got = f"a {kind}" if isinstance(kind, str) else "an object without a type"
    raise InputError(f"expected GeoJSON polygons, got {got}", where=path, hint=hint)


def select_places(places: Sequence[Place], extract: Extract, selection: Selection) -> list[int]:
    """Return the indices of the selected places, ascending; the extract contains the boundaries by name.

    Raises:
        InputError: No boundary or several have the name, or no place is selected.
    """
    lnglat = coordinates_of(places)
    keep = np.ones(len(places), bool)
    if selection.bbox is not None:
        keep &= in_box(selection.bbox, *lnglat.T)
    shapes = [] if selection.polygon is None else [read_polygon(selection.polygon)]
    shapes += [] if selection.place is None else [find_boundary(extract, selection.place)]
    for shape in shapes:
        shapely.prepare(shape)
        keep &= shapely.contains_xy(shape, lnglat)
    rows = np.flatnonzero(keep)
    if len(places) and not len(rows):
        extent = ",".join(f"{v:.4f}" for v in (*lnglat.min(axis=0).tolist(), *lnglat.max(axis=0).tolist()))
        hint = f"Its places lie in {extent} (west,south,east,north)."
        if selection.bbox is not None and (warning := swapped_box_warning(selection.bbox, *lnglat.T)):
            hint = f"{warning}. {hint}"
        raise InputError("no place of the extract is selected", hint=hint)
    return [int(row) for row in rows]


def find_boundary(extract: Extract, name: str) -> Any:
    """Return the polygon with a name or OSM id; if several have the name, the one that contains the others.

    Raises:
        InputError: No boundary has the name, or several that do not contain each other.
    """
    named: dict[str, list[NamedShape]] = defaultdict(list)
    wanted = name.strip().lower() if _OSM_ID.fullmatch(name.strip().lower()) else reading_key(name)
    for shapes in ([*extract.admins, *extract.regions], extract.areas):
        for shape in shapes:
            texts = [v for k, v in shape.tags.items() if k in NAME_KEYS or k.startswith(NAME_PREFIX)]
            keys = {reading_key(part) for text in texts for part in text.split(";")} - {""}
            for key in {shape.osm_id} | keys:
                named[key].append(shape)
        if named.get(wanted):
            return _outermost(named[wanted], name)
    near = difflib.get_close_matches(reading_key(name), [n for n in named if not _OSM_ID.fullmatch(n)], n=3, cutoff=0.6)
    shown = list(dict.fromkeys(named[n][0].tags["name"] for n in near))
    hint = f"Do you mean {' or '.join(shown)}?" if shown else "Give the name of a boundary or of a named area."
    raise InputError(f"no boundary of the extract is called {name!r}", hint=hint)


def _outermost(shapes: list[NamedShape], name: str) -> Any:
    best = max(shapes, key=lambda f: f.shape.area)
    others = [f for f in shapes if not shapely.contains(best.shape, shapely.point_on_surface(f.shape))]
    if others:
        centroids = [(f.osm_id, f.shape.centroid) for f in [best, *others][:4]]
        shown = ", ".join(f"{osm_id} at {centre.x:.3f},{centre.y:.3f}" for osm_id, centre in centroids)
        raise InputError(f"several boundaries are called {name!r}: {shown}", hint="Give the id of one of them.")
    return best.shape


def limit_places(places: Sequence[Place], limit: int, seed: int) -> list[int]:
    """Return the indices of at most ``limit`` places, ascending, a stratified sample over categories and space.

    Each category key gets places in proportion to its size. Within a key, so does each cell of a k-d tree, to within
    one place. The tree halves space at the median of the longer side, down to ``LEAF`` places.
    """
    if limit >= len(places):
        return list(range(len(places)))
    rng = np.random.default_rng([seed, 11])
    xy = projection_of(places).metres(coordinates_of(places))
    by_key: dict[str, list[int]] = defaultdict(list)
    for i in _kd_order(xy, rng).tolist():
        by_key[places[i].category[0]].append(i)
    shares = _shares(Counter({key: len(slots) for key, slots in by_key.items()}), limit, rng)
    out: list[int] = []
    for key in sorted(by_key):
        if shares[key]:
            step = len(by_key[key]) / shares[key]
            picks = np.floor((np.arange(shares[key]) + rng.random()) * step).astype(int)
            out += [by_key[key][pick] for pick in picks.tolist()]
    return sorted(out)


def _shares(counts: Counter[str], limit: int, rng: np.random.Generator) -> dict[str, int]:
    """Divide ``limit`` in proportion to ``counts`` by the largest remainder method, with ties in random order."""
    total = counts.total()
    keys = sorted(counts)
    whole = {key: counts[key] * limit // total for key in keys}
    order = rng.permutation(len(keys)).tolist()
    left = sorted(order, key=lambda n: -(counts[keys[n]] * limit % total))
    for n in left[: limit - sum(whole.values())]:
        whole[keys[n]] += 1
    return whole


def _kd_order(xy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order (N, 2) points so that each cell of a k-d tree is contiguous; shuffle the points of each leaf."""
    stack, out = [np.arange(len(xy))], []
    while stack:
        cell = stack.pop()
        if len(cell) <= LEAF:
            out.append(rng.permutation(cell))
            continue
        axis = int(np.argmax(np.ptp(xy[cell], axis=0)))
        cell = cell[np.argsort(xy[cell, axis], kind="stable")]
        stack += [cell[len(cell) // 2 :], cell[: len(cell) // 2]]
    return np.concatenate(out)
