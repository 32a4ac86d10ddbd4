"""GeoTES candidate records: a query with its positive and negative passages (POIs).

File format, one JSON object a line: ``query``, ``query_gis[-1]="lng,lat"`` (optional, the query location),
``positive_passages[]`` and ``negative_passages[]``, each ``{docid?, text, gis[-1]="lng,lat"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.compat.legacy_pickle import load_published_dataset, resolve_dataset
from m3gal_cli.data.duplicates import PlaceKey, first_by_key, place_key
from m3gal_cli.data.tables import COORDINATE_DECIMALS, iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, require_file, suffix_of
from m3gal_cli.geo.coordinates import parse_lnglat
from m3gal_cli.geo.datums import Datum, to_wgs84
from m3gal_cli.geo.distances import haversine_m

NEAR_M, FAR_M = 2_000.0, 10_000.0  # limits of the query slices by distance between query location and gold
_KEYS = frozenset({"query", "query_gis", "query_id", "positive_passages", "negative_passages"})
_GIS = "[[], [], [], [], [], {text}, {place}]"  # the published code reads the last element only


@dataclass(frozen=True, slots=True)
class Passage:
    """A candidate POI: address text and coordinates in degrees, WGS-84."""

    text: str
    lng: float
    lat: float
    docid: str | None = None

    @property
    def key(self) -> PlaceKey:
        """The ``place_key`` of the passage."""
        return place_key(self.text, self.lng, self.lat)


@dataclass(frozen=True, slots=True)
class Record:
    """A query with its candidates."""

    query: str
    positives: list[Passage]  # POIs that the query means
    negatives: list[Passage]  # other POIs
    query_id: str | None = None
    lng: float | None = None  # query location in degrees, WGS-84, if it is known
    lat: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # other keys of the file, which are written back

    @property
    def passages(self) -> list[Passage]:
        """All candidates, positives first."""
        return self.positives + self.negatives

    @property
    def gold(self) -> set[PlaceKey]:
        """Keys of the positives."""
        return {p.key for p in self.positives}


def distinct_passages(records: Iterable[Record]) -> list[Passage]:
    """Return the first passage of each place, in order of first occurrence."""
    return first_by_key((p for record in records for p in record.passages), lambda passage: passage.key)


def query_distances_m(records: Sequence[Record]) -> NDArray[np.float64]:
    """Return metres from each query location to its nearest positive; NaN if the location is unknown."""
    out = np.full(len(records), np.nan)
    for i, record in enumerate(records):
        if record.lng is not None and record.lat is not None:
            out[i] = min(haversine_m(record.lng, record.lat, p.lng, p.lat) for p in record.positives)
    return out


def read_records(path: Path, datum: Datum = "wgs84") -> list[Record]:
    """Read candidate records from .jsonl (.gz) or from a pickled dataset of the published code (.pth).

    For a missing .pth the .jsonl of the same name is read. Coordinates are converted from ``datum`` to WGS-84.

    Raises:
        InputError: A record is invalid or has no positive passage (at file:line: key), or the file is unreadable.
    """
    path = resolve_dataset(path)
    require_file(path, "candidate records")
    known: dict[Any, Passage] = {}
    if suffix_of(path) == ".pth":
        rows = load_published_dataset(path)
        records = [_record(row, f"{path}: record {number}", known) for number, row in enumerate(rows, 1)]
    else:
        records = [_record(row, f"{path}:{number}", known) for number, row in iter_json_lines(path)]
    if not records:
        raise InputError("the file contains no records", where=path, hint="Make or fetch it again.")
    return records if datum == "wgs84" else _converted(records, datum)


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as .jsonl (.gz), atomically, coordinates in WGS-84."""
    encoder = RecordEncoder()
    with atomic_text(path) as file:
        for record in records:
            file.write(encoder.encode(record) + "\n")


