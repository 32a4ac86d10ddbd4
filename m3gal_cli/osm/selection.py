"""Which places of an extract to describe: those of a box, a polygon or a named boundary, and how many of them.

What lies outside still counts for the places inside: their streets, crossings, landmarks, areas and boundaries.
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
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.files import open_text, require_file
from m3gal_cli.geo.coordinates import METRES_PER_DEGREE
from m3gal_cli.geo.projection import Frame
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.tags import NAME_KEYS, NAME_PREFIX
from m3gal_cli.text.normalise import reads

if TYPE_CHECKING:
    from m3gal_cli.osm.extract import Extract, Feature

Bbox = tuple[float, float, float, float]

CONTEXT_M = 25_000.0  # more than the reach of any fact
LEAF = 8  # places in the smallest cells over which a limit is spread
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([km]?)", re.IGNORECASE)
_OSM_ID = re.compile(r"[wr]\d+")
_POLYGONS = ("Polygon", "MultiPolygon")
_CRS84 = ("CRS84", "EPSG:4326", "EPSG::4326")


@dataclass(frozen=True)
class Selection:
    """What to select; a place must meet all that is given. All coordinates are degrees WGS-84.

    Attributes:
        bbox: West, south, east, north; the edges belong to it.
        polygon: GeoJSON file with a Polygon, MultiPolygon, Feature or FeatureCollection (all of its polygons).
        place: Name of a boundary in the extract, in any language and case, or its OSM id ("r1155955"). A named area
            (park, campus ...) will do where no boundary has the name.
    """

    bbox: Bbox | None = None
    polygon: Path | None = None
    place: str | None = None

    def check(self) -> None:
        """Raise InputError for what makes no sense, a polygon file included."""
        if self.bbox is not None:
            _check_bbox(self.bbox)
        if self.polygon is not None:
            read_polygon(self.polygon)
        if self.place is not None and not reads(self.place):
            raise InputError("the name of the place is empty", hint="Name a boundary of the extract.")

    def window(self) -> Bbox | None:
        """The box that holds all that can be told of the places selected: ``CONTEXT_M`` on all sides of the box and the
        polygon. None where they do not bound it (a boundary is known only once the extract is read). An extract need
        not be read beyond; then which names are alone of their kind is decided within it.
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


def parse_bbox(text: str) -> Bbox:
    """``"west,south,east,north"`` in degrees. Raises InputError."""
    parts = text.split(",")
    try:
        west, south, east, north = (float(part) for part in parts)
    except ValueError:
        hint = "Give west,south,east,north in degrees, as in 24.90,60.15,24.99,60.20."
        raise InputError(f"{text!r} is not a bounding box", hint=hint) from None
    _check_bbox((west, south, east, north))
    return west, south, east, north


def _check_bbox(bbox: Bbox) -> None:
    west, south, east, north = bbox
    shown = ",".join(f"{v:g}" for v in bbox)
    if not all(map(math.isfinite, bbox)) or max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        hint = "Longitude comes first: west,south,east,north, longitudes up to 180, latitudes up to 90."
        raise InputError(f"bounding box {shown} leaves the globe", hint=hint)
    if west >= east or south >= north:
        hint = "West comes before east and south before north; a box across the 180th meridian takes two runs."
        raise InputError(f"bounding box {shown} is empty", hint=hint)


def parse_count(text: str) -> int:
    """A number of places: ``"5000"``, ``"100k"``, ``"2.5m"``. Raises InputError unless it is a whole one from 1 on."""
    match = _COUNT.fullmatch(text.strip())
    count = float(match[1]) * {"": 1, "k": 1e3, "m": 1e6}[match[2].lower()] if match else 0.0
    if count < 1 or abs(count - round(count)) > 1e-6:
        raise InputError(f"{text!r} is not a number of places", hint="Give a whole number such as 5000, 100k or 2.5m.")
    return round(count)


