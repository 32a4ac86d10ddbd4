"""Queries as people hand them in: plain lines or JSON objects, CSV rows, GeoJSON points. They are read as asked for."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

from m3gal_cli.data.lines import BadInput, Lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of
from m3gal_cli.geo.coordinates import parse_lnglat

QueryFormat = Literal["jsonl", "csv", "geojson"]
SUFFIXES: dict[str, QueryFormat] = {".csv": "csv", ".geojson": "geojson", ".geojsonl": "geojson"}
FIRST_BATCH, LARGEST_BATCH = 16, 1024
CRS84 = ("CRS84", "EPSG::4326", "EPSG:4326")  # ends of names of WGS-84 in degrees


@dataclass(frozen=True)
class Query:
    """What was typed, by whose id, and where (degrees, WGS-84), if known."""

    id: Any
    text: str
    lng: float | None = None
    lat: float | None = None


@dataclass(frozen=True)
class BadQuery:
    """What stands in a broken line's place.

    Args:
        id: the line's own, where it could be read; else its number.
        line: number of the line; of the feature in a FeatureCollection.
        error: what is wrong with it.
    """

    id: Any
    line: int
    error: str


def format_of(path: Path) -> QueryFormat:
    """The format that a file's suffix says: plain lines and JSON lines where it says none."""
    return SUFFIXES.get(suffix_of(path), "jsonl")


class _Parser(Protocol):
    """Queries one after the other; after a BadInput the next one can be asked for."""

    count: int  # queries so far, broken ones too: the id of one that has none

    @property
    def line(self) -> int: ...

    @property
    def at(self) -> str:
        """Where the last query stands, as errors say it."""
        ...

    def __next__(self) -> Query: ...

    def ready(self) -> bool:
        """Whether the next query can be had without waiting for somebody to write it."""
        ...


class QueryStream:
    """Queries of a file or a stream.

    Without an id the number of the query, from 1, is its id.

    Args:
        lines: the source.
        form: ``jsonl``: plain text or {"query", "id"?, "lng"?, "lat"?} a line; ``csv``: columns query, id?, lng?, lat?;
            ``geojson``: a FeatureCollection, or a feature a line, of Points with the property query.
        skip_bad: give a BadQuery for what is none, instead of an error.
    """

    def __init__(self, lines: Lines, form: QueryFormat, skip_bad: bool = False) -> None:
        self.name, self._skip_bad = lines.name, skip_bad
        parsers: dict[str, type[_Parser]] = {"jsonl": _JsonLines, "csv": _CsvRows, "geojson": _GeoJson}
        self._parser: _Parser = parsers[form](lines)  # type: ignore[call-arg]

    def __iter__(self) -> Iterator[Query | BadQuery]:
        """
        Raises:
            InputError: with file:line for an empty query, coordinates that are none, …; an unreadable file; no query.
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
            raise InputError("no queries", where=self.name, hint="Write one query a line.")

    def batches(self, first: int = FIRST_BATCH, largest: int = LARGEST_BATCH) -> Iterator[list[Query | BadQuery]]:
        """Queries in their order, small batches first; a batch ends where one would have to wait for the next query."""
        batch: list[Query | BadQuery] = []
        size = first
        queries = iter(self)
        while True:
            try:
                batch.append(next(queries))
            except StopIteration:
                break
            except InputError:
                if batch:  # what came before is answered
                    yield batch
                raise
            if len(batch) >= size or not self._parser.ready():
                yield batch
                batch, size = [], min(2 * size, largest)
        if batch:
            yield batch

    def _bad(self, error: BadInput) -> BadQuery:
        column = (error.where or "").removeprefix(self._parser.at).removeprefix(": ")
        text = f"{column}: {error.what}" if column else error.what
        return BadQuery(self._parser.count if error.id is None else error.id, self._parser.line, text)


class _Parsed:
    """What the formats of a query a line have in common."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self.count = lines, 0

    @property
    def line(self) -> int:
        return self._lines.number

    @property
    def at(self) -> str:
        return f"{self._lines.name}:{self.line}"

    def ready(self) -> bool:
        return self._lines.ready()

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"not JSON: {error}", where=self.at, hint="Repair or delete the line.") from error