class RecordEncoder:
    """Encodes records as JSON, in the published key order.

    Records share most of their passages, so the JSON of up to ``cache_size`` passages is cached. The key is ``id()``,
    because equal passages may differ as text (0.0 == -0.0, 1 == 1.0).
    """

    def __init__(self, cache_size: int = 200_000) -> None:
        self._json = json.JSONEncoder(ensure_ascii=False).encode
        self._cache_size = cache_size
        self._encoded: dict[int, str] = {}
        self._alive: list[Passage] = []  # Python would reuse the id of a passage that was freed

    def encode(self, record: Record) -> str:
        """Return the JSON object of a record, without a line break."""
        query, place = self._json(record.query), _lnglat(record.lng, record.lat)
        pairs = [] if record.query_id is None else [f'"query_id": {self._json(record.query_id)}']
        pairs += [f'"query": {query}', f'"query_gis": {_GIS.format(text=query, place=place)}']
        for name, passages in (("positive_passages", record.positives), ("negative_passages", record.negatives)):
            pairs.append(f'"{name}": [{", ".join([self._passage(passage) for passage in passages])}]')
        pairs += [self._json(record.extra)[1:-1]] if record.extra else []
        return f"{{{', '.join(pairs)}}}"

    def _passage(self, passage: Passage) -> str:
        encoded = self._encoded.get(id(passage))
        if encoded is None:
            if len(self._alive) >= self._cache_size:
                self._encoded.clear()
                self._alive.clear()
            text, place = self._json(passage.text), _lnglat(passage.lng, passage.lat)
            docid = "" if passage.docid is None else f'"docid": {self._json(passage.docid)}, '
            encoded = f'{{{docid}"text": {text}, "gis": {_GIS.format(text=text, place=place)}}}'
            self._encoded[id(passage)] = encoded
            self._alive.append(passage)
        return encoded


def _lnglat(lng: float | None, lat: float | None) -> str:
    """Return coordinates as a JSON string, "" if they are unknown."""
    if lng is None or lat is None:
        return '""'
    return f'"{round(lng, COORDINATE_DECIMALS)!r},{round(lat, COORDINATE_DECIMALS)!r}"'


def _converted(records: list[Record], datum: Datum) -> list[Record]:
    """Return the records with coordinates converted to WGS-84, all in one call of ``to_wgs84``."""
    places = {(p.lng, p.lat) for record in records for p in record.passages}
    places |= {(r.lng, r.lat) for r in records if r.lng is not None and r.lat is not None}
    old = list(places)
    lng, lat = to_wgs84([x for x, _ in old], [y for _, y in old], datum)
    new = dict(zip(old, zip(lng.tolist(), lat.tolist(), strict=True), strict=True))

    def moved(passages: list[Passage]) -> list[Passage]:
        return [Passage(p.text, *new[p.lng, p.lat], p.docid) for p in passages]

    out = []
    for r in records:
        here = (None, None) if r.lng is None or r.lat is None else new[r.lng, r.lat]
        out.append(replace(r, positives=moved(r.positives), negatives=moved(r.negatives), lng=here[0], lat=here[1]))
    return out


def _record(row: Any, where: str, known: dict[Any, Passage]) -> Record:
    """Return a record from its JSON object; ``known`` holds the passages so far, which records share."""
    if not isinstance(row, dict):
        raise InputError(f"expected a record, got {type(row).__name__}", where=where)
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"expected a query, got {query!r}", where=f"{where}: query", hint="Delete or fill the record.")
    positives = _passages(row, "positive_passages", where, known)
    negatives = _passages(row, "negative_passages", where, known)
    if not positives:
        hint = "Every record needs at least one positive passage: delete it or add one."
        raise InputError("the record has no positive passage", where=f"{where}: positive_passages", hint=hint)
    lng, lat = _query_location(row.get("query_gis"), f"{where}: query_gis")
    query_id = row.get("query_id")
    extra = {key: value for key, value in row.items() if key not in _KEYS}
    return Record(query, positives, negatives, None if query_id is None else str(query_id), lng, lat, extra)


def _query_location(gis: Any, where: str) -> tuple[float, float] | tuple[None, None]:
    """Return the query location; it is unknown if ``gis`` is null, an empty list, or ends with an empty element."""
    if gis is None or gis == [] or (isinstance(gis, list) and gis[-1] in (None, [], "")):
        return None, None
    if not isinstance(gis, list) or not isinstance(gis[-1], str):
        hint = "Leave query_gis out if the query location is unknown."
        raise InputError(f'expected query_gis[-1]="lng,lat", got {str(gis)[:60]!r}', where=where, hint=hint)
    return parse_lnglat(gis[-1], where)


def _passages(row: dict[str, Any], name: str, where: str, known: dict[Any, Passage]) -> list[Passage]:
    items = row.get(name, [])
    if not isinstance(items, list):
        raise InputError(f"expected a list, got {type(items).__name__}", where=f"{where}: {name}")
    passages = []
    for number, item in enumerate(items):
        at = f"{where}: {name}[{number}]"
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"expected a passage with a text, got {str(item)[:60]!r}", where=at)
        gis = item.get("gis")
        if not isinstance(gis, list) or not gis or not isinstance(gis[-1], str):
            raise InputError(f'expected gis[-1]="lng,lat", got {str(gis)[:60]!r}', where=f"{at}.gis")
        docid = None if item.get("docid") is None else str(item["docid"])
        key = (text, gis[-1], docid)
        if key not in known:
            known[key] = Passage(text, *parse_lnglat(gis[-1], f"{at}.gis"), docid)
        passages.append(known[key])
    return passages
