"""GeoTES candidate records: a query, the passages (POIs) that it means and those that it does not.

File form, one JSON object a line: ``query``, ``query_gis[-1]="lng,lat"`` (optional, where the query was typed),
``positive_passages[]`` and ``negative_passages[]``, each ``{docid?, text, gis[-1]="lng,lat"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from m3gal_cli.data.coordinates import Datum, to_wgs84
from m3gal_cli.data.files import atomic_text, require_file, suffix_of
from m3gal_cli.data.published import load_published_dataset
from m3gal_cli.data.tables import COORDINATE_DECIMALS, read_json_lines
from m3gal_cli.errors import InputError

PoiKey = tuple[str, float, float]


@dataclass(frozen=True)
class Passage:
    """A POI as a candidate: its text and place (degrees, WGS-84)."""

    text: str
    lng: float
    lat: float
    docid: str | None = None

    @property
    def key(self) -> PoiKey:
        """What makes two passages the same place: text and coordinates (to about a centimetre)."""
        return poi_key(self.text, self.lng, self.lat)


@dataclass(frozen=True)
class Record:
    """One query with its candidates; positives come first in ``passages``."""

    query: str
    positives: list[Passage]
    negatives: list[Passage]
    query_id: str | None = None
    lng: float | None = None
    lat: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def passages(self) -> list[Passage]:
        return self.positives + self.negatives

    @property
    def gold(self) -> set[PoiKey]:
        return {p.key for p in self.positives}


def poi_key(text: str, lng: float, lat: float) -> PoiKey:
    """The identity of a POI row: rows equal in text and coordinates are the same place."""
    return text.strip(), round(lng, COORDINATE_DECIMALS - 1), round(lat, COORDINATE_DECIMALS - 1)


def resolve_records(path: Path) -> Path:
    """``path``, or its .jsonl twin if only that exists: we write .jsonl where the published code pickled .pth."""
    if not path.exists() and path.suffix == ".pth" and path.with_suffix(".jsonl").exists():
        return path.with_suffix(".jsonl")
    return path


def read_records(path: Path, datum: Datum = "wgs84") -> list[Record]:
    """Read candidate records from .jsonl (.gz) or from a dataset that the published code pickled (.pth).

    Raises:
        InputError: with file:line for broken JSON, a missing or empty field, a coordinate that is none, or a record
            with no positive passage; for a .pth that holds anything but the one published class.
    """
    path = resolve_records(path)
    require_file(path, "candidate records")
    if suffix_of(path) == ".pth":
        rows: Sequence[Any] = load_published_dataset(path)
        return [_record(row, f"{path}: record {number}", datum) for number, row in enumerate(rows, 1)]
    return [_record(row, f"{path}:{number}", datum) for number, row in read_json_lines(path)]


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as .jsonl (.gz), atomically, coordinates in WGS-84."""
    with atomic_text(path) as file:
        for record in records:
            file.write(json.dumps(record_to_json(record), ensure_ascii=False) + "\n")


def record_to_json(record: Record) -> dict[str, Any]:
    """The file form of a record (see the module's docstring)."""
    here = "" if record.lng is None or record.lat is None else _lnglat(record.lng, record.lat)
    row: dict[str, Any] = {} if record.query_id is None else {"query_id": record.query_id}
    row |= {"query": record.query, "query_gis": [[], [], [], [], [], record.query, here]}
    row["positive_passages"] = [_passage_to_json(p) for p in record.positives]
    row["negative_passages"] = [_passage_to_json(p) for p in record.negatives]
    return row | record.extra


def passages_frame(records: Iterable[Record]) -> pd.DataFrame:
    """The distinct passages of records as a POI table (address, lng, lat), in order of first appearance."""
    seen: dict[PoiKey, Passage] = {}
    for record in records:
        for passage in record.passages:
            seen.setdefault(passage.key, passage)
    rows = [(p.text, p.lng, p.lat) for p in seen.values()]
    return pd.DataFrame(rows, columns=["address", "lng", "lat"])


def _lnglat(lng: float, lat: float) -> str:
    return f"{round(lng, COORDINATE_DECIMALS)!r},{round(lat, COORDINATE_DECIMALS)!r}"


def _passage_to_json(passage: Passage) -> dict[str, Any]:
    row: dict[str, Any] = {} if passage.docid is None else {"docid": passage.docid}
    return row | {"text": passage.text, "gis": [[], [], [], [], [], passage.text, _lnglat(passage.lng, passage.lat)]}


def _record(row: Any, where: str, datum: Datum) -> Record:
    if not isinstance(row, dict):
        raise InputError(f"expected a record, got {type(row).__name__}", where=where)
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"expected a query, got {query!r}", where=f"{where}: query", hint="Delete or fill the record.")
    positives = _passages(row, "positive_passages", where, datum)
    negatives = _passages(row, "negative_passages", where, datum)
    if not positives:
        hint = "Every record needs at least one positive passage; delete it or add one."
        raise InputError("the record has no positive passage", where=f"{where}: positive_passages", hint=hint)
    gis = row.get("query_gis")
    lng = lat = None
    if isinstance(gis, list) and gis and isinstance(gis[-1], str) and gis[-1].strip():
        lng, lat = parse_lnglat(gis[-1], f"{where}: query_gis", datum)
    query_id = row.get("query_id")
    return Record(query, positives, negatives, None if query_id is None else str(query_id), lng, lat)


def _passages(row: dict[str, Any], name: str, where: str, datum: Datum) -> list[Passage]:
    found = row.get(name, [])
    if not isinstance(found, list):
        raise InputError(f"expected a list, got {type(found).__name__}", where=f"{where}: {name}")
    passages = []
    for number, item in enumerate(found):
        at = f"{where}: {name}[{number}]"
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"expected a passage with a text, got {str(item)[:60]!r}", where=at)
        gis = item.get("gis")
        if not isinstance(gis, list) or not gis or not isinstance(gis[-1], str):
            raise InputError(f'expected gis[-1]="lng,lat", got {str(gis)[:60]!r}', where=f"{at}.gis")
        lng, lat = parse_lnglat(gis[-1], f"{at}.gis", datum)
        docid = item.get("docid")
        passages.append(Passage(text, lng, lat, None if docid is None else str(docid)))
    return passages


def parse_lnglat(text: str, where: str, datum: Datum = "wgs84") -> tuple[float, float]:
    """``"lng,lat"`` in degrees to WGS-84 floats. Raises InputError naming what is wrong."""
    parts = text.split(",")
    try:
        lng, lat = (float(p) for p in parts)
    except ValueError as error:
        hint = "Write longitude, comma, latitude in degrees."
        raise InputError(f'expected "lng,lat", got {text!r}', where=where, hint=hint) from error
    if not (abs(lng) <= 180.0 and abs(lat) <= 90.0):  # also refuses NaN
        swapped = abs(lng) <= 90.0 < abs(lat) <= 180.0
        what = f"({lng:g}, {lat:g}) is no place in degrees" + (": lng and lat look swapped" if swapped else "")
        raise InputError(what, where=where, hint="lng in [-180, 180] comes before lat in [-90, 90].")
    if datum == "wgs84":
        return lng, lat
    x, y = to_wgs84(lng, lat, datum)
    return float(x), float(y)
