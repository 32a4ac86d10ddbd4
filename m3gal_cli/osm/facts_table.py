"""The facts of every place as a GeoParquet table, a row a place. What is not known is null, never an empty text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from m3gal_cli.data.geoparquet import PointWriter, point_writer
from m3gal_cli.data.tables import COORDINATE_DECIMALS
from m3gal_cli.osm.facts import Facts, Reference, Tags
from m3gal_cli.osm.places import Place, name_in
from m3gal_cli.osm.tags import NAME_KEYS, NAME_PREFIX

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
        self._rows: list[tuple[Any, ...]] = []

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
        self._rows.append(_row(place, fact, fields, group))
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = dict(zip(SCHEMA.names, zip(*self._rows, strict=True), strict=True)) if self._rows else {}
        for field in SCHEMA:
            if field.type == _TEXT and columns:
                columns[field.name] = tuple(text or None for text in columns[field.name])
        if columns:
            self._writer.write(columns)
        self._rows = []


def _row(place: Place, fact: Facts, fields: Mapping[str, tuple[str, ...]], group: int) -> tuple[Any, ...]:
    """The values of a place in the order of ``SCHEMA``."""
    key, value = place.category
    tags = place.tags
    one, two, way = fact.crossing or (None, None, None)
    return (
        place.poi_id,
        _told(fields, "name") or place.name,
        f"{key}={value}" if value else key,
        _told(fields, "words"),
        _told(fields, "brand") or tags.get("brand", "").split(";")[0].strip(),
        _alternatives(tags),
        _name(fact.street),
        fact.by_address,
        fact.street_metres,
        fact.street_bearing,
        tags.get("addr:housenumber", "").split(";")[0].strip(),
        _name(one),
        _name(two),
        way and way.metres,
        way and way.bearing,
        _name(fact.area),
        fact.area_id,
        fact.area_metres,
        fact.area_bearing,
        *_other_place(fact.landmark),
        *_other_place(fact.neighbour),
        _chain(tuple((level, _name(boundary)) for level, boundary in fact.admins.items())),
        _name(fact.settlement),
        _told(fields, "district") or fact.district,
        _told(fields, "city") or tags.get("addr:city") or _name(fact.city),
        group,
        round(place.lng, COORDINATE_DECIMALS),
        round(place.lat, COORDINATE_DECIMALS),
    )


def _told(fields: Mapping[str, tuple[str, ...]], name: str) -> str:
    return next(iter(fields.get(name, ())), "")


def _name(tags: Tags | None) -> str:
    return name_in(tags) if tags else ""


def _other_place(other: Reference | None) -> tuple[str, str, float | None, float | None]:
    return ("", "", None, None) if other is None else (other.name, other.poi_id, other.metres, other.bearing)


def _alternatives(tags: Tags) -> str:
    """Other names and names in other languages: JSON, OSM key -> name."""
    names = {k: v for k, v in tags.items() if k != "name" and (k in NAME_KEYS or k.startswith(NAME_PREFIX))}
    return json.dumps(names, ensure_ascii=False) if names else ""


@lru_cache(maxsize=4096)
def _chain(admins: tuple[tuple[int, str], ...]) -> str:
    """The boundaries around a place: JSON, level -> name, the largest first."""
    return json.dumps({str(level): name for level, name in sorted(admins)}, ensure_ascii=False) if admins else ""
