"""Labels: the POIs that a query means. They are read from a table or from candidate records, and checked.

A table has a row per label. Its columns are query and poi_id, and optionally label (0: the POI is a negative), lng and
lat (query location, WGS-84), split, query_id and id. Rows with the same query text and location, or with the same
query_id, are one query.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from m3gal_cli.data.duplicates import place_key
from m3gal_cli.data.formats import BadRow, TableOptions, open_table
from m3gal_cli.data.queries import NAMES
from m3gal_cli.data.records import Record
from m3gal_cli.data.schemas.recognise import shown_names
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import parse_lnglat
from m3gal_cli.text.normalise import reading_key

# Names of the columns by role, in lower case, with _ for spaces and hyphens. The first name takes precedence.
ROLES = {
    **NAMES,
    "poi_id": (
        *("poi_id", "poi", "poiid", "docid", "doc_id", "corpus_id", "target", "place_id", "store_id", "shop_id"),
        *("clicked_poi_id", "clicked_poi", "poi编号", "门店id", "门店编号", "店铺id"),
    ),
    "label": ("label", "score", "relevance"),
    "split": ("split", "subset"),
    "query_id": ("query_id", "qid"),
    "id": ("id",),
}
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}
_TRUTH = {"true": 1, "yes": 1, "false": 0, "no": 0}
_RANK = {"train": 0, "val": 1, "test": 2}
SHOWN = 20  # invalid labels in an error message


@dataclass(slots=True)
class LabelledQuery:
    """A query, with its location in degrees, WGS-84, if it is known."""

    text: str
    lng: float | None = None
    lat: float | None = None
    query_id: str | None = None
    split: str | None = None  # the split that the source gives: train, val or test
    extra: dict[str, Any] = field(default_factory=dict)  # other metadata of a BEIR query

    @property
    def key(self) -> str:
        """The ``text_key`` of the text. Queries with the same key are in the same split."""
        return text_key(self.text)


@dataclass(slots=True)
class Label:
    """A POI that a query means (score above 0) or does not mean (score 0)."""

    query: int  # position in ``Labels.queries``
    poi_id: str
    score: float = 1
    split: str | None = None
    where: str = ""  # file:line
    row: Mapping[str, Any] = field(default_factory=dict)  # the row of the source, for the list of invalid rows


@dataclass
class Labels:
    """Queries and their labels.

    Attributes:
        bad: Invalid rows.
        pois: POI table of the source, if it contains one.
        documents: Documents of a BEIR folder, as they were read.
    """

    source: Path
    queries: list[LabelledQuery] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pois: pd.DataFrame | None = None
    documents: list[dict[str, Any]] | None = None

    def check_bad(self, skip: bool) -> None:
        """Raise InputError that lists the first invalid rows, unless they are to be left out."""
        if not self.bad or skip:
            return
        if len(self.bad) == 1:
            raise InputError(self.bad[0].error, where=self.bad[0].where, hint=HINT)
        lines = [f"{bad.where}: {bad.error}" for bad in self.bad[:SHOWN]]
        more = len(self.bad) - SHOWN
        lines += [f"and {more:,} more"] if more > 0 else []
        raise InputError("\n".join([f"{len(self.bad):,} rows are invalid", *lines]), where=self.source, hint=HINT)


HINT = "Correct the rows, or leave them out with --skip-bad."


def text_key(text: str) -> str:
    """Return the letters and digits of a text; the trimmed text if it has none."""
    return reading_key(text) or text.strip()


def id_text(value: object) -> str:
    """Return an id as text: 7, 7.0 and "7" are the same id, "007" is another one. A missing id is ""."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def read_label_table(path: Path) -> Labels:
    """Read a table of labels in any format of ``data.formats``.

    Raises:
        InputError: A column is missing or ambiguous, or the file is unreadable. Invalid rows are in ``bad``.
    """
    out = Labels(path)
    query_of: dict[object, int] = {}
    with open_table(path, TableOptions(out.bad.append)) as table:
        columns = columns_by_role(table.columns, path)
        others = [name for name in table.columns if name not in columns.values()]
        notes = table.notes + ([f"ignored columns: {', '.join(others)}"] if others else [])
        out.notes += [f"{path.name}: {text}" for text in notes]
        for batch in table.batches():
            for i, row in enumerate(batch.table.to_pylist()):
                where = batch.positions(i)
                try:
                    out.labels.append(_label(row, columns, where, out.queries, query_of))
                except InputError as error:
                    out.bad.append(BadRow(error.where or where, error.what, row))
    if not out.labels and not out.bad:
        raise InputError("the file contains no labels", where=path, hint="Write a row for each label.")
    return out


