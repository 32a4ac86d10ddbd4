"""GeoTES candidate records: a query, the passages (POIs) that it means and those that it does not.

File form, one JSON object a line: ``query``, ``query_gis[-1]="lng,lat"`` (optional, where the query was typed),
``positive_passages[]`` and ``negative_passages[]``, each ``{docid?, text, gis[-1]="lng,lat"}``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.compat.legacy_pickle import load_published_dataset
from m3gal_cli.data.tables import COORDINATE_DECIMALS, iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, require_file, suffix_of
from m3gal_cli.geo.coordinates import Datum, haversine_m, parse_lnglat, to_wgs84

PoiKey = tuple[str, float, float]
NEAR_M, FAR_M = 2_000.0, 10_000.0  # the slices by the distance from where a query was typed to its gold
_DEGREES = f"%.{COORDINATE_DECIMALS}f"
RECORD_KEYS = frozenset({"query", "query_gis", "query_id", "positive_passages", "negative_passages"})


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


def typed_m(records: Sequence[Record]) -> NDArray[np.float64]:
    """Metres from where each query was typed to its nearest positive; NaN where that is unknown. Shape: -> (N,)."""
    out = np.full(len(records), np.nan)
    for i, record in enumerate(records):
        if record.lng is not None and record.lat is not None:
            out[i] = min(haversine_m(record.lng, record.lat, p.lng, p.lat) for p in record.positives)
    return out


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
    known: dict[Any, Passage] = {}
    if suffix_of(path) == ".pth":
        rows = load_published_dataset(path)
        records = [_record(row, f"{path}: record {number}", known) for number, row in enumerate(rows, 1)]
    else:
        records = [_record(row, f"{path}:{number}", known) for number, row in iter_json_lines(path)]
    if not records:
        raise InputError("holds no record", where=path, hint="Make or fetch it again.")
    return records if datum == "wgs84" else _converted(records, datum)


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records as .jsonl (.gz), atomically, coordinates in WGS-84; a line is the JSON of ``record_to_json``."""
    line = _Lines()
    with atomic_text(path) as file:
        for record in records:
            file.write(line(record))


class _Lines:
    """Lines of records, byte for byte ``json.dumps(record_to_json(record), ensure_ascii=False)``.

    Records share most of their passages, so each is written out once and its text kept. Passages are known by identity:
    equal ones may still differ as text (0.0 == -0.0, 1 == 1.0).
    """

    _KEPT = 200_000  # passages; bounds the memory of a stream of records that share none

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False).encode
        self._known: dict[int, str] = {}
        self._held: list[Passage] = []  # so that the ids in ``_known`` stay theirs

    def __call__(self, record: Record) -> str:
        encode = self._encode
        if not RECORD_KEYS.isdisjoint(record.extra):  # these replace the record's own, in their places
            return encode(record_to_json(record)) + "\n"
        first = "" if record.query_id is None else f'"query_id": {encode(record.query_id)}, '
        query, here = encode(record.query), _query_lnglat(record)
        head = f'{{{first}"query": {query}, "query_gis": [[], [], [], [], [], {query}, "{here}"]'
        positives, negatives = self._passages(record.positives), self._passages(record.negatives)
        rest = f", {encode(record.extra)[1:]}\n" if record.extra else "}\n"
        return f'{head}, "positive_passages": [{positives}], "negative_passages": [{negatives}]{rest}'

    def _passages(self, passages: Sequence[Passage]) -> str:
        if len(self._held) > self._KEPT:
            self._known.clear()
            self._held.clear()
        known = self._known
        return ", ".join([known.get(id(passage)) or self._passage(passage) for passage in passages])

    def _passage(self, passage: Passage) -> str:
        encode = self._encode
        text, place = encode(passage.text), _lnglat(passage.lng, passage.lat)
        docid = "" if passage.docid is None else f'"docid": {encode(passage.docid)}, '
        line = f'{{{docid}"text": {text}, "gis": [[], [], [], [], [], {text}, "{place}"]}}'
        self._known[id(passage)] = line
        self._held.append(passage)
        return line


