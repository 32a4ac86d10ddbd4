"""Read rows that are objects: JSON lines, JSON, GeoJSON, the dumps of Nominatim and Photon, and sheets."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from m3gal_cli.data.formats.answers import element_rows, is_element, list_of_rows
from m3gal_cli.data.formats.encodings import encoding_name
from m3gal_cli.data.formats.geojson import feature_row, nested
from m3gal_cli.data.formats.json_stream import JsonStream
from m3gal_cli.data.formats.shapes import Shape
from m3gal_cli.data.formats.source import ByteStream, Source, line_blocks, text_chunks
from m3gal_cli.data.formats.table import BadRow, BatchBuilder, Log, RawBatch, RawTable, TableOptions
from m3gal_cli.data.lines import BadInput
from m3gal_cli.errors import InputError

MAX_COLUMNS = 10_000
PART_ROWS, PART_CHARACTERS = 4000, 1 << 24  # that are Python objects at a time
LARGE = 1 << 27  # bytes; the first pass over a larger file is said
PHOTON_HEADER = "NominatimDumpFile"  # type of the first object of a Photon dump
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
Row = dict[str, Any]
Unpack = Callable[[Any, str], Iterator[Row]]  # makes rows of an object at a position
Located = tuple[int, Row, int]  # number of the line, row or feature; the row; its characters


class ObjectTable(RawTable):
    """Rows with names of their own.

    The file is read twice: first to find all columns and one type for each, then for the batches.
    """

    before: str  # what stands before the number in the position of a row

    def __init__(self, name: str, options: TableOptions) -> None:
        super().__init__(name)
        self._options = options
        self._shape = Shape()

    @abstractmethod
    def rows(self, options: TableOptions) -> Iterator[Located]:
        """Yield the rows from the beginning of the file."""

    def find_columns(self) -> None:
        """Read the file once to find its columns."""
        # Bad rows are reported in the second pass only.
        quiet = TableOptions(None if self._options.on_bad is None else _ignore)
        for number, row, _ in self.rows(quiet):
            self._shape.add_fields(row)
            if len(self._shape.fields) > MAX_COLUMNS:
                what = f"the rows have more than {MAX_COLUMNS:,} different columns"
                raise InputError(what, where=f"{self.before}{number}", hint="Is this a table?")
        self.columns = list(self._shape.fields)

    def batches(self) -> Iterator[RawBatch]:
        """Read the file from its beginning; see ``RawTable.batches``."""
        builder = BatchBuilder(self.before)
        rows: list[Row] = []
        numbers: list[int] = []
        size = 0
        for number, row, characters in self.rows(self._options):
            rows.append(row)
            numbers.append(number)
            size += characters
            if len(rows) >= PART_ROWS or size > PART_CHARACTERS:
                yield from builder.add(self._table(rows), numbers, size)
                rows, numbers, size = [], [], 0
        self.done = self.size
        yield from builder.add(self._table(rows), numbers, size)
        yield from builder.rest()

    def _table(self, rows: list[Row]) -> pa.Table:
        arrays = []
        for name in self.columns:
            shape = self._shape.fields[name]
            values: list[Any] = [row.get(name) for row in rows]
            if not shape.fits:
                values = [shape.convert(value) for value in values]
            arrays.append(pa.array(values, shape.arrow_type))
        return pa.Table.from_arrays(arrays, self.columns)


class JsonTable(ObjectTable):
    """JSON objects.

    Args:
        source: The file.
        encoding: Its encoding.
        by_line: Whether each line is an object. Otherwise the file is a JSON text, whose damage cannot be skipped.
        options: Options of reading.
        log: Called with a message if the first pass takes long.
    """

    def __init__(self, source: Source, encoding: str, by_line: bool, options: TableOptions, log: Log) -> None:
        super().__init__(source.name, options)
        self._source, self._encoding, self._by_line = source, encoding, by_line
        self.size = source.size
        first, list_name = next(self._first(), (None, ""))
        if first is None and not list_name:
            raise InputError("the file contains no JSON object", where=self.name, hint="Make or fetch it again.")
        self._unpack, self.format = self._content(first, list_name)
        self.before = f"{self.name}:" if by_line else f"{self.name}: {'feature' if list_name == 'features' else 'row'} "
        if encoding != "utf-8":
            self.notes.append(f"encoding {encoding_name(encoding)}")
        if self.size > LARGE:
            log(f"{self.name}: finding the columns")
        self.find_columns()

    def rows(self, options: TableOptions) -> Iterator[Located]:
        """Yield the rows from the beginning of the file."""
        with self._source.open() as stream:
            read = self._lines if self._by_line else self._values
            for number, value, text in read(stream, options):
                where = f"{self.before}{number}"
                try:
                    if _SURROGATE.search(text):
                        _refuse_surrogates(value, where)
                    rows = list(self._unpack(value, where))
                except BadInput as error:
                    options.refuse(error, text)
                    continue
                self.done = stream.done
                for row in rows:
                    yield number, row, len(text)

    def _lines(self, stream: ByteStream, options: TableOptions) -> Iterator[tuple[int, Any, str]]:
        for block in line_blocks(stream, self.name, self._encoding):
            for number, line in enumerate(block.lines, block.number):
                text = line.strip(" \t\r\n\x1e")
                if not text:
                    continue
                try:
                    value = json.loads(text)
                except (ValueError, RecursionError) as error:
                    what, hint = f"not JSON: {error}", "Repair or delete the line."
                    options.refuse(BadInput(what, where=f"{self.name}:{number}", hint=hint), text)
                else:
                    yield number, value, text
            if block.error:
                options.refuse(block.error, None)

    def _values(self, stream: ByteStream, _: TableOptions) -> Iterator[tuple[int, Any, str]]:
        for number, (value, text) in enumerate(self._objects(stream), 1):
            yield number, value, text

    def _objects(self, stream: ByteStream) -> JsonStream:
        return JsonStream(text_chunks(stream, self.name, self._encoding), self.name)

    def _first(self) -> Iterator[tuple[Any, str]]:
        """Yield the first object that can be read, and the name of the list that has it."""
        with self._source.open() as stream:
            if self._by_line:
                for _, value, _ in self._lines(stream, TableOptions(_ignore)):
                    yield value, ""
            else:
                objects = self._objects(stream)
                for value, _ in objects:
                    yield value, objects.list_name
                yield None, objects.list_name

    def _content(self, first: Any, list_name: str) -> tuple[Unpack, str]:
        """Return what makes rows of an object, and the format, by the first object."""
        if nested(first, "type") == PHOTON_HEADER:
            self.notes.append("a Photon dump")
            return _photon_rows, "json"
        if nested(first, "type") == "Feature" or first is None:  # a FeatureCollection may be empty
            return lambda value, where: iter([feature_row(value, where)]), "geojson"
        kind = "jsonl" if self._by_line else "json"
        page = list_of_rows(first) if not list_name else ""  # each object is an answer
        row, name = (first[page][0], page) if page else (first, list_name)
        elements = is_element(row) and (name == "elements" or "tags" in row)
        if elements or name:
            self.notes.append("elements of OpenStreetMap" if elements else f"the rows are in {name!r}")
        unpack = _element_rows if elements else _object_row
        return (lambda value, where: _page_rows(value, page, unpack, where)) if page else unpack, kind


def _ignore(_: BadRow) -> None:
    return


def _object_row(value: Any, where: str) -> Iterator[Row]:
    if not isinstance(value, dict):
        what = f"expected a JSON object, got {type(value).__name__}"
        raise BadInput(what, where=where, hint="Each row is one object {…}.")
    yield value


def _element_rows(value: Any, where: str) -> Iterator[Row]:
    if not is_element(value):
        what = f"expected an element with type and id, got {repr(value)[:80]}"
        raise BadInput(what, where=where, hint="Delete it or make it again.")
    yield from element_rows(value)


def _page_rows(value: Any, key: str, unpack: Unpack, where: str) -> Iterator[Row]:
    """Yield the rows of an answer; one without results has none."""
    items = nested(value, key)
    if not isinstance(items, list | None) or not isinstance(value, dict):
        raise BadInput(f"expected an object with the list {key!r}", where=where, hint="Repair or delete the line.")
    for item in items or []:
        yield from unpack(item, where)


def _photon_rows(value: Any, where: str) -> Iterator[Row]:
    """Yield the places of an object of a Photon dump: {"type": "Place", "content": […]}; other types have none."""
    if nested(value, "type") == "Place":
        content = value.get("content")
        for place in content if isinstance(content, list) else [content]:
            yield from _object_row(place, where)
    elif not isinstance(nested(value, "type"), str):
        raise BadInput("expected an object with a type", where=where, hint="Repair or delete the line.")


def _refuse_surrogates(value: Any, where: str) -> None:
    """Raise BadInput for half of a surrogate pair, which no text encoding can write."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadInput("a lone surrogate (\\ud800…)", where=where, hint="Repair or delete the row.") from error
