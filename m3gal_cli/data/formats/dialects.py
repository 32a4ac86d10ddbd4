"""Recognise how a delimited text file is written: its delimiter, its decimal separator, a header or GeoNames."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import suppress

from m3gal_cli.data.formats.table import Decimal

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
# The columns of a GeoNames dump, which has no header (https://download.geonames.org/export/dump/readme.txt).
GEONAMES = ["geonameid", "name", "asciiname", "alternatenames", "latitude", "longitude", "feature class"]
GEONAMES += ["feature code", "country code", "cc2", "admin1 code", "admin2 code", "admin3 code", "admin4 code"]
GEONAMES += ["population", "elevation", "dem", "timezone", "modification date"]
MAX_TITLES = 20  # rows above the header
_COMMA_NUMBER = re.compile(r"\s*[-+]?\d{1,3},\d+\s*")
_POINT_NUMBER = re.compile(r"\s*[-+]?\d+\.\d+\s*")
_INTEGER = re.compile(r"\d{1,10}")


def recognise_delimiter(lines: Sequence[str]) -> str:
    """Return the delimiter that gives the most columns in the header and the same number in the rows.

    Args:
        lines: The first lines of the file. Ties, and a file with one column: the first of ``DELIMITERS``.
    """
    best, most = ",", 1.0
    for delimiter in DELIMITERS:
        rows = [len(cells) for cells in split_sample(lines, delimiter) if len(cells) > 1 or "".join(cells).strip()]
        width = rows[0] if rows else 0
        share = sum(n == width for n in rows[1:]) / len(rows[1:]) if len(rows) > 1 else 1.0
        columns = width * max(share, 0.1)
        if width > 1 and columns > most:
            best, most = delimiter, columns
    return best


def count_titles(lines: Sequence[str]) -> int:
    """Return the number of rows above the header: titles and comments, which have fewer cells than the rows below.

    Of the delimiters, the one counts that gives the most cells in rows of equal width.

    Args:
        lines: The first lines of the file that are not blank.
    """
    best, titles = 0, 0
    for delimiter in DELIMITERS:
        rows = [row for row in split_sample(lines, delimiter) if any(cell.strip() for cell in row)]
        given = [sum(bool(cell.strip()) for cell in row) for row in rows]
        width = max(given, default=0)
        at = given.index(width) if width else 0
        below = [len(row) for row in rows[at:]]
        alike = sum(cells == below[0] for cells in below)
        if width > 2 and width * alike > best:
            titles_are_short = at <= MAX_TITLES and max(given[:at], default=0) <= max(1, width // 3)
            names_are_distinct = is_header(rows[at]) and len(set(rows[at])) == len(rows[at])
            rows_follow = len(below) > 1 and alike > 0.9 * len(below)
            best, titles = width * alike, at if titles_are_short and names_are_distinct and rows_follow else 0
    return titles


def split_sample(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the cells of lines, as far as they can be read; the last row may be cut."""
    rows: list[list[str]] = []
    with suppress(csv.Error):  # the rows before the error are enough
        rows.extend(csv.reader((line + "\n" for line in lines), delimiter=delimiter))
    return rows


def recognise_decimal(rows: Sequence[Sequence[str]]) -> Decimal:
    """Return "," if a column has numbers with a decimal comma only, else ".".

    ``1,234`` may also be a number of thousands: three digits after each comma count only if no column has numbers with
    a decimal point.

    Args:
        rows: Cells of the first rows, without the header.
    """
    unclear = False
    for column in zip(*(row for row in rows if len(row) == len(rows[0])), strict=True):
        cells = [cell.strip() for cell in column if cell.strip()]
        if cells and all(map(_COMMA_NUMBER.fullmatch, cells)):
            if any(len(cell.partition(",")[2]) != 3 for cell in cells):
                return ","
            unclear = True
    points = any(_POINT_NUMBER.fullmatch(cell) for row in rows for cell in row)
    return "," if unclear and not points else "."


def is_header(cells: Sequence[str]) -> bool:
    """Return whether the first row can be a header: no cell is a decimal number."""
    return not any(_POINT_NUMBER.fullmatch(cell) or _COMMA_NUMBER.fullmatch(cell) for cell in cells)


def is_geonames(lines: Sequence[str]) -> bool:
    """Return whether most lines look like rows of a GeoNames dump: 19 cells, an id, coordinates, a feature class."""
    rows = [line.split("\t") for line in lines if line.strip()]
    alike = [
        bool(
            len(row) == len(GEONAMES)
            and _INTEGER.fullmatch(row[0])
            and all(re.fullmatch(r"-?\d+(\.\d+)?", cell) for cell in row[4:6])
            and len(row[6]) <= 1
        )
        for row in rows
    ]
    return bool(alike) and alike[0] and 2 * sum(alike) >= len(alike)
