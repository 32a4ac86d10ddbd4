"""Read delimited text: CSV in its dialects, and GeoNames dumps. Cells are text."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Literal

import pyarrow as pa

from m3gal_cli.data.formats.dialects import (
    DELIMITERS,
    GEONAMES,
    count_titles,
    is_geonames,
    is_header,
    recognise_decimal,
    recognise_delimiter,
    split_sample,
)
from m3gal_cli.data.formats.encodings import encoding_name
from m3gal_cli.data.formats.source import ByteStream, LineBlock, Source, line_blocks
from m3gal_cli.data.formats.table import BatchBuilder, RawBatch, RawTable, TableOptions, distinct_columns
from m3gal_cli.data.lines import BadInput
from m3gal_cli.errors import InputError

SAMPLE_LINES = 1000
SAMPLE_CHARACTERS = 1 << 20
MAX_CELL = 1 << 20  # characters; a quote that is never closed ends there
csv.field_size_limit(MAX_CELL)  # the default is too small for polygons


class DelimitedTable(RawTable):
    """A text file with a row per line; a quoted cell may contain line ends.

    Titles above the header, blank lines and rows without a value are skipped. Rows with fewer cells than the header are
    filled with "", unless they have less than half.
    """

    def __init__(self, source: Source, encoding: str, options: TableOptions) -> None:
        super().__init__(source.name)
        self._source, self._encoding, self._options = source, encoding, options
        self.size = source.size
        sample = self._sample()
        if not sample:
            raise InputError("the file contains only blank lines", where=self.name, hint="Make or fetch it again.")
        self._excel_line = sample[0].lower().startswith("sep=") and len(sample[0]) == 5  # names the delimiter
        self._titles = 0  # rows above the header that are not blank
        self._geonames = is_geonames(sample)
        self._trailing = False  # whether each line ends with a delimiter
        if self._geonames:
            self.format, self.columns, self._delimiter = "geonames", GEONAMES, "\t"
        else:
            self.format = "csv"
            if not self._excel_line:
                self._titles = count_titles(sample)
            self._delimiter = sample[0][4] if self._excel_line else recognise_delimiter(sample[self._titles :])
            self.columns = self._header()
        self._note_dialect(sample[self._excel_line or self._titles :])

    def batches(self) -> Iterator[RawBatch]:
        """Read the file from its beginning; see ``RawTable.batches``."""
        builder, skip = BatchBuilder(f"{self.name}:"), 0 if self._geonames else self._titles + 1
        with self._source.open() as stream:
            for block in self._rows(stream, self._options.refuse):
                if skip:
                    block, skip = _without_first(block, skip)  # noqa: PLW2901
                rows, found = self._filled(block)
                self.done = stream.done
                if rows:
                    arrays = [pa.array(cells, pa.string()) for cells in zip(*rows, strict=True)]
                    yield from builder.add(pa.Table.from_arrays(arrays, self.columns), found, block.characters)
        yield from builder.rest()

    def _filled(self, block: RowBlock) -> tuple[list[list[str]], list[int]]:
        """Return the rows that are not blank, with as many cells as the header, and their line numbers."""
        width = len(self.columns)
        if set(map(len, block.rows)) == {width} and width > 1 and all(map(any, block.rows)):
            return block.rows, block.numbers
        rows: list[list[str]] = []
        numbers: list[int] = []
        for row, number in zip(block.rows, block.numbers, strict=True):
            if _is_blank(row):
                continue
            if len(row) > width and self._trailing and not any(row[width:]):
                row = row[:width]  # noqa: PLW2901
            if width >= len(row) >= width / 2:
                rows.append(row + [""] * (width - len(row)))
                numbers.append(number)
            else:
                self._options.refuse(self._wrong_width(len(row), number), row)
        return rows, numbers

    def _wrong_width(self, cells: int, number: int) -> BadInput:
        what = f"the row has {cells} cell{'s' * (cells != 1)}, the header {len(self.columns)}"
        hint = f"Quote cells that hold a {DELIMITERS.get(self._delimiter, 'delimiter')}, or delete the row."
        return BadInput(what, where=f"{self.name}:{number}", hint=hint)

    def _rows(self, stream: ByteStream, refuse: Callable[[BadInput, Any], None]) -> Iterator[RowBlock]:
        blocks = line_blocks(stream, self.name, self._encoding)
        return split_rows(blocks, self.name, refuse, self._delimiter, not self._geonames, bool(self._excel_line))

    def _sample(self) -> list[str]:
        """Return the first lines that can be decoded and are not blank, without line ends."""
        sample: list[str] = []
        size = 0
        with self._source.open() as stream:
            for block in line_blocks(stream, self.name, self._encoding):
                for line in block.lines:
                    if len(sample) == SAMPLE_LINES or size > SAMPLE_CHARACTERS:
                        return sample
                    if line.strip():
                        sample.append(line.rstrip("\r\n"))
                        size += len(line)
        return sample

    def _header(self) -> list[str]:
        with self._source.open() as stream:
            blocks = self._rows(stream, _raise)
            found = ((row, n) for b in blocks for row, n in zip(b.rows, b.numbers, strict=True) if not _is_blank(row))
            row, number = next(islice(found, self._titles, None), ([], 0))
        header = [name.strip() for name in row]
        if not header:
            raise InputError("the file has no header", where=self.name, hint="Make or fetch it again.")
        if not is_header(header):
            what = f"the file has no header: its first row is {', '.join(header)[:80]!r}"
            hint = "Add a first row with the names of the columns."
            raise InputError(what, where=f"{self.name}:{number}", hint=hint)
        if self._titles:
            self.notes.append(f"the header is in line {number}")
        self._trailing = not header[-1]
        while len(header) > 1 and not header[-1]:
            header.pop()
        return distinct_columns(header, self)

    def _note_dialect(self, sample: list[str]) -> None:
        if self._encoding != "utf-8":
            self.notes.append(f"encoding {encoding_name(self._encoding)}")
        if self._geonames:
            self.notes.append("a GeoNames dump, which has no header")
            return
        if self._delimiter != ",":
            self.notes.append(f"delimiter {DELIMITERS.get(self._delimiter, repr(self._delimiter))}")
        self.decimal = recognise_decimal(split_sample(sample, self._delimiter)[1:])
        if self.decimal == ",":
            self.notes.append("decimal comma")


@dataclass(frozen=True)
class RowBlock:
    """Rows, the number of the line where each begins, and their characters, about."""

    rows: list[list[str]]
    numbers: list[int]
    characters: int


def split_rows(
    blocks: Iterator[LineBlock],
    name: str,
    refuse: Callable[[BadInput, Any], None],
    delimiter: str,
    quotes: bool,
    skip_first: bool,
) -> Iterator[RowBlock]:
    """Split lines into rows of cells; blank lines are rows, too.

    After a row that cannot be split, for example because a quote is never closed, reading goes on with the line after
    the one where the row begins.

    Args:
        blocks: The lines.
        name: Name of the file in errors.
        refuse: Called with the error and the text of each line that cannot be read.
        delimiter: Separates the cells.
        quotes: Whether cells may be quoted.
        skip_first: Leave out the first line.
    """
    number, lines = 1, list[str]()
    for block in chain(blocks, [None]):  # None: the end
        lines += block.lines if block else []
        if skip_first and lines:
            number, lines, skip_first = number + 1, lines[1:], False
        at = 0  # the first line that was not read
        while at < len(lines):
            rows, ends, error = _split(lines, at, delimiter, quotes)
            starts = [number + end for end in [at, *ends[:-1]][: len(rows)]]
            begin, at = at, ends[-1] if ends else at
            yield RowBlock(rows, starts, sum(map(len, lines[begin:at])))
            open_quote = error is not None and error.args[0] == "unexpected end of data"
            if open_quote and block and not block.error:
                break  # the next block may close it
            if error:
                what = f"the row cannot be split into cells ({error})"
                hint = "Is a quote missing? Write a quote in a cell twice, and quote the cell."
                refuse(BadInput(what, where=f"{name}:{number + at}", hint=hint), lines[at].rstrip("\r\n"))
                at += 1
        number, lines = number + at, lines[at:]
        if block and block.error:
            refuse(block.error, None)
            number += 1


def _split(
    lines: list[str], at: int, delimiter: str, quotes: bool
) -> tuple[list[list[str]], list[int], csv.Error | None]:
    """Return the rows from line ``at`` to the first error, the line behind the end of each, and the error."""
    rows: list[list[str]] = []
    ends: list[int] = []
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(
        map(lines.__getitem__, range(at, len(lines))), delimiter=delimiter, strict=True, quoting=quoting
    )
    try:
        for row in reader:
            rows.append(row)
            ends.append(at + reader.line_num)
    except csv.Error as error:
        return rows, ends, error
    return rows, ends, None


def _without_first(block: RowBlock, count: int) -> tuple[RowBlock, int]:
    """Return a block without the first rows that are not blank, and how many are to be left out behind it."""
    at = 0
    while count and at < len(block.rows):
        count -= not _is_blank(block.rows[at])
        at += 1
    return RowBlock(block.rows[at:], block.numbers[at:], block.characters), count


def _is_blank(row: list[str]) -> bool:
    return not any(cell.strip() for cell in row)


def _raise(error: BadInput, _: Any) -> None:
    raise InputError(error.what, where=error.where, hint=error.hint) from error
