"""Read an OpenStreetMap extract with osmium.

Three objects in four have neither a name nor an address: osmium's filters skip them in C++, before they reach Python.
Places are kept as points; only roads, areas and boundaries keep their shape.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder, require_file
from m3gal_cli.geo.datums import Datum, to_wgs84
from m3gal_cli.osm.extract import Extract, NamedShape
from m3gal_cli.osm.places import Place, Tags
from m3gal_cli.osm.tags import (
    KEPT_KEYS,
    NAME_PREFIX,
    REGIONS,
    REQUIRED_KEYS,
    SETTLEMENTS,
    UNNAMED_KEYS,
    category_of,
    has_name,
    is_named_area,
    part_category_of,
)

SUFFIXES = (".osm.pbf", ".pbf", ".osm", ".osm.gz", ".osm.bz2")
DENSE_FROM_BYTES = 50e9  # node ids of files this large have few gaps: an array by id is smaller than a list of ids
BATCH = 8192  # shapes made at a time
PROGRESS_EVERY = 1000  # objects between two progress calls
ROAD_KEYS = frozenset({"name", "highway", "layer", "bridge", "tunnel"})
_UNIQUE_VALUES = ("name", "wiki")  # prefixes of keys whose values rarely repeat: sharing them saves no memory
_SHAPE_ERRORS = (RuntimeError, ValueError, osmium.InvalidLocationError)

Progress = Callable[[str, int, int], None]
Window = tuple[float, float, float, float]


def read_extract(
    path: Path,
    datum: Datum = "wgs84",
    progress: Progress | None = None,
    node_store: Path | None = None,
    window: Window | None = None,
    *,
    batch: int = BATCH,
    dense_from_bytes: float = DENSE_FROM_BYTES,
    progress_every: int = PROGRESS_EVERY,
) -> Extract:
    """Read an extract, or the objects that touch a window.

    Args:
        path: .osm.pbf, .pbf, .osm, .osm.gz or .osm.bz2.
        datum: Datum of the file's coordinates; they are converted to WGS-84.
        progress: Called with ("reading", bytes read, total bytes).
        node_store: A new file that keeps the coordinates of all nodes in place of memory: 16 bytes a node, or 8 bytes
            an id for files from ``dense_from_bytes`` on. It is removed at the end.
        window: West, south, east, north in degrees WGS-84; objects outside are skipped. See ``Selection.window``.
        batch: Number of shapes made at a time.
        dense_from_bytes: See ``node_store``.
        progress_every: Number of objects between two progress calls.

    Raises:
        InputError: The file is missing, empty, wrongly named or corrupt, or the node store exists or is not writable.
    """
    require_file(path, "OpenStreetMap extract")
    if not path.name.lower().endswith(SUFFIXES):
        hint = f"Use a file that ends in {', '.join(SUFFIXES)}; for a POI table run m3gal data table."
        raise InputError("does not have the suffix of an OpenStreetMap extract", where=path, hint=hint)
    dense = path.stat().st_size >= dense_from_bytes
    collector = _Collector(datum, window, batch)
    with _node_locations(node_store, dense=dense) as locations, _without_garbage_collection():
        try:
            for entity in _stream(path, locations, progress or (lambda *_: None), progress_every):
                collector.add(entity)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:120]
            hint = "Download the extract again and compare its size with the source."
            raise InputError(f"truncated or corrupt extract ({reason})", where=path, hint=hint) from error
    collector.flush()
    release_memory()
    return collector.extract


def release_memory() -> None:
    """Return freed memory to the system, if the C library can (glibc): a third of it after a country."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection: reading makes millions of objects and no reference cycle."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _node_locations(store: Path | None, *, dense: bool) -> Iterator[Any]:
    """Yield osmium's table of node locations, in memory or in a file that is removed at the end."""
    if store is None:
        yield osmium.index.create_map("flex_mem")
        return
    if store.exists():
        hint = "Give --node-store the name of a new file; it is removed at the end."
        raise InputError("the node store exists already", where=store, hint=hint)
    make_folder(store.parent)
    try:
        yield osmium.index.create_map(f"{'dense' if dense else 'sparse'}_file_array,{store}")
    finally:
        store.unlink(missing_ok=True)


