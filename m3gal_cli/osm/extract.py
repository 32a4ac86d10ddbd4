"""Reading an OpenStreetMap extract: a stream of osmium, areas assembled. Coordinates are (lng, lat) degrees, WGS-84.

Most of an extract is of no use here (three things in four have neither a name nor an address), so osmium's filters pass
it over before Python sees it. Places keep a point; only roads, areas and boundaries keep a shape.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder, require_file
from m3gal_cli.geo.coordinates import Datum, to_wgs84
from m3gal_cli.osm.memory import give_back
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.read_offset import Offset
from m3gal_cli.osm.tags import (
    KEPT,
    NAME_PREFIX,
    REGIONS,
    SEEN_KEYS,
    SETTLEMENTS,
    UNNAMED_KEYS,
    category_of,
    is_named_area,
    part_of,
)

SUFFIXES = (".osm.pbf", ".pbf", ".osm", ".osm.gz", ".osm.bz2")
Progress = Callable[[str, int, int], None]
Window = tuple[float, float, float, float]
DENSE_FROM_BYTES = 50e9  # from here on node ids leave few gaps, and an array by id is the smaller store
FIXED = 1e7  # OSM's coordinates are whole multiples of a ten-millionth of a degree
BATCH = 8192  # shapes made at a time
LOOK = 256  # things between two looks at how far the file is read
_OWN = ("name", "wiki")  # tags whose values mostly come once
ROAD_TAGS = frozenset({"name", "highway", "layer", "bridge", "tunnel"})


@dataclass(frozen=True, slots=True)
class Feature:
    """A named thing with a shape.

    Attributes:
        osm_id: "n", "w" or "r" (node, way, relation) and the number, as in "w123".
        tags: The OSM tags that somebody reads. Do not change: like ones share a dictionary.
        shape: A point (nodes), line (open ways) or polygon (closed ways and multipolygon relations) in degrees.
    """

    osm_id: str
    tags: dict[str, str]
    shape: Any


class Roads:
    """Named streets as lines, kept as arrays: a country has millions of pieces of them.

    Attributes:
        tags: Of every piece; the pieces of a street mostly share a dictionary.
    """

    def __init__(self) -> None:
        self.tags: list[dict[str, str]] = []
        self._points = [np.zeros((0, 2), np.int32)]
        self._sizes = [np.zeros(0, np.int64)]

    def extend(self, tags: list[dict[str, str]], lines: np.ndarray) -> None:
        """Append pieces: their tags, and (n,) lines in degrees."""
        self.tags += tags
        self._points.append(np.rint(shapely.get_coordinates(lines) * FIXED).astype(np.int32))
        self._sizes.append(shapely.get_num_coordinates(lines).astype(np.int64))

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """(P, 2) degrees of the points of all pieces, one after another, and (R,) numbers of points of each."""
        if len(self._sizes) > 1:
            self._points, self._sizes = [np.concatenate(self._points)], [np.concatenate(self._sizes)]
        return self._points[0] / FIXED, self._sizes[0]

    def lines(self) -> np.ndarray:
        """All pieces as (R,) shapely lines in degrees."""
        points, sizes = self.coordinates()
        return np.asarray(shapely.linestrings(points, indices=np.repeat(np.arange(len(sizes)), sizes)), dtype=object)

    def __len__(self) -> int:
        return len(self.tags)


@dataclass
class Extract:
    """What the later steps need of an extract, each in the order of the file.

    Attributes:
        places: Named things that people look for, and addresses without a name.
        parts: Things without a name that may be told by the compound around them (gates, car parks ...).
        roads: Named streets as lines.
        areas: Named polygons that contain other places (compounds, campuses, malls, parks).
        admins: Administrative boundaries as polygons.
        regions: Other named polygons of settlements, suburbs and the like.
        settlements: Nodes with place=* (suburb, village, city ...), for where no boundary is known.
    """

    places: list[Place] = field(default_factory=list)
    parts: list[Place] = field(default_factory=list)
    roads: Roads = field(default_factory=Roads)
    areas: list[Feature] = field(default_factory=list)
    admins: list[Feature] = field(default_factory=list)
    regions: list[Feature] = field(default_factory=list)
    settlements: list[Feature] = field(default_factory=list)


def check_suffix(path: Path) -> None:
    """Raise InputError unless the file's name says that it is an extract."""
    if not path.name.lower().endswith(SUFFIXES):
        hint = f"An extract's name ends in one of {', '.join(SUFFIXES)}; of a POI table: m3gal data table."
        raise InputError("is not called like an OpenStreetMap extract", where=path, hint=hint)