class _JsonLines(_Parsed):
    """A query a line, as plain text or as a JSON object. A blank line is an empty query, and refused like one."""

    def __next__(self) -> Query:
        try:
            line = next(self._lines).strip()
        finally:
            self.count = self._lines.number
        if not line.startswith("{"):
            return _query({"query": line}, self.count, self.at, None)
        return _query(self._json(line), self.count, self.at, "query")


class _CsvRows(_Parsed):
    """A query a row; its line is the one on which it ends. Rows that are blank are passed over."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self._header: list[str] | None = None
        # Not a generator: that would end with the first error.
        self._reader = csv.reader(iter(self._next_line, None), strict=True)

    def __next__(self) -> Query:
        if self._header is None:
            self._header = self._columns()
        try:
            cells = self._cells()
        except BadInput:
            self.count += 1
            raise
        self.count += 1
        if len(cells) > len(self._header):
            told = f"the row has {len(cells)} cells, the header {len(self._header)}"
            raise BadInput(told, where=self.at, hint="Quote cells that hold a comma, or delete the row.")
        row: dict[str, Any] = {name: cell for name, cell in zip(self._header, cells, strict=False) if cell.strip()}
        return _query({"query": ""} | row, self.count, self.at, "query")

    def _next_line(self) -> str | None:
        line = next(self._lines, None)
        return None if line is None else line + "\n"

    def _columns(self) -> list[str]:
        try:
            header = [name.strip() for name in self._cells()]
        except BadInput as error:  # without a header no row can be read
            raise InputError(error.what, where=error.where, hint=error.hint) from error
        if "query" not in header:
            what = f"no column query (there is: {', '.join(header)})"
            raise InputError(what, where=self.at, hint="Columns are query, id, lng, lat.")
        return header

    def _cells(self) -> list[str]:
        while True:
            try:
                cells = next(self._reader)
            except csv.Error as error:
                raise BadInput(f"no CSV row ({error})", where=self.at, hint="Is a quote left open?") from error
            if len(cells) > 1 or (cells and cells[0].strip()):
                return cells


class _GeoJson(_Parsed):
    """Features: of one FeatureCollection, which is read whole, or one a line."""

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines)
        self._opened = False
        self._number = 0  # of the line that was taken last
        self._ahead: deque[tuple[int, str | BadInput]] = deque()  # lines by number, looked at and not yet taken
        self._features: list[Any] | None = None

    @property
    def line(self) -> int:
        return self._number if self._features is None else self.count

    @property
    def at(self) -> str:
        return super().at if self._features is None else f"{self._lines.name}: feature {self.count}"

    def ready(self) -> bool:
        return self._features is not None or bool(self._ahead) or super().ready()

    def __next__(self) -> Query:
        if not self._opened:
            self._opened = True
            self._open()
        if self._features is not None:
            if self.count == len(self._features):
                raise StopIteration
            self.count += 1
            return _feature(self._features[self.count - 1], self.count, self.at)
        if not self._ahead and not self._look():
            raise StopIteration
        self.count += 1
        self._number, text = self._ahead.popleft()
        if isinstance(text, BadInput):
            raise text
        return _feature(self._json(text.strip()), self.count, self.at)

    def _open(self) -> None:
        """Look at the first line: a whole feature, or the beginning of a collection?

        One that is neither is a broken line where the next one is a feature.
        """
        if not self._look() or _is_feature(self._ahead[0][1]):
            return
        by_line = self._look() and _is_feature(self._ahead[1][1])
        if by_line and not _goes_on(self._ahead[0][1]):
            return
        while self._look():
            pass
        name, hint = self._lines.name, "Write a FeatureCollection, or a Feature a line."
        try:
            found = self._whole()
        except BadInput as error:
            if by_line:
                return
            raise InputError(error.what, where=name, hint=hint) from error
        features = _get(found, "features")
        if not isinstance(features, list):
            raise InputError("no FeatureCollection", where=name, hint=hint)
        crs = str(_get(found, "crs", "properties", "name") or CRS84[0])
        if not crs.endswith(CRS84):
            hint = "Convert it: GeoJSON is in degrees, WGS-84."
            raise InputError(f"the coordinates are in {crs!r}", where=f"{name}: crs", hint=hint)
        self._features = features
        self._ahead.clear()

    def _look(self) -> bool:
        """Have one more line ahead that is not blank; False where there is none."""
        try:
            # str.strip also takes the record separator of RFC 8142.
            found: str | BadInput | None = next((line for line in self._lines if line.strip()), None)
        except BadInput as error:
            found = error
        if found is not None:
            self._ahead.append((self._lines.number, found))
        return found is not None

    def _whole(self) -> Any:
        """The lines ahead as one value, each where it stands in the source. Raises BadInput."""
        parts, last = list[str](), 1
        for number, line in self._ahead:
            if isinstance(line, BadInput):
                raise line
            parts.append("\n" * (number - last) + line)
            last = number
        return self._json("".join(parts))


def _goes_on(line: str | BadInput) -> bool:
    """Whether a line may be the beginning of a JSON value that ends in another line."""
    try:
        json.loads(str(line).rstrip())
    except json.JSONDecodeError as error:
        return isinstance(line, str) and error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        pass
    return False


def _is_feature(line: str | BadInput) -> bool:
    try:
        return isinstance(line, str) and _get(json.loads(line.strip()), "type") == "Feature"
    except (ValueError, RecursionError):
        return False


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _get(value: Any, *names: str) -> Any:
    """What lies under these names in nested objects; None where nothing does."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _feature(feature: Any, number: int, where: str) -> Query:
    """A feature as a query. Raises BadInput."""
    hint = "Write a Point, longitude before latitude, or null."
    if _get(feature, "type") != "Feature":
        raise BadInput(f"expected a Feature, got {_told(feature)}", where=where, hint="Delete it or make it again.")
    row: dict[str, Any] = {"query": _get(feature, "properties", "query")}
    for own in (_get(feature, "properties", "id"), feature.get("id")):
        row |= {} if own is None else {"id": own}
    geometry = feature.get("geometry")
    if geometry is not None:
        places = _get(geometry, "coordinates")
        if _get(geometry, "type") != "Point" or not isinstance(places, list) or len(places) < 2:
            what = f"expected a Point, got {_told(geometry)}"
            raise _of(BadInput(what, where=f"{where}: geometry", hint=hint), row, number)
        row |= {"lng": places[0], "lat": places[1]}
    return _query(row, number, where, "properties.query")