def record_to_json(record: Record) -> dict[str, Any]:
    """The file form of a record (see the module's docstring)."""
    row: dict[str, Any] = {} if record.query_id is None else {"query_id": record.query_id}
    row |= {"query": record.query, "query_gis": [[], [], [], [], [], record.query, _query_lnglat(record)]}
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


def _query_lnglat(record: Record) -> str:
    return "" if record.lng is None or record.lat is None else _lnglat(record.lng, record.lat)


def _lnglat(lng: float, lat: float) -> str:
    return f"{_degrees(lng)},{_degrees(lat)}"


def _degrees(value: float) -> str:
    """``repr(round(value, COORDINATE_DECIMALS))``, for nearly all values in a third of the time."""
    if type(value) is not float or not 1e-4 <= abs(value) <= 180.0:  # repr writes smaller ones with an exponent
        return repr(round(value, COORDINATE_DECIMALS))
    text = (_DEGREES % value).rstrip("0")
    return text + "0" if text[-1] == "." else text


def _passage_to_json(passage: Passage) -> dict[str, Any]:
    row: dict[str, Any] = {} if passage.docid is None else {"docid": passage.docid}
    return row | {"text": passage.text, "gis": [[], [], [], [], [], passage.text, _lnglat(passage.lng, passage.lat)]}


def _converted(records: list[Record], datum: Datum) -> list[Record]:
    """Records with every place converted from ``datum`` to WGS-84, all in one go."""
    places = {(p.lng, p.lat) for record in records for p in record.passages}
    places |= {(r.lng, r.lat) for r in records if r.lng is not None and r.lat is not None}
    ordered = list(places)
    lng, lat = to_wgs84([x for x, _ in ordered], [y for _, y in ordered], datum)
    new = dict(zip(ordered, zip(lng.tolist(), lat.tolist(), strict=True), strict=True))

    def moved(passages: list[Passage]) -> list[Passage]:
        return [Passage(p.text, *new[p.lng, p.lat], p.docid) for p in passages]

    out = []
    for r in records:
        here = (None, None) if r.lng is None or r.lat is None else new[r.lng, r.lat]
        out.append(replace(r, positives=moved(r.positives), negatives=moved(r.negatives), lng=here[0], lat=here[1]))
    return out


def _record(row: Any, where: str, known: dict[Any, Passage]) -> Record:
    """A record from its file form; ``known`` lets records share the passages that they have in common."""
    if not isinstance(row, dict):
        raise InputError(f"expected a record, got {type(row).__name__}", where=where)
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"expected a query, got {query!r}", where=f"{where}: query", hint="Delete or fill the record.")
    positives = _passages(row, "positive_passages", where, known)
    negatives = _passages(row, "negative_passages", where, known)
    if not positives:
        hint = "Every record needs at least one positive passage; delete it or add one."
        raise InputError("the record has no positive passage", where=f"{where}: positive_passages", hint=hint)
    lng, lat = _query_place(row.get("query_gis"), f"{where}: query_gis")
    query_id = row.get("query_id")
    extra = {key: value for key, value in row.items() if key not in RECORD_KEYS}
    return Record(query, positives, negatives, None if query_id is None else str(query_id), lng, lat, extra)


def _query_place(gis: Any, where: str) -> tuple[float, float] | tuple[None, None]:
    """Where a query was typed; nothing, an empty list or an empty last element say that it is not known."""
    if gis is None or gis == []:
        return None, None
    if isinstance(gis, list) and gis[-1] in (None, [], ""):
        return None, None
    if not isinstance(gis, list) or not isinstance(gis[-1], str):
        hint = "Leave query_gis out where the place is not known."
        raise InputError(f'expected query_gis[-1]="lng,lat", got {str(gis)[:60]!r}', where=where, hint=hint)
    return parse_lnglat(gis[-1], where)


def _passages(row: dict[str, Any], name: str, where: str, known: dict[Any, Passage]) -> list[Passage]:
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
        docid = None if item.get("docid") is None else str(item["docid"])
        key = (text, gis[-1], docid)
        if key not in known:
            known[key] = Passage(text, *parse_lnglat(gis[-1], f"{at}.gis"), docid)
        passages.append(known[key])
    return passages