def columns_by_role(names: Sequence[str], path: Path) -> dict[str, str]:
    """Return the column of each role. Raises InputError for a missing query or poi_id, or for two possible columns."""
    own = {name: re.sub(r"[\s-]+", "_", str(name).strip().lower()) for name in names}
    found: dict[str, str] = {}
    for role, others in ROLES.items():
        candidates = [name for name in names if own[name] in others]
        exact = [name for name in candidates if own[name] == role]
        if len(exact or candidates) > 1:
            shown = " and ".join(repr(name) for name in exact or candidates)
            raise InputError(f"the columns {shown} can both be the {role}", where=path, hint=f"Name one {role}.")
        if candidates:
            found[role] = (exact or candidates)[0]
    missing = [role for role in ("query", "poi_id") if role not in found]
    if missing:
        what = f"no column {' and no column '.join(missing)} (the columns are: {shown_names(names)})"
        raise InputError(what, where=path, hint="Labels need the columns query and poi_id, with a header.")
    if ("lng" in found) != ("lat" in found):
        given, absent = ("lng", "lat") if "lng" in found else ("lat", "lng")
        what = f"the column {given} is given without {absent}"
        raise InputError(what, where=path, hint="Give both columns of the query location, or neither.")
    return found


def _label(
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    where: str,
    queries: list[LabelledQuery],
    query_of: dict[object, int],
) -> Label:
    """Return the label of a row and add its query to ``queries``, if it is new. Raises InputError."""

    def cell(role: str) -> Any:
        return row.get(columns[role]) if role in columns else None

    text = cell("query")
    text = "" if is_missing(text) else str(text).strip()
    if not text:
        raise InputError("expected a query, got nothing", where=f"{where}: {columns['query']}")
    poi_id = id_text(cell("poi_id"))
    if not poi_id:
        raise InputError("expected the id of a POI, got nothing", where=f"{where}: {columns['poi_id']}")
    score = parse_score(cell("label"), f"{where}: {columns['label']}") if "label" in columns else 1
    place = query_location(cell("lng"), cell("lat"), where)
    split = _split(cell("split"), f"{where}: {columns.get('split')}")
    query_id = id_text(cell("query_id")) or None
    keys: list[object] = [(text, place), *([query_id] if query_id else [])]
    known = {query_of[key] for key in keys if key in query_of}
    number = min(known, default=len(queries))
    if number == len(queries):
        queries.append(LabelledQuery(text, place[0], place[1], query_id or id_text(cell("id")) or None))
    query = queries[number]
    if len(known) > 1 or (query.text, (query.lng, query.lat)) != (text, place):
        raise InputError(f"query_id {query_id} has another text or location in an earlier row", where=where)
    query_of.update(dict.fromkeys(keys, number))
    return Label(number, poi_id, score, split, where, row)


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def parse_score(value: Any, where: str) -> float:
    """Return a label as a number: an int where it is whole. Raises InputError for other values and below 0."""
    try:
        number = float(_TRUTH.get(str(value).strip().lower(), value))
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        shown = "nothing" if is_missing(value) else repr(value)[:80]
        raise InputError(f"expected 0 (negative) or a positive number, got {shown}", where=where)
    return int(number) if number.is_integer() else number


