"""Reading an OpenStreetMap extract: one pass of osmium, areas assembled. Coordinates are (lng, lat) degrees, WGS-84."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import shapely

from m3gal_cli.data.coordinates import Datum, to_wgs84
from m3gal_cli.data.files import require_file
from m3gal_cli.data.osm.tags import category_of, is_named_area
from m3gal_cli.errors import InputError

SUFFIXES = (".osm.pbf", ".pbf", ".osm", ".osm.gz", ".osm.bz2")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Feature:
    """A tagged thing of the extract.

    Attributes:
        osm_id: "n", "w" or "r" (node, way, relation) and the number, as in "w123".
        tags: The OSM tags.
        shape: A point (nodes), line (open ways) or polygon (closed ways and multipolygon relations) in degrees.
    """

    osm_id: str
    tags: dict[str, str]
    shape: Any


@dataclass
class Extract:
    """What the later steps need of an extract.

    Attributes:
        places: Named things that people look for, and addresses without a name.
        roads: Named streets as lines.
        areas: Named polygons that contain other places (compounds, campuses, malls, parks).
        admins: Administrative boundaries as polygons.
        settlements: Nodes with place=* (suburb, village, city ...), for where no boundary is known.
    """

    places: list[Feature] = field(default_factory=list)
    roads: list[Feature] = field(default_factory=list)
    areas: list[Feature] = field(default_factory=list)
    admins: list[Feature] = field(default_factory=list)
    settlements: list[Feature] = field(default_factory=list)


def check_suffix(path: Path) -> None:
    """Raise InputError unless the file's name says that it is an extract."""
    if not path.name.lower().endswith(SUFFIXES):
        hint = f"An extract's name ends in one of {', '.join(SUFFIXES)}."
        raise InputError("is not called like an OpenStreetMap extract", where=path, hint=hint)


def read_extract(path: Path, datum: Datum = "wgs84", progress: Progress | None = None) -> Extract:
    """Read an extract whole.

    Args:
        path: .osm.pbf, .pbf, .osm, .osm.gz or .osm.bz2.
        datum: Datum of the file's coordinates; converted to WGS-84 here.
        progress: Called as (step, done, total) with total 0 where it is not known.

    Raises:
        InputError: missing, empty, wrongly named or broken file.
    """
    require_file(path, "OpenStreetMap extract")
    check_suffix(path)
    found = Extract()
    factory = osmium.geom.WKBFactory()
    try:
        stream = osmium.FileProcessor(str(path)).with_areas().with_filter(osmium.filter.EmptyTagFilter())
        for number, thing in enumerate(stream):
            if progress is not None and number % 5000 == 0:
                progress("reading", number, 0)
            feature = _feature(thing, factory)
            if feature is not None:
                _sort_in(feature, found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:120]
        hint = "Fetch the extract again and compare its size with the source's."
        raise InputError(f"truncated or corrupt extract ({reason})", where=path, hint=hint) from error
    if datum != "wgs84":
        _convert(found, datum)
    return found


def _feature(thing: Any, factory: Any) -> Feature | None:
    """A shaped feature, or None for what has no usable shape or would come twice."""
    if thing.is_node():
        if not thing.location.valid():
            return None
        return Feature(f"n{thing.id}", dict(thing.tags), shapely.Point(thing.location.lon, thing.location.lat))
    if thing.is_area():
        letter = "w" if thing.from_way() else "r"
        try:
            shape = shapely.from_wkb(bytes.fromhex(factory.create_multipolygon(thing)))
        except (RuntimeError, ValueError, shapely.errors.GEOSException):  # a ring that closes on nothing
            return None
        if shape.is_empty or shape.area <= 0:
            return None
        return Feature(f"{letter}{thing.orig_id()}", dict(thing.tags), shape)
    if thing.is_way():
        tags = dict(thing.tags)
        if thing.is_closed() and "highway" not in tags:
            return None  # comes again as an area
        spots = [(n.location.lon, n.location.lat) for n in thing.nodes if n.location.valid()]
        return Feature(f"w{thing.id}", tags, shapely.LineString(spots)) if len(spots) > 1 else None
    return None  # relations come as areas


def _sort_in(feature: Feature, found: Extract) -> None:
    """Put a feature into the lists that it belongs to."""
    tags, kind = feature.tags, feature.shape.geom_type
    named = bool(tags.get("name", "").strip())
    if kind == "LineString" and "highway" in tags and (feature.shape.is_closed or category_of(tags) is None):
        if named:
            found.roads.append(feature)  # a closed one comes again as an area
        return
    if kind in ("Polygon", "MultiPolygon") and named:
        if tags.get("boundary") == "administrative" and tags.get("admin_level", "").isdigit():
            found.admins.append(feature)
            return
        if is_named_area(tags):
            found.areas.append(feature)
    if (
        named
        and kind == "Point"
        and tags.get("place") in ("city", "town", "village", "suburb", "quarter", "neighbourhood")
    ):
        found.settlements.append(feature)
    if category_of(tags) is not None:
        found.places.append(feature)


def _convert(found: Extract, datum: Datum) -> None:
    """Convert every shape from ``datum`` to WGS-84 in place."""

    def there(xy: np.ndarray) -> np.ndarray:
        return np.stack(to_wgs84(xy[:, 0], xy[:, 1], datum), axis=-1)

    for name in ("places", "roads", "areas", "admins", "settlements"):
        features: list[Feature] = getattr(found, name)
        shapes = shapely.transform(np.array([f.shape for f in features], dtype=object), there) if features else []
        setattr(found, name, [Feature(f.osm_id, f.tags, s) for f, s in zip(features, shapes, strict=True)])