def read_polygon(path: Path) -> Any:
    """The union of the polygons of a GeoJSON file, degrees WGS-84. Raises InputError for anything else."""
    require_file(path, "GeoJSON file")
    try:
        with open_text(path) as file:
            data = json.load(file)
    except (ValueError, OSError) as error:
        raise InputError(f"is no JSON ({error})", where=path, hint="Give a GeoJSON file.") from error
    crs = data.get("crs") if isinstance(data, dict) else None
    if crs is not None and not str((crs.get("properties") or {}).get("name", "")).endswith(_CRS84):
        raise InputError("has coordinates of another system than WGS-84", where=path, hint="Export it in EPSG:4326.")
    found: list[Any] = []
    for shape in _geometries(data, path):
        try:
            drawn = shapely.make_valid(shapely.from_geojson(json.dumps(shape)))
        except (shapely.errors.GEOSException, ValueError) as error:
            raise InputError(f"holds a broken {shape['type']} ({error})", where=path) from error
        _check_degrees(drawn, path)
        found.append(drawn)
    union = shapely.union_all(found)
    if union.area <= 0:
        raise InputError("holds no polygon with an area", where=path, hint="Draw a Polygon or a MultiPolygon.")
    return union


def _geometries(data: Any, path: Path) -> list[dict[str, Any]]:
    """The polygons of a GeoJSON object, through features and collections."""
    kind = data.get("type") if isinstance(data, dict) else None
    if kind == "FeatureCollection" and isinstance(data.get("features"), list):
        return [shape for feature in data["features"] for shape in _geometries(feature, path)]
    if kind == "GeometryCollection" and isinstance(data.get("geometries"), list):
        return [shape for one in data["geometries"] for shape in _geometries(one, path)]
    if kind == "Feature":
        return _geometries(data.get("geometry"), path)
    if kind in _POLYGONS and isinstance(data.get("coordinates"), list):
        return [data]
    hint = "Only Polygon, MultiPolygon, and features or collections of them can select."
    raise InputError(f"holds {_shown(kind)} where GeoJSON polygons are wanted", where=path, hint=hint)


def _shown(kind: object) -> str:
    return f"a {kind}" if isinstance(kind, str) else "something without a type"


def _check_degrees(shape: Any, path: Path) -> None:
    if not shape.is_empty:
        west, south, east, north = shape.bounds
        if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
            hint = "GeoJSON has longitude, latitude in degrees WGS-84."
            raise InputError(f"reaches to {east:g},{north:g}, off the globe", where=path, hint=hint)


def select_places(
    places: Sequence[Place], extract: Extract, selection: Selection, limit: int | None, seed: int
) -> list[int]:
    """Rows of the places to describe, ascending; all of them if nothing is selected.

    Args:
        places: The places.
        extract: Where boundaries are looked up by name.
        selection: What to select.
        limit: Places at most. They are spread in proportion over kinds of place (the key of the category), and those
            of a kind over space: halve the places again and again at the middle of the longer side, down to ``LEAF``
            of them, and in every cell on the way a kind has its share to within one place.
        seed: Chooses among those that are alike.

    Raises:
        InputError: a name that no boundary or several have, nothing selected, a limit below 1.
    """
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    lnglat = np.array([(p.lng, p.lat) for p in places]).reshape(-1, 2)
    keep = np.ones(len(places), bool)
    if selection.bbox is not None:
        west, south, east, north = selection.bbox
        keep &= (lnglat >= (west, south)).all(axis=1) & (lnglat <= (east, north)).all(axis=1)
    for shape in _shapes(extract, selection):
        shapely.prepare(shape)
        keep &= shapely.contains_xy(shape, lnglat)
    rows = np.flatnonzero(keep)
    if len(places) and not len(rows):
        extent = ",".join(f"{v:.4f}" for v in (*lnglat.min(axis=0).tolist(), *lnglat.max(axis=0).tolist()))
        hint = f"Its places lie in {extent} (west,south,east,north)."
        raise InputError("nothing of the extract is selected", hint=hint)
    if limit is None or limit >= len(rows):
        return [int(row) for row in rows]
    chosen = [places[row] for row in rows.tolist()]
    return sorted(int(rows[slot]) for slot in _spread(chosen, limit, np.random.default_rng([seed, 11])))