def query_location(lng: Any, lat: Any, where: str) -> tuple[float, float] | tuple[None, None]:
    """Return the query location in degrees, WGS-84. Raises InputError for one coordinate alone or a wrong one."""
    if is_missing(lng) and is_missing(lat):
        return None, None
    if is_missing(lng) or is_missing(lat):
        given, absent = ("lat", "lng") if is_missing(lng) else ("lng", "lat")
        raise InputError(f"{given} is given without {absent}", where=f"{where}: lng, lat")
    lng, lat = (str(value).strip().replace(",", ".") for value in (lng, lat))  # a comma is a decimal comma
    return parse_lnglat(f"{lng},{lat}", f"{where}: lng, lat")


def _split(value: Any, where: str) -> str | None:
    if is_missing(value):
        return None
    name = SPLIT_NAMES.get(str(value).strip().lower())
    if name is None:
        raise InputError(f"expected train, val or test, got {str(value)[:80]!r}", where=where)
    return name


def labels_of_records(records: Sequence[Record], pois: pd.DataFrame | None, path: Path) -> Labels:
    """Return candidate records as labels. Positives have the score 1, negatives 0.

    Args:
        records: The records of a file.
        pois: Their distinct passages as a POI table, in which text and coordinates give the id of a passage. None: the
            labels refer to another table, and passages need a docid.
        path: The file. If its name begins with train, val, dev or test, this is the split.
    """
    split = SPLIT_NAMES.get(re.split(r"[_.\-]", path.name.lower())[0])
    out = Labels(path, pois=pois)
    ids: dict[object, str] = {}
    if pois is not None:
        rows = zip(pois["address"], pois["lng"], pois["lat"], pois["poi_id"], strict=True)
        ids = {place_key(text, lng, lat): str(poi_id) for text, lng, lat, poi_id in rows}
    for number, record in enumerate(records):
        where = f"{path}: record {number + 1}"
        out.queries.append(LabelledQuery(record.query, record.lng, record.lat, record.query_id, extra=record.extra))
        for passage in record.passages:
            poi_id = ids.get(passage.key) or passage.docid
            if poi_id is None:
                raise InputError("a passage has no docid", where=where, hint="Leave --pois out, or add the ids.")
            score = int(passage.key in record.gold)
            out.labels.append(Label(number, poi_id, score, split, where, {"query": record.query, "poi_id": poi_id}))
    return out


def resolve_labels(labels: Labels, row_of: Mapping[str, int], table: str) -> None:
    """Check the labels against a POI table and each other, and set the splits of the queries.

    Labels of unknown POIs, contradictions, and training labels of a query text that is also in another split become
    ``bad`` and are removed.

    Args:
        labels: The labels.
        row_of: Row of each id of the POI table.
        table: Name of the POI table in errors.
    """
    seen: dict[tuple[int, str], Label] = {}
    bad_before = len(labels.bad)
    splits = _given_splits(labels)
    kept = []
    for label in labels.labels:
        first = seen.setdefault((label.query, label.poi_id), label)
        given = splits.get(labels.queries[label.query].key)
        if label.poi_id not in row_of:
            error = f"{table} has no POI with the id {label.poi_id!r}"
        elif (first.score > 0) != (label.score > 0):
            error = f"the label {label.score:g} contradicts {first.score:g} in {first.where}, same query and POI"
        elif label.split is not None and given is not None and label.split != given[0]:
            error = f"the query is in the split {label.split} here and in {given[0]} in {given[1]}"
        else:
            if first is label:
                kept.append(label)
            continue
        labels.bad.append(BadRow(label.where, error, label.row))
    repeated = len(labels.labels) - len(kept) - (len(labels.bad) - bad_before)
    if repeated:
        labels.notes.append(f"{labels.source.name}: {repeated:,} labels are repeated, and count once")
    labels.labels = kept
    for query in labels.queries:
        query.split = splits[query.key][0] if query.key in splits else None


def _given_splits(labels: Labels) -> dict[str, tuple[str, str]]:
    """Return the split that the source gives to each text key, and the position where it does.

    If the source gives several, test comes before val, and val before train.
    """
    out: dict[str, tuple[str, str]] = {}
    for label in labels.labels:
        key = labels.queries[label.query].key
        if label.split is not None and (key not in out or _RANK[label.split] > _RANK[out[key][0]]):
            out[key] = (label.split, label.where)
    return out