def _stream(path: Path, locations: Any, progress: Progress, every: int) -> Iterator[Any]:
    """Yield nodes, open ways and areas with one of ``REQUIRED_KEYS``, and report the bytes read."""
    done, total = 0, path.stat().st_size
    progress("reading", done, total)
    named = osmium.filter.KeyFilter(*REQUIRED_KEYS)
    stream = osmium.FileProcessor(str(path)).with_locations(locations).with_areas(named).with_filter(named)
    for number, entity in enumerate(stream):
        if number % every == 0:
            done = min(max(done, _file_position(path)), total)
            progress("reading", done, total)
        yield entity
    progress("reading", total, total)


def _file_position(path: Path) -> int:
    """Return the position of osmium in a file, from the descriptor that it opened in this process; 0 without one."""
    file = path.stat()
    for descriptor in range(256):
        with suppress(OSError):  # not open, or just closed by a thread of osmium
            if os.path.samestat(os.fstat(descriptor), file):
                return os.lseek(descriptor, 0, os.SEEK_CUR)
    return 0


@dataclass(slots=True)
class _Pending:
    """An object without its shape; ``wkb`` is hexadecimal, or None for a node at lng, lat."""

    osm_id: str
    tags: Tags
    category: tuple[str, str] | None
    wkb: str | None
    lng: float = 0.0
    lat: float = 0.0