def _shapes(extract: Extract, selection: Selection) -> list[Any]:
    shapes = [] if selection.polygon is None else [read_polygon(selection.polygon)]
    return shapes if selection.place is None else [*shapes, find_boundary(extract, selection.place)]


def find_boundary(extract: Extract, name: str) -> Any:
    """The polygon of that name or OSM id; of several the one that holds the others. Raises InputError."""
    named: dict[str, list[Feature]] = defaultdict(list)
    for features in ([*extract.admins, *extract.regions], extract.areas):
        for feature in features:
            for reading in _readings(feature):
                named[reading].append(feature)
        found = named.get(name.strip().lower() if _OSM_ID.fullmatch(name.strip().lower()) else reads(name))
        if found:
            return _largest(found, name)
    near = difflib.get_close_matches(reads(name), [n for n in named if not _OSM_ID.fullmatch(n)], n=3, cutoff=0.6)
    shown = list(dict.fromkeys(named[n][0].tags["name"] for n in near))
    hint = f"Do you mean {' or '.join(shown)}?" if shown else "Boundaries and areas with a name can be selected."
    raise InputError(f"no boundary of the extract is called {name!r}", hint=hint)


def _readings(feature: Feature) -> set[str]:
    texts = [v for k, v in feature.tags.items() if k in NAME_KEYS or k.startswith(NAME_PREFIX)]
    return {feature.osm_id} | {reads(part) for text in texts for part in text.split(";") if reads(part)}


def _largest(found: list[Feature], name: str) -> Any:
    best = max(found, key=lambda f: f.shape.area)
    others = [f for f in found if not shapely.contains(best.shape, shapely.point_on_surface(f.shape))]
    if others:
        shown = ", ".join(
            f"{f.osm_id} at {f.shape.centroid.x:.3f},{f.shape.centroid.y:.3f}" for f in [best, *others][:4]
        )
        raise InputError(f"several boundaries are called {name!r}: {shown}", hint="Give the id of the one you mean.")
    return best.shape


def _spread(places: list[Place], limit: int, rng: np.random.Generator) -> list[int]:
    """``limit`` of the places, in proportion over kinds and, within a kind, over the cells of a k-d tree."""
    lnglat = np.array([(p.lng, p.lat) for p in places])
    by_kind: dict[str, list[int]] = defaultdict(list)
    for slot in _along_cells(Frame(places).metres(lnglat), rng).tolist():
        by_kind[places[slot].category[0]].append(slot)
    shares = _shares(Counter({kind: len(slots) for kind, slots in by_kind.items()}), limit, rng)
    out: list[int] = []
    for kind in sorted(by_kind):
        if shares[kind]:
            step = len(by_kind[kind]) / shares[kind]
            picks = np.floor((np.arange(shares[kind]) + rng.random()) * step).astype(int)
            out += [by_kind[kind][pick] for pick in picks.tolist()]
    return out


def _shares(counts: Counter[str], limit: int, rng: np.random.Generator) -> dict[str, int]:
    """``limit`` in proportion to ``counts``, rounded by the largest remainders, equal ones by chance."""
    total = counts.total()
    kinds = sorted(counts)
    whole = {kind: counts[kind] * limit // total for kind in kinds}
    order = rng.permutation(len(kinds)).tolist()
    left = sorted(order, key=lambda n: -(counts[kinds[n]] * limit % total))
    for n in left[: limit - sum(whole.values())]:
        whole[kinds[n]] += 1
    return whole


def _along_cells(where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An order of (N, 2) points in which every cell of a k-d tree is one stretch; within the leaves it is random."""
    waiting, out = [np.arange(len(where))], []
    while waiting:
        cell = waiting.pop()
        if len(cell) <= LEAF:
            out.append(rng.permutation(cell))
            continue
        axis = int(np.argmax(np.ptp(where[cell], axis=0)))
        cell = cell[np.argsort(where[cell, axis], kind="stable")]
        waiting += [cell[len(cell) // 2 :], cell[: len(cell) // 2]]
    return np.concatenate(out) if out else np.zeros(0, np.int64)