def read_extract(
    path: Path,
    datum: Datum = "wgs84",
    progress: Progress | None = None,
    node_store: Path | None = None,
    window: Window | None = None,
) -> Extract:
    """Read an extract, whole or what touches a window of it.

    Args:
        path: .osm.pbf, .pbf, .osm, .osm.gz or .osm.bz2.
        datum: Datum of the file's coordinates; converted to WGS-84 here.
        progress: Called as ("reading", bytes read, bytes in all), often, and at the end.
        node_store: A new file for the locations of all nodes (16 bytes each; 8 bytes an id for a planet), instead of
            memory. Removed at the end.
        window: West, south, east, north, degrees WGS-84: what lies outside is left out, so that a town can be cut from
            a planet in the memory that a town takes. See ``Selection.window``.

    Raises:
        InputError: missing, empty, wrongly named or broken file; a node store that exists or cannot be written.
    """
    require_file(path, "OpenStreetMap extract")
    check_suffix(path)
    tell = progress or (lambda step, done, total: None)
    sorter = _Sorter(datum, window)
    with _locations(path, node_store) as locations, _no_cycles():
        try:
            for thing in _stream(path, locations, tell):
                sorter.take(thing)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            hint = "Fetch the extract again and compare its size with the source's."
            raise InputError(f"truncated or corrupt extract ({reason})", where=path, hint=hint) from error
    sorter.flush()
    give_back()
    return sorter.found


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Spare the search for cycles of references, of which reading makes none, among millions of new objects."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _locations(path: Path, store: Path | None) -> Iterator[Any]:
    """Osmium's table of node locations, in memory or in a file of its own that goes in the end."""
    if store is None:
        yield osmium.index.create_map("flex_mem")
        return
    if store.exists():
        raise InputError(
            "the node store exists already", where=store, hint="Name a new file; it is removed at the end."
        )
    make_folder(store.parent)
    kind = "dense_file_array" if path.stat().st_size >= DENSE_FROM_BYTES else "sparse_file_array"
    try:
        yield osmium.index.create_map(f"{kind},{store}")
    finally:
        store.unlink(missing_ok=True)


def _stream(path: Path, locations: Any, tell: Progress) -> Iterator[Any]:
    """Nodes, open ways and areas that carry one of ``SEEN_KEYS``, while telling how far the file is read."""
    total = path.stat().st_size
    tell("reading", 0, total)
    seen = osmium.filter.KeyFilter(*SEEN_KEYS)
    stream = osmium.FileProcessor(str(path)).with_locations(locations).with_areas(seen).with_filter(seen)
    offset = Offset(path)
    for number, thing in enumerate(stream):
        if number % LOOK == 0:
            tell("reading", min(offset.bytes(), total), total)
        yield thing
    tell("reading", total, total)


@dataclass(slots=True)
class _Waiting:
    """A thing whose shape is still to be made: hexadecimal WKB, or None for a node."""

    osm_id: str
    tags: dict[str, str]
    category: tuple[str, str] | None
    wkb: str | None
    lng: float = 0.0
    lat: float = 0.0