class _Collector:
    """Sorts osmium's objects into the lists of an Extract and makes their shapes in batches."""

    def __init__(self, datum: Datum, window: Window | None, batch: int) -> None:
        self.extract = Extract()
        self._datum, self._window, self._batch = datum, window, batch
        self._factory = osmium.geom.WKBFactory()
        self._pending: list[_Pending] = []
        self._values: dict[str, str] = {}  # tag values repeat: each is kept once
        self._road_tags: dict[str, Tags] = {}

    def add(self, entity: Any) -> None:
        """Keep an object of the stream if it is a place, a part, a street, an area, a boundary or a settlement."""
        if entity.is_node():
            point = entity.location
            if not point.valid() or self._is_outside(point):
                return
            tags = self._tags(entity.tags)
            category = category_of(tags)
            if category or part_category_of(tags) or _is_settlement(tags):
                self._pending.append(_Pending(f"n{entity.id}", tags, category, None, point.lon, point.lat))
        elif entity.is_way():
            if entity.is_closed() and "highway" not in entity.tags:  # osmium yields it again as an area
                return
            tags = self._tags(entity.tags)
            category = category_of(tags)
            road = "highway" in tags and has_name(tags)
            if (category or part_category_of(tags) or road) and (line := self._line(entity)):
                self._pending.append(_Pending(f"w{entity.id}", tags, category, line))
        elif entity.is_area():
            tags = self._tags(entity.tags)
            category = category_of(tags)
            if (category or part_category_of(tags) or _is_container(tags)) and (polygon := self._polygon(entity)):
                letter = "w" if entity.from_way() else "r"
                self._pending.append(_Pending(f"{letter}{entity.orig_id()}", tags, category, polygon))
        if len(self._pending) >= self._batch:
            self.flush()

    def _is_outside(self, point: Any) -> bool:
        """Return whether a node lies outside the window; nodes of other datums are tested after conversion."""
        if self._window is None or self._datum != "wgs84":
            return False
        west, south, east, north = self._window
        return not (west <= point.lon <= east and south <= point.lat <= north)

    def _tags(self, tags: Any) -> Tags:
        """Return the tags that the program reads; without a name only those of addresses and parts."""
        if not tags.get("name"):
            get, keep = tags.get, self._values.setdefault
            return {key: keep(value, value) for key in UNNAMED_KEYS if (value := get(key)) is not None}
        return {
            sys.intern(tag.k): tag.v if tag.k.startswith(_UNIQUE_VALUES) else self._values.setdefault(tag.v, tag.v)
            for tag in tags
            if tag.k in KEPT_KEYS or tag.k.startswith(NAME_PREFIX)
        }

    def _line(self, way: Any) -> str | None:
        try:
            return str(self._factory.create_linestring(way))
        except _SHAPE_ERRORS:  # the way leaves the extract: keep the part inside
            points = [(n.location.lon, n.location.lat) for n in way.nodes if n.location.valid()]
            return shapely.to_wkb(shapely.LineString(points), hex=True) if len(set(points)) > 1 else None

    def _polygon(self, area: Any) -> str | None:
        try:
            return str(self._factory.create_multipolygon(area))
        except _SHAPE_ERRORS:  # the ring is invalid
            return None

    def flush(self) -> None:
        """Make the shapes of the pending objects and put the objects into the lists of the extract."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        shapes = shapely.points([(p.lng, p.lat) for p in pending])
        with_wkb = [n for n, p in enumerate(pending) if p.wkb is not None]
        if with_wkb:
            shapes[with_wkb] = shapely.from_wkb([pending[n].wkb for n in with_wkb], on_invalid="ignore")
        usable = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        usable &= (shapely.get_dimensions(shapes) < 2) | (shapely.area(shapes) > 0)
        if self._datum != "wgs84":
            shapes[usable] = shapely.transform(
                shapes[usable], lambda xy: np.stack(to_wgs84(xy[:, 0], xy[:, 1], self._datum), axis=-1)
            )
        if self._window is not None:
            (x0, y0, x1, y1), (west, south, east, north) = shapely.bounds(shapes).T, self._window
            usable &= (x0 <= east) & (x1 >= west) & (y0 <= north) & (y1 >= south)
        shapes = shapes[usable]
        points = inner_points(shapes)
        kept = [p for p, good in zip(pending, usable, strict=True) if good]
        roads = np.array([self._sort(*row) for row in zip(kept, shapes, points.tolist(), strict=True)], bool)
        tags = [self._tags_of_road(p.tags) for p, road in zip(kept, roads, strict=True) if road]
        self.extract.roads.extend(tags, shapes[roads])

    def _sort(self, pending: _Pending, shape: Any, point: tuple[float, float]) -> bool:
        """Put an object into the lists of the extract; return whether it is a street, which the caller keeps."""
        tags, out, category = pending.tags, self.extract, pending.category
        named, kind = has_name(tags), shape.geom_type
        if kind == "LineString" and "highway" in tags and (category is None or shape.is_closed):
            return named  # osmium yields a closed one again as an area
        if named and kind in ("Polygon", "MultiPolygon"):
            area = NamedShape(pending.osm_id, tags, shape)
            if _is_admin(tags):
                out.admins.append(area)
                return False
            if is_named_area(tags):
                out.areas.append(area)
            elif tags.get("place") in REGIONS:
                out.regions.append(area)
        if kind == "Point" and _is_settlement(tags):
            out.settlements.append(NamedShape(pending.osm_id, tags, shape))
        if category is not None:
            out.places.append(Place(pending.osm_id, tags, category, *point))
        elif (part := part_category_of(tags)) is not None:
            out.parts.append(Place(pending.osm_id, tags, part, *point))
        return False

    def _tags_of_road(self, tags: Tags) -> Tags:
        """Return the tags of a street that the program reads; all pieces with equal tags share one dictionary."""
        kept = {k: v for k, v in tags.items() if k in ROAD_KEYS or k.startswith(NAME_PREFIX)}
        return self._road_tags.setdefault("|".join(f"{k}={v}" for k, v in kept.items()), kept)


def _is_admin(tags: Tags) -> bool:
    return tags.get("boundary") == "administrative" and tags.get("admin_level", "").isdigit()


def _is_settlement(tags: Tags) -> bool:
    return tags.get("place") in SETTLEMENTS and has_name(tags)


def _is_container(tags: Tags) -> bool:
    """Return whether a polygon with these tags is kept for the places inside."""
    return has_name(tags) and (_is_admin(tags) or is_named_area(tags) or tags.get("place") in REGIONS)


def inner_points(shapes: Any) -> np.ndarray:
    """Return a point of each shape: the middle of a line; the centroid of a polygon if inside, else an inner point.

    Shape:
        N shapes -> (N, 2), in the axis order of the shapes.
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
