"""Read queries as they arrive: plain lines or JSON objects, CSV rows, GeoJSON points."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from m3gal_cli.data.formats.geojson import nested, require_wgs84
from m3gal_cli.data.lines import BadInput, Lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of
from m3gal_cli.geo.coordinates import parse_lnglat

QueryFormat = Literal["jsonl", "csv", "geojson"]
SUFFIXES: dict[str, QueryFormat] = {".csv": "csv", ".tsv": "csv", ".geojson": "geojson", ".geojsonl": "geojson"}
COLUMNS = ("query", "id", "lng", "lat")
DELIMITERS = ",;\t|"
_COLUMN_SET = frozenset(COLUMNS)
NAMES = {  # usual names of the columns of queries and labels
    "query": (
        *("query", "q", "text", "query_text", "search_text", "search_term", "search_query", "user_query", "keyword"),
        *("keywords", "查询", "查询词", "搜索词", "关键词"),
    ),
    "lng": ("lng", "lon", "long", "longitude", "经度"),
    "lat": ("lat", "latitude", "纬度"),
}
OTHER_NAMES = {other: own for own, others in NAMES.items() for other in others}
FIRST_BATCH, MAX_BATCH = 16, 1024
T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """A query text with its id and, if known, the query location in degrees, WGS-84.

    ``extra`` holds the other columns of the query, which come back with its answer.
    """

    id: Any
    text: str
    lng: float | None = None
    lat: float | None = None
    extra: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class BadQuery:
    """An invalid query."""

    id: Any  # its id, if it is known, else its number
    line: int  # its line, or its number in a FeatureCollection
    error: str


def format_of(path: Path) -> QueryFormat:
    """Return the format of a file by its suffix; plain lines and JSON lines by default."""
    return SUFFIXES.get(suffix_of(path), "jsonl")


class QueryStream:
    """The queries of a file or a stream; blank lines are skipped. The default id of a query is its number, from 1.

    Args:
        lines: The source.
        form: ``jsonl``: plain text or {"query", "id"?, "lng"?, "lat"?} a line. ``csv``: columns query, id?, lng?, lat?,
            separated by one of ``DELIMITERS``.
            ``geojson``: a FeatureCollection, or a Feature a line, of Points with the property query.
        skip_bad: Yield a BadQuery for an invalid query instead of raising an error.
    """

    def __init__(self, lines: Lines, form: QueryFormat, skip_bad: bool = False) -> None:
        self.name, self._skip_bad = lines.name, skip_bad
        parsers: dict[str, type[_Parser]] = {"jsonl": _JsonLines, "csv": _CsvRows, "geojson": _GeoJson}
        self._parser = parsers[form](lines)

    def __iter__(self) -> Iterator[Query | BadQuery]:
        """Yield the queries.

        Raises:
            InputError: A query is invalid (at file:line: column), or the source is unreadable or has no queries.
        """
        while True:
            try:
                yield next(self._parser)
            except StopIteration:
                break
            except BadInput as error:
                if not self._skip_bad:
                    raise
                yield self._bad(error)
        if not self._parser.count:
            raise InputError("the input contains no queries", where=self.name, hint="Write one query a line.")

    def batches(self, first: int = FIRST_BATCH, largest: int = MAX_BATCH) -> Iterator[list[Query | BadQuery]]:
        """Yield batches of growing size; a batch ends early if the next query has not arrived yet."""
        batch: list[Query | BadQuery] = []
        size = first
        queries = iter(self)
        while True:
            try:
                batch.append(next(queries))
            except StopIteration:
                break
            except InputError:
                if batch:  # answer the queries before the error
                    yield batch
                raise
            if len(batch) >= size or not self._parser.ready():
                yield batch
                batch, size = [], min(2 * size, largest)
        if batch:
            yield batch

    def _bad(self, error: BadInput) -> BadQuery:
        column = (error.where or "").removeprefix(self._parser.where).removeprefix(": ")
        text = f"{column}: {error.what}" if column else error.what
        return BadQuery(self._parser.count if error.id is None else error.id, self._parser.line, text)


class _Parser:
    """An iterator of queries that can go on after it raised a BadInput."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.count = 0  # queries so far, including invalid ones

    def __next__(self) -> Query:
        raise NotImplementedError

    @property
    def line(self) -> int:
        """Line of the last query."""
        return self._lines.number

    @property
    def where(self) -> str:
        """Position of the last query in errors."""
        return f"{self._lines.name}:{self.line}"

    def ready(self) -> bool:
        """Return whether the next query has arrived."""
        return self._lines.ready()

    def _counted(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, and count it as a query, valid or not."""
        self.count += 1
        try:
            return read()
        except StopIteration:
            self.count -= 1
            raise

    def _next_line(self) -> str:
        """Return the next line that is not blank, stripped of white space and of the separator of RFC 8142."""
        return next(line for line in self._lines if line.strip()).strip()

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"not JSON: {error}", where=self.where, hint="Repair or delete the line.") from error


class _JsonLines(_Parser):
    """A query a line, as plain text or as a JSON object."""

    def __next__(self) -> Query:
        line = self._counted(self._next_line)
        if not line.startswith("{"):
            return _query({"query": line}, self.count, self.where, None)
        row = self._json(line)
        return _query(row, self.count, self.where, "query")


class _CsvRows(_Parser):
    """A query a row, which may span lines; its line is the last one."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self._header: list[str] | None = None
        self._delimiter = ","

    def __next__(self) -> Query:
        if self._header is None:
            self._header = self._columns()
        cells = self._counted(self._cells)
        if len(cells) > len(self._header):
            what = f"the row has {len(cells)} cells, the header {len(self._header)}"
            raise BadInput(what, where=self.where, hint="Quote cells that hold a comma, or delete the row.")
        row: dict[str, Any] = dict(zip_longest(self._header, cells, fillvalue=""))
        for name in ("lng", "lat"):
            row[name] = row.get(name, "").strip().replace(",", ".") or None  # a comma is a decimal comma
        if not row.get("id", "").strip():
            row.pop("id", None)
        return _query(row, self.count, self.where, "query")

    def _raw_line(self) -> str | None:
        line = next(self._lines, None)
        return None if line is None else line + "\n"

    def _columns(self) -> list[str]:
        """Read the header. The delimiter is the one that separates a column ``query`` from the others."""
        first = next((line for line in self._lines if line.strip()), "")
        for delimiter in DELIMITERS:
            if "query" in _known_names([name.strip(' "') for name in first.split(delimiter)]):
                self._delimiter = delimiter
                break
        # ``iter`` goes on after an error; a generator would end.
        lines = chain([first + "\n"], iter(self._raw_line, None))
        self._reader = csv.reader(lines, strict=True, delimiter=self._delimiter)
        try:
            header = _known_names([name.strip() for name in self._cells()])
        except BadInput as error:  # without a header no row can be read
            raise InputError(error.what, where=error.where, hint=error.hint) from error
        if "query" not in header:
            what = f"no column query (the columns are: {', '.join(header)})"
            raise InputError(what, where=self.where, hint=f"Columns are {', '.join(COLUMNS)}.")
        return header

    def _cells(self) -> list[str]:
        """Return the next row that is not blank."""
        while True:
            try:
                cells = next(self._reader)
            except csv.Error as error:
                raise BadInput(f"no CSV row ({error})", where=self.where, hint="Is a quote left open?") from error
            if len(cells) > 1 or (cells and cells[0].strip()):
                return cells


class _GeoJson(_Parser):
    """The features of one FeatureCollection, which is read as a whole, or a feature a line."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self._features: list[Any] | None = None  # of a FeatureCollection

    @property
    def line(self) -> int:
        return super().line if self._features is None else self.count

    @property
    def where(self) -> str:
        return super().where if self._features is None else f"{self._lines.name}: feature {self.count}"

    def ready(self) -> bool:
        return self._features is not None or super().ready()

    def __next__(self) -> Query:
        if self._features is None:
            line = self._counted(self._next_line)
            if self.count > 1 or not _begins_collection(line):
                return _feature(self._json(line), self.count, self.where)
            self._features, self.count = self._collection(line), 0
        if self.count == len(self._features):
            raise StopIteration
        self.count += 1
        return _feature(self._features[self.count - 1], self.count, self.where)

    def _collection(self, first: str) -> list[Any]:
        """Read the source to its end as a FeatureCollection. Raises InputError, which names the line of the source."""
        name, hint = self._lines.name, "Write a FeatureCollection, or a Feature a line."
        try:
            whole = self._json("\n".join(["\n" * (self.line - 1) + first, *self._lines]))
        except BadInput as error:
            raise InputError(error.what, where=name, hint=hint) from error
        features = nested(whole, "features")
        if not isinstance(features, list):
            raise InputError("the file is no FeatureCollection", where=name, hint=hint)
        require_wgs84(whole, name)
        return features


def _begins_collection(line: str) -> bool:
    """Return whether a line is a FeatureCollection, or the beginning of a JSON value of several lines."""
    try:
        return nested(json.loads(line), "features") is not None
    except json.JSONDecodeError as error:
        return error.pos >= len(line)
    except (ValueError, RecursionError):
        return False


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _feature(feature: Any, number: int, where: str) -> Query:
    """Return a feature as a query. Raises BadInput."""
    if nested(feature, "type") != "Feature":
        what = f"expected a Feature, got {_shown(feature)}"
        raise BadInput(what, where=where, hint="Delete it or make it again.")
    properties = nested(feature, "properties")
    row: dict[str, Any] = {"query": None} | (properties if isinstance(properties, dict) else {})
    row = {name: value for name, value in row.items() if name not in ("id", "lng", "lat")}
    for own in (nested(feature, "properties", "id"), feature.get("id")):
        row |= {} if own is None else {"id": own}
    geometry = feature.get("geometry")
    if geometry is not None:
        coordinates = nested(geometry, "coordinates")
        if nested(geometry, "type") != "Point" or not isinstance(coordinates, list) or len(coordinates) < 2:
            what = f"expected a Point, got {_shown(geometry)}"
            hint = "Write a Point, longitude before latitude, or null."
            raise _with_id(InputError(what, where=f"{where}: geometry", hint=hint), row, number)
        row |= {"lng": coordinates[0], "lat": coordinates[1]}
    return _query(row, number, where, "properties.query")


def _shown(value: Any) -> str:
    return repr(value)[:80]


def _with_id(error: InputError, row: dict[str, Any], number: int) -> BadInput:
    """Return the error of a query with the id of the query."""
    own, bad = row.get("id", number), BadInput(error.what, where=error.where, hint=error.hint)
    bad.id = own if _is_text(own) else number
    return bad


def _is_text(value: Any) -> bool:
    """Return whether a value can be written as UTF-8: JSON may contain lone surrogates."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _known_names(names: Collection[str]) -> list[str]:
    """Return the names of columns, where a name of ``OTHER_NAMES`` becomes the one of ``COLUMNS``."""
    known: list[str] = []
    for name in names:
        lower = name.strip().lower()
        own = OTHER_NAMES.get(lower, lower)
        known.append(own if own in COLUMNS and own not in (*names, *known) else name)
    return known


def _query(row: dict[str, Any], number: int, where: str, column: str | None) -> Query:
    """Return a row as a query. Raises BadInput, which names the column of the text ``column``."""
    at = where if column is None else f"{where}: {column}"
    if not row.keys() <= _COLUMN_SET:
        row = dict(zip(_known_names(row), row.values(), strict=True))
    text, lng, lat = (row.get(name) for name in ("query", "lng", "lat"))
    try:
        if not isinstance(text, str):
            raise InputError(f"expected a query, got {_shown(text)}", where=at, hint="Delete the line or add a query.")
        if not text.strip():
            raise InputError("empty query", where=at, hint="Delete the line or add a query.")
        extra = {name: value for name, value in row.items() if name and name not in COLUMNS}
        for name, value in ((at, text), (f"{where}: id", row.get("id")), (where, extra)):
            if not _is_text(value):
                raise InputError(f"a lone surrogate in {_shown(value)}", where=name, hint="Repair or delete the line.")
        own = row.get("id", number)
        if lng is None and lat is None:
            return Query(own, text, extra=extra)
        if lng is None or lat is None:
            given, missing = ("lat", "lng") if lng is None else ("lng", "lat")
            what = f"{given} {_shown(lng if lat is None else lat)} is given without {missing}"
            raise InputError(what, where=f"{where}: lng, lat", hint="Give both coordinates, or neither.")
        return Query(own, text, *parse_lnglat(f"{lng},{lat}", f"{where}: lng, lat"), extra)
    except InputError as error:
        raise _with_id(error, row, number) from error
