"""The facts of every place as a GeoParquet table, a row a place. What is not known is null, never an empty text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from m3gal_cli.data.geoparquet import PointWriter, point_writer
from m3gal_cli.data.osm.facts import Facts, Reference, Tags
from m3gal_cli.data.osm.places import Place, name_in
from m3gal_cli.data.osm.tags import NAME_KEYS, NAME_PREFIX
from m3gal_cli.data.tables import COORDINATE_DECIMALS

ROW_GROUP = 50_000

_TEXT, _METRES = pa.string(), pa.float32()


def _way(name: str) -> list[tuple[str, pa.DataType]]:
    return [(f"{name}_metres", _METRES), (f"{name}_bearing", _METRES)]


def _other(name: str) -> list[tuple[str, pa.DataType]]:
    return [(name, _TEXT), (f"{name}_id", _TEXT), *_way(name)]


SCHEMA = pa.schema(
    [
        pa.field("poi_id", _TEXT, nullable=False),
        pa.field("name", _TEXT),
        pa.field("category", _TEXT, nullable=False),  # "key=value", or "address"
        *((name, _TEXT) for name in ("words", "brand", "alt_names", "street")),  # alt_names: JSON, OSM key -> name
        pa.field("street_by_address", pa.bool_(), nullable=False),
        *_way("street"),
        *((name, _TEXT) for name in ("housenumber", "crossing_a", "crossing_b")),
        *_way("crossing"),
        *_other("area"),
        *_other("landmark"),
        *_other("neighbour"),
        *((name, _TEXT) for name in ("admin", "settlement", "district", "city")),  # admin: JSON, level -> name
        pa.field("group", pa.int64(), nullable=False),  # places that read the same share it
        pa.field("lng", pa.float64(), nullable=False),
        pa.field("lat", pa.float64(), nullable=False),
    ]
)


class FactsWriter:
    """Writes ``facts_<suffix>.parquet`` a place at a time; the file appears when the ``with`` block ends well.

    Metres and degrees as in ``Facts``: from the thing that is named to the place. Memory is that of one row group.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}

    def __enter__(self) -> Self:
        self._writer: PointWriter = self._stack.enter_context(point_writer(self._path, SCHEMA))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)  # leaves no file
            return
        with self._stack:
            self._flush()

    def add(self, place: Place, fact: Facts, fields: Mapping[str, tuple[str, ...]], group: int) -> None:
        """Add a place.

        Args:
            place, fact: The place and what is known of it.
            fields: What the locale makes of it (see ``fields``). ``name``, ``words``, ``brand``, ``district`` and
                ``city`` are read; where one is absent, what the map says is taken.
            group: Equal for places that read the same.
        """
        row = _row(place, fact, {name: texts[0] for name, texts in fields.items() if texts})
        row["group"] = group
        for name, column in self._columns.items():
            column.append(row.get(name) if row.get(name) != "" else None)
        if len(self._columns["poi_id"]) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write(self._columns)
        self._columns = {name: [] for name in SCHEMA.names}


def _row(place: Place, fact: Facts, told: Mapping[str, str]) -> dict[str, Any]:
    key, value = place.category
    tags = place.tags
    alternatives = {k: v for k, v in tags.items() if k != "name" and (k in NAME_KEYS or k.startswith(NAME_PREFIX))}
    row: dict[str, Any] = {
        "poi_id": place.poi_id,
        "name": told.get("name", place.name),
        "category": f"{key}={value}" if value else key,
        "words": told.get("words"),
        "brand": told.get("brand") or tags.get("brand", "").split(";")[0].strip(),
        "alt_names": _json(alternatives),
        "street": _name(fact.street),
        "street_by_address": fact.by_address,
        "street_metres": fact.street_metres,
        "street_bearing": fact.street_bearing,
        "housenumber": tags.get("addr:housenumber", "").split(";")[0].strip(),
        "area": _name(fact.area),
        "area_id": fact.area_id,
        "area_metres": fact.area_metres,
        "area_bearing": fact.area_bearing,
        "admin": _json({str(level): _name(boundary) for level, boundary in sorted(fact.admins.items())}),
        "settlement": _name(fact.settlement),
        "district": told.get("district") or fact.district,
        "city": told.get("city") or tags.get("addr:city") or _name(fact.city),
        "lng": round(place.lng, COORDINATE_DECIMALS),
        "lat": round(place.lat, COORDINATE_DECIMALS),
    }
    if fact.crossing is not None:
        one, two, way = fact.crossing
        row |= {"crossing_a": _name(one), "crossing_b": _name(two)}
        row |= {"crossing_metres": way.metres, "crossing_bearing": way.bearing}
    return row | _told_by("landmark", fact.landmark) | _told_by("neighbour", fact.neighbour)


def _told_by(kind: str, other: Reference | None) -> dict[str, Any]:
    if other is None:
        return {}
    return {kind: other.name, f"{kind}_id": other.poi_id} | {
        f"{kind}_metres": other.metres,
        f"{kind}_bearing": other.bearing,
    }


def _name(tags: Tags | None) -> str:
    return name_in(tags) if tags else ""


def _json(value: dict[str, str]) -> str | None:
    return json.dumps(value, ensure_ascii=False) if value else None
