"""The common form of table files: batches of rows, the position of each row, notes for the user."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa

from m3gal_cli.data.lines import BadInput
from m3gal_cli.errors import InputError

BATCH_ROWS = 50_000
BATCH_BYTES = 1 << 26  # of the file; a batch of large rows ends earlier
Decimal = Literal[".", ","]
Log = Callable[[str], None]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: its position, the error, and its content, or None if that is unknown."""

    where: str
    error: str
    row: Any


@dataclass(frozen=True)
class TableOptions:
    """Options of reading a table.

    Args:
        on_bad: Called with each row that cannot be read, which is then left out. None: the first one is an error.
    """

    on_bad: Callable[[BadRow], None] | None = None

    def refuse(self, error: BadInput, row: Any) -> None:
        """Leave out a row and report it. Raises the error if bad rows are not to be left out."""
        if self.on_bad is None:
            raise error
        self.on_bad(BadRow(error.where or "", error.what, row))


@dataclass(frozen=True)
class Positions:
    """The positions of the rows of a batch: ``file:line``, ``file: row 7`` or ``file: feature 7``."""

    before: str  # the number
    numbers: Sequence[int]

    def __call__(self, i: int) -> str:
        """Return the position of row ``i``, from 0."""
        return f"{self.before}{self.numbers[i]}"


@dataclass(frozen=True)
class RawBatch:
    """Rows in the columns of the file, with the position of each."""

    table: pa.Table
    positions: Positions


class BatchBuilder:
    """Joins small tables to batches. Rows of Python objects are converted early: they take much more memory."""

    def __init__(self, before: str) -> None:
        self._before = before
        self._tables: list[pa.Table] = []
        self._numbers: list[int] = []
        self._size = 0

    def add(self, table: pa.Table, numbers: Sequence[int], size: int) -> Iterator[RawBatch]:
        """Add rows with their numbers and about how many bytes they have; yield a batch if it is large enough."""
        if len(table):
            self._tables.append(table)
            self._numbers.extend(numbers)
            self._size += size
        if len(self._numbers) >= BATCH_ROWS or self._size > BATCH_BYTES:
            yield from self.rest()

    def rest(self) -> Iterator[RawBatch]:
        """Yield the rows that were not yielded, if there are any."""
        if self._tables:
            yield RawBatch(pa.concat_tables(self._tables).combine_chunks(), Positions(self._before, self._numbers))
        self._tables, self._numbers, self._size = [], [], 0


class RawTable(ABC):
    """A table file; a context manager, because some files are unpacked into a temporary folder.

    Attributes:
        path: The file or folder.
        name: Its name in messages.
        format: ``csv``, ``parquet``, ``jsonl``, ``geojson``, ``json``, ``xlsx`` or ``geonames``.
        columns: Names of all columns, in order; none appears twice.
        notes: What was recognised and is not ordinary, for the user.
        decimal: The decimal separator of numbers in text cells.
        done: Bytes or rows that ``batches`` has read.
        size: Bytes or rows of the whole file.
        unit: The unit of both.
    """

    path: Path
    format: str
    columns: list[str]
    decimal: Decimal = "."
    done: int = 0
    size: int = 0
    unit: Literal["bytes", "rows"] = "bytes"

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        self.resources = ExitStack()

    @abstractmethod
    def batches(self) -> Iterator[RawBatch]:
        """Read the file from its beginning; all batches have the same columns.

        Raises:
            InputError: The file or, without ``on_bad``, a row cannot be read.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()


def distinct_columns(names: Sequence[str], table: RawTable) -> list[str]:
    """Return column names without repetitions: the second ``name`` is ``name 2``. The table notes what was renamed."""
    out: dict[str, None] = {}  # in order
    counts: Counter[str] = Counter()
    for number, given in enumerate(names, 1):
        name = wanted = given or f"column {number}"
        while name in out:
            counts[wanted] += 1
            name = f"{wanted} {counts[wanted] + 1}"
        if name != given:
            why = f"{given!r} appears twice in the header" if given else "it has no name in the header"
            table.notes.append(f"column {number} is called {name!r}, because {why}")
        out[name] = None
    return list(out)


def cannot_read(error: BaseException, name: str, hint: str = "Is it complete? Make or fetch it again.") -> InputError:
    """Return the error for a file that a library cannot read."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"cannot read the file ({reason})", where=name, hint=hint)
