"""Read the first sheet of an Excel workbook (.xlsx) with openpyxl, which the extra ``xlsx`` installs."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any

from m3gal_cli.data.formats.dialects import MAX_TITLES
from m3gal_cli.data.formats.objects import Located, ObjectTable, Row
from m3gal_cli.data.formats.table import TableOptions, cannot_read, distinct_columns
from m3gal_cli.data.lines import BadInput
from m3gal_cli.errors import InputError

# openpyxl has no base class of its errors: a damaged workbook fails wherever its parsers notice it.
_ERRORS = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(AssertionError, RuntimeError, SyntaxError, zlib.error, zipfile.BadZipFile),
)


class SheetTable(ObjectTable):
    """The rows of the first sheet. The header is the first row that is neither empty nor a title.

    Whole numbers are integers, dates are texts in ISO 8601. Empty cells are null, rows of empty cells are left out.
    """

    format, unit = "xlsx", "rows"

    def __init__(self, path: Path, name: str, options: TableOptions) -> None:
        super().__init__(name, options)
        self._path = path
        self.before = f"{name}: row "
        self._names: list[str] = []
        self._header_row = self._find_header()
        self.find_columns()
        self.size, self.done = self.done, 0
        if not self._names:
            raise InputError("the first sheet is empty", where=name, hint="Move the table to the first sheet.")
        self.columns = self._names
        for column in self.columns:  # columns without a value are columns
            self._shape.add_fields({column: None})

    def rows(self, options: TableOptions) -> Iterator[Located]:
        """Yield the rows from the beginning of the sheet."""
        with self._sheet() as (sheet, _):
            header: list[str] | None = None
            for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
                values = [_plain(cell) for cell in cells]
                if all(value is None for value in values):
                    continue
                if header is None:
                    if number >= self._header_row:
                        header = self._header(values)
                    continue
                extra = [value for value in values[len(header) :] if value is not None]
                if extra:
                    what = f"the cell {str(extra[0])[:80]!r} is in a column without a name"
                    hint = "Name the column in the first row, or delete the cell."
                    options.refuse(BadInput(what, where=f"{self.before}{number}", hint=hint), values)
                    continue
                self.done = number
                row: Row = dict(zip(header, values, strict=False))
                yield number, row, sum(len(value) for value in values if isinstance(value, str))

    def _find_header(self) -> int:
        """Return the number of the row with the header: below titles, which have fewer cells than the rows below."""
        with self._sheet() as (sheet, others):
            rows = list(islice(sheet.iter_rows(values_only=True), MAX_TITLES + 10))
        if others:
            self.notes.append(f"the first sheet is read; the others are {', '.join(others)}"[:200])
        given = [sum(_plain(cell) is not None for cell in row) for row in rows]
        width = max(given, default=0)
        at = given.index(width) if width else 0
        cells = [str(cell) for cell in rows[at] if _plain(cell) is not None] if rows else []
        has_titles = 0 < at <= MAX_TITLES and width > 2 and max(given[:at]) <= max(1, width // 3)
        is_header = has_titles and len(set(cells)) == len(cells) and all(isinstance(c, str | None) for c in rows[at])
        if not is_header:
            return 0
        if any(given[:at]):
            self.notes.append(f"the header is in row {at + 1}")
        return at + 1

    def _header(self, values: list[Any]) -> list[str]:
        if not self._names:
            while values[-1] is None:
                values.pop()
            self._names = distinct_columns(["" if v is None else str(v).strip() for v in values], self)
        return self._names

    @contextmanager
    def _sheet(self) -> Iterator[tuple[Any, list[str]]]:
        """Open the first sheet; the names of the others. Raises InputError for what openpyxl cannot read."""
        try:
            from openpyxl import load_workbook
        except ImportError as error:
            hint = "Run: pip install 'm3gal[xlsx]'. Or save the sheet as .csv."
            raise InputError("reading .xlsx needs openpyxl", where=self.name, hint=hint) from error
        try:
            with self._path.open("rb") as file:  # openpyxl refuses paths with other suffixes
                with warnings.catch_warnings(action="ignore"):  # of parts of the workbook that are not read
                    book = load_workbook(file, read_only=True, data_only=True)
                with closing(book):
                    if not book.worksheets:
                        raise InputError("the workbook has no sheet", where=self.name, hint="Is this a table?")
                    first, *others = book.worksheets
                    first.reset_dimensions()  # the size that the file states may be wrong
                    yield first, [sheet.title for sheet in others]
        except _ERRORS as error:
            raise cannot_read(error, self.name) from error


def _plain(cell: Any) -> Any:
    """Return the value of a cell as JSON has it; None for an empty one."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime | date | time):
        if isinstance(cell, datetime) and cell.time() == time(0):
            cell = cell.date()
        return cell.isoformat()
    if isinstance(cell, str):
        return cell if cell.strip() else None
    return cell if cell is None or isinstance(cell, bool | int | float) else str(cell)