class _Sorter:
    """Sorts things into the lists of an Extract, making shapes a batch at a time."""

    def __init__(self, datum: Datum, window: Window | None) -> None:
        self.found = Extract()
        self._datum = datum
        self._window = window
        self._factory = osmium.geom.WKBFactory()
        self._waiting: list[_Waiting] = []
        self._texts: dict[str, str] = {}  # values come again and again; each is kept once
        self._roads: dict[str, dict[str, str]] = {}

    def take(self, thing: Any) -> None:
        """Take a thing of the stream, if it is one that an Extract has a list for."""
        if thing.is_node():
            point = thing.location
            if point.valid() and self._may_hold(point):
                tags = self._tags(thing.tags)
                category = category_of(tags)
                if category or part_of(tags) or _is_named_place(tags, SETTLEMENTS):
                    self._waiting.append(_Waiting(f"n{thing.id}", tags, category, None, point.lon, point.lat))
        elif thing.is_way():
            if not thing.is_closed() or "highway" in thing.tags:  # other closed ones come again as areas
                tags = self._tags(thing.tags)
                category = category_of(tags)
                if (category or part_of(tags) or _is_road(tags)) and (line := self._line(thing)):
                    self._waiting.append(_Waiting(f"w{thing.id}", tags, category, line))
        elif thing.is_area():
            tags = self._tags(thing.tags)
            category = category_of(tags)
            if (category or part_of(tags) or _contains(tags)) and (polygon := self._polygon(thing)):
                letter = "w" if thing.from_way() else "r"
                self._waiting.append(_Waiting(f"{letter}{thing.orig_id()}", tags, category, polygon))
        if len(self._waiting) >= BATCH:
            self.flush()

    def _may_hold(self, point: Any) -> bool:
        """Whether a node can lie in the window; a shifted one is looked at when it is converted."""
        if self._window is None or self._datum != "wgs84":
            return True
        west, south, east, north = self._window
        return bool(west <= point.lon <= east and south <= point.lat <= north)

    def _tags(self, tags: Any) -> dict[str, str]:
        """The tags that somebody reads; of a thing without a name those of an address or a part of a compound."""
        if not tags.get("name"):
            get, keep = tags.get, self._texts.setdefault
            return {key: keep(value, value) for key in UNNAMED_KEYS if (value := get(key)) is not None}
        return {
            sys.intern(tag.k): tag.v if tag.k.startswith(_OWN) else self._texts.setdefault(tag.v, tag.v)
            for tag in tags
            if tag.k in KEPT or tag.k.startswith(NAME_PREFIX)
        }

    def _line(self, way: Any) -> str | None:
        try:
            return str(self._factory.create_linestring(way))
        except (RuntimeError, ValueError, osmium.InvalidLocationError):  # a way that leaves the extract: what is inside
            spots = [(n.location.lon, n.location.lat) for n in way.nodes if n.location.valid()]
            return shapely.to_wkb(shapely.LineString(spots), hex=True) if len(set(spots)) > 1 else None

    def _polygon(self, area: Any) -> str | None:
        try:
            return str(self._factory.create_multipolygon(area))
        except (RuntimeError, ValueError, osmium.InvalidLocationError):  # a ring that closes on nothing
            return None

    def flush(self) -> None:
        """Make the shapes of what waits and sort it in."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        shapes = shapely.points([(w.lng, w.lat) for w in waiting])
        drawn = [n for n, w in enumerate(waiting) if w.wkb is not None]
        if drawn:
            shapes[drawn] = shapely.from_wkb([waiting[n].wkb for n in drawn], on_invalid="ignore")
        usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        usable &= (shapely.get_dimensions(shapes) < 2) | (shapely.area(shapes) > 0)
        if self._datum != "wgs84":
            shapes[usable] = shapely.transform(shapes[usable], self._to_wgs84)
        if self._window is not None:
            bounds, (west, south, east, north) = shapely.bounds(shapes), self._window
            usable &= (
                (bounds[:, 0] <= east) & (bounds[:, 2] >= west) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
            )
        shapes = shapes[usable]
        points = inner_points(shapes)
        kept = [w for w, good in zip(waiting, usable, strict=True) if good]
        roads = np.array([self._sort_in(*row) for row in zip(kept, shapes, points.tolist(), strict=True)], bool)
        self.found.roads.extend(
            [self._road_tags(w.tags) for w, road in zip(kept, roads, strict=True) if road], shapes[roads]
        )

    def _to_wgs84(self, xy: np.ndarray) -> np.ndarray:
        return np.stack(to_wgs84(xy[:, 0], xy[:, 1], self._datum), axis=-1)

    def _sort_in(self, one: _Waiting, shape: Any, point: tuple[float, float]) -> bool:
        """Put a thing into the lists that it belongs to; True for a piece of a street, which the caller puts away."""
        tags, found, category = one.tags, self.found, one.category
        named = bool(tags.get("name", "").strip())
        kind = shape.geom_type
        if kind == "LineString" and "highway" in tags and (category is None or shape.is_closed):
            return named  # a closed one comes again as an area
        if named and kind in ("Polygon", "MultiPolygon"):
            if _is_admin(tags):
                found.admins.append(Feature(one.osm_id, tags, shape))
                return False
            if is_named_area(tags):
                found.areas.append(Feature(one.osm_id, tags, shape))
            elif tags.get("place") in REGIONS:
                found.regions.append(Feature(one.osm_id, tags, shape))
        if kind == "Point" and _is_named_place(tags, SETTLEMENTS):
            found.settlements.append(Feature(one.osm_id, tags, shape))
        if category is not None:
            found.places.append(Place(one.osm_id, tags, category, *point))
        elif (part := part_of(tags)) is not None:
            found.parts.append(Place(one.osm_id, tags, part, *point))
        return False

    def _road_tags(self, tags: dict[str, str]) -> dict[str, str]:
        """The tags of a street that somebody reads; the pieces of a street mostly share one dictionary."""
        slim = {k: v for k, v in tags.items() if k in ROAD_TAGS or k.startswith(NAME_PREFIX)}
        return self._roads.setdefault("|".join(f"{k}={v}" for k, v in slim.items()), slim)


def _is_road(tags: dict[str, str]) -> bool:
    return "highway" in tags and bool(tags.get("name", "").strip())


def _is_admin(tags: dict[str, str]) -> bool:
    return tags.get("boundary") == "administrative" and tags.get("admin_level", "").isdigit()


def _is_named_place(tags: dict[str, str], kinds: frozenset[str]) -> bool:
    return tags.get("place") in kinds and bool(tags.get("name", "").strip())


def _contains(tags: dict[str, str]) -> bool:
    """Whether an area with these tags is kept for what lies in it."""
    named = bool(tags.get("name", "").strip())
    return named and (_is_admin(tags) or is_named_area(tags) or tags.get("place") in REGIONS)


def inner_points(shapes: Any) -> np.ndarray:
    """A point inside each shape: the centroid where it lies inside, else one on the surface; a line's middle.

    Shape:
        N shapes -> (N, 2), in the order of axes of the shapes.
    """
    shapes = np.asarray(shapes, dtype=object)
    if not len(shapes):
        return np.zeros((0, 2))
    points = shapely.centroid(shapes)
    dimensions = shapely.get_dimensions(shapes)
    lines, polygons = dimensions == 1, dimensions == 2
    points[lines] = shapely.line_interpolate_point(shapes[lines], 0.5, normalized=True)
    outside = np.zeros(len(shapes), bool)
    outside[polygons] = ~shapely.contains(shapes[polygons], points[polygons])
    points[outside] = shapely.point_on_surface(shapes[outside])
    return shapely.get_coordinates(points)
