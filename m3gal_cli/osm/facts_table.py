"""Write the facts of every place as a GeoParquet table, one row for each place; unknown values are null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from m3gal_cli.data.geoparquet import point_writer
from m3gal_cli.data.tables import COORDINATE_DECIMALS
from m3gal_cli.osm.facts import Facts, Reference
from m3gal_cli.osm.places import Place, Tags, name_in
from m3gal_cli.osm.tags import NAME_KEYS, NAME_PREFIX
from m3gal_cli.osm.views import Slots, first_text

ROW_GROUP = 50_000
COLUMNS = (
    "poi_id", "name", "category", "words", "brand", "alt_names",
    "street", "street_by_address", "street_metres", "street_bearing", "housenumber",
    "crossing_a", "crossing_b", "crossing_metres", "crossing_bearing",
    "area", "area_id", "area_metres", "area_bearing",
    "landmark", "landmark_id", "landmark_metres", "landmark_bearing",
    "neighbour", "neighbour_id", "neighbour_metres", "neighbour_bearing",
    "admin", "settlement", "district", "city", "group", "lng", "lat",
)  # fmt: skip
_NEVER_NULL = {"poi_id", "category", "street_by_address", "group", "lng", "lat"}
_TYPES = {"street_by_address": pa.bool_(), "group": pa.int64(), "lng": pa.float64(), "lat": pa.float64()}


def _type_of(column: str) -> pa.DataType:
    return _TYPES.get(column) or (pa.float32() if column.endswith(("_metres", "_bearing")) else pa.string())


SCHEMA = pa.schema([pa.field(c, _type_of(c), nullable=c not in _NEVER_NULL) for c in COLUMNS])


def facts_row(place: Place, facts: Facts, slots: Slots, group: int) -> dict[str, Any]:
    """Return the values of ``COLUMNS`` for a place; unknown values are None.

    Name, words, brand, district and city are the first wordings of the slots, or come from tags and facts.
    """
    crossing_a, crossing_b = facts.crossing_streets or (None, None)
    row = {
        "poi_id": place.poi_id,
        "name": first_text(slots, "name") or place.name,
        "category": "=".join(filter(None, place.category)),
        "words": first_text(slots, "words"),
        "brand": first_text(slots, "brand") or _first_value(place.tags, "brand"),
        "alt_names": _alternative_names(place.tags),
        "street": facts.street.name if facts.street else "",
        "street_by_address": facts.by_address,
        **_direction("street", facts.street),
        "housenumber": _first_value(place.tags, "addr:housenumber"),
        "crossing_a": _name(crossing_a),
        "crossing_b": _name(crossing_b),
        **_direction("crossing", facts.crossing),
        **_object("area", facts.area),
        **_object("landmark", facts.landmark),
        **_object("neighbour", next(iter(facts.neighbours), None)),
        "admin": _admin_chain(tuple((level, _name(tags)) for level, tags in facts.admins.items())),
        "settlement": _name(facts.settlement),
        "district": first_text(slots, "district") or facts.district,
        "city": first_text(slots, "city") or place.tags.get("addr:city") or _name(facts.city),
        "group": group,
        "lng": round(place.lng, COORDINATE_DECIMALS),
        "lat": round(place.lat, COORDINATE_DECIMALS),
    }
    return {column: None if value == "" else value for column, value in row.items()}


def _direction(name: str, reference: Reference | None) -> dict[str, float | None]:
    """Return distance and bearing (degrees) from an object to the place."""
    metres, bearing = (reference.metres, reference.bearing) if reference else (math.nan, math.nan)
    return {f"{name}_metres": _known(metres), f"{name}_bearing": _known(bearing)}


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _object(name: str, reference: Reference | None) -> dict[str, Any]:
    """Return name, OSM id, distance and bearing of an object near the place."""
    text, osm_id = (reference.name, reference.osm_id) if reference else ("", "")
    return {name: text, f"{name}_id": osm_id, **_direction(name, reference)}


def _first_value(tags: Mapping[str, str], key: str) -> str:
    return tags.get(key, "").split(";")[0].strip()


def _name(tags: Tags | None) -> str:
    return name_in(tags) if tags else ""


def _alternative_names(tags: Tags) -> str:
    """Return other names and names in other languages as JSON, OSM key -> name; "" for none."""
    names = {k: v for k, v in tags.items() if k != "name" and (k in NAME_KEYS or k.startswith(NAME_PREFIX))}
    return json.dumps(names, ensure_ascii=False) if names else ""


@lru_cache(maxsize=4096)
def _admin_chain(admins: tuple[tuple[int, str], ...]) -> str:
    """Return the boundaries around a place as JSON, level -> name, largest first; "" for none."""
    return json.dumps({str(level): name for level, name in sorted(admins)}, ensure_ascii=False) if admins else ""


@contextmanager
def facts_writer(path: Path, row_group: int = ROW_GROUP) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open a GeoParquet file, which appears at ``path`` when the ``with`` block ends without an error.

    Yields a function that adds the row of a place (see ``facts_row``). At most ``row_group`` rows are in memory.
    """
    rows: list[dict[str, Any]] = []
    with point_writer(path, SCHEMA) as points:

        def flush() -> None:
            points.write({column: [row[column] for row in rows] for column in COLUMNS})
            rows.clear()

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            if len(rows) >= row_group:
                flush()

        yield add
        flush()