def _told(value: Any) -> str:
    return repr(value)[:80]


def _of(error: BadInput, row: dict[str, Any], number: int) -> BadInput:
    """The error with the id of its query."""
    own = row.get("id", number)
    error.id = own if _is_text(own) else number
    return error


def _is_text(value: Any) -> bool:
    """Whether a value can be written as UTF-8: JSON may hold halves of surrogate pairs."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _query(row: dict[str, Any], number: int, where: str, column: str | None) -> Query:
    """A row as a query; ``column`` is what errors call the text. Raises BadInput."""
    at = where if column is None else f"{where}: {column}"
    text, lng, lat = (row.get(name) for name in ("query", "lng", "lat"))
    try:
        if not isinstance(text, str):
            raise BadInput(f"expected a query, got {_told(text)}", where=at, hint="Delete the line or type a query.")
        if not text.strip():
            raise BadInput("empty query", where=at, hint="Delete the line or type a query.")
        for name, value in ((at, text), (f"{where}: id", row.get("id"))):
            if not _is_text(value):
                raise BadInput(f"half a character in {_told(value)}", where=name, hint="Repair or delete the line.")
        own = row.get("id", number)
        if lng is None and lat is None:
            return Query(own, text)
        return Query(own, text, *_place(lng, lat, where))
    except BadInput as error:
        raise _of(error, row, number) from error.__cause__


def _place(lng: Any, lat: Any, where: str) -> tuple[float, float]:
    try:
        return parse_lnglat(f"{lng},{lat}", f"{where}: lng, lat")
    except InputError as error:
        raise BadInput(error.what, where=error.where, hint=error.hint) from error
