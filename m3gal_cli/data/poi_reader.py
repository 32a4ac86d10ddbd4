"""Read POI tables of any format and schema as canonical POIs, in batches.

Canonical POIs begin with the columns poi_id, address, name (if the table has names), lng and lat. The address is the
text that is encoded; lng and lat are float64 degrees in WGS-84. Every own column follows, except geometries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa

from m3gal_cli.data.bad_rows import BadRows
from m3gal_cli.data.formats import BadRow, RawBatch, TableOptions, no_log, open_table
from m3gal_cli.data.poi_checks import FILL, Bools, Problem, UniqueIds, invalid_values
from m3gal_cli.data.schemas import ColumnMapping, Schema, parse_columns, recognise
from m3gal_cli.data.schemas.sources import holds_geometries, is_binary, is_text
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum, to_wgs84

Log = Callable[[str], None]
DATUM_NAMES = {"gcj02": "GCJ-02", "bd09": "BD-09"}


@dataclass(frozen=True)
class PoiOptions:
    """Options of reading POIs.

    Attributes:
        datum: Datum of the coordinates in the table.
        columns: Sources of roles, as ``parse_columns`` reads them; None: all are recognised.
        bad_rows: File for the invalid rows, which are left out. None: the first invalid row is an error.
    """

    datum: Datum = "wgs84"
    columns: str | None = None
    bad_rows: Path | None = None


DEFAULT_OPTIONS = PoiOptions()


class PoiStream:
    """The POIs of a table, in batches; a context manager. ``open_pois`` opens it.

    Attributes:
        name: Name of the table in messages.
        schema: Its schema.
        notes: What was recognised of the file.
        rows: Number of POIs so far.
        closed: Number of POIs so far that are closed for good and left out.
    """

    def __init__(self, path: Path, options: PoiOptions, log: Log) -> None:
        self.name = path.name
        self._path, self._options, self._log = path, options, log
        self.rows = self.closed = self._read = self._at_zero = 0
        self._bad = None if options.bad_rows is None else BadRows(options.bad_rows)
        self._first_error: InputError | None = None
        self._ids = UniqueIds()
        given = ColumnMapping() if options.columns is None else parse_columns(options.columns)
        with ExitStack() as resources:
            if self._bad is not None:
                resources.callback(self._bad.discard)
            table_options = TableOptions(None if self._bad is None else self._leave_out)
            self._raw = resources.enter_context(open_table(path, table_options, log))
            batches = self._raw.batches()
            first = next(batches, None)
            if first is None:
                raise self._nothing()
            try:
                self.schema = recognise(self._raw.columns, first.table, given)
            except InputError as error:
                raise type(error)(error.what, where=path, hint=error.hint) from error
            self._batches = chain([first], batches)
            self._own = _own_columns(first.table, self.schema)
            self._resources = resources.pop_all()
        self.notes = list(self._raw.notes)
        self._say_schema()

    @property
    def size(self) -> int:
        """Bytes or rows of the file, for progress."""
        return self._raw.size

    @property
    def done(self) -> int:
        """Bytes or rows read so far."""
        return self._raw.done

    @property
    def skipped(self) -> int:
        """Number of invalid rows so far that were left out."""
        return 0 if self._bad is None else self._bad.count

    @property
    def has_ids(self) -> bool:
        """Whether the ids are those of the table, not row numbers."""
        return "id" in self.schema.sources

    def batches(self) -> Iterator[pa.Table]:
        """Yield canonical POIs; can be called once. All batches have the same columns and types.

        Raises:
            InputError: A row is invalid (at file:line: column), an id is empty or appears twice, or no POI is left.
        """
        for batch in self._batches:
            table = self._canonical(batch)
            if len(table):
                self.rows += len(table)
                yield table
        if not self.rows:
            raise self._nothing()
        if self._bad is not None:
            self._bad.publish()
        self._say_result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _canonical(self, batch: RawBatch) -> pa.Table:
        """Return the valid POIs of a batch."""
        pois = self.schema.apply(batch.table)
        kept = ~pois.closed
        for problem in invalid_values(pois, batch.table, self.schema, kept):
            kept &= ~self._refused(problem, batch, kept)
        ids = pois.ids
        if ids is None:
            ids = pa.array(np.arange(self._read, self._read + len(batch.table)))
        else:
            for problem in self._ids.invalid(ids, kept, self.schema.column_of("id")):
                kept &= ~self._refused(problem, batch, kept)
            self._ids.add(ids.filter(pa.array(kept)))
        self._read += len(batch.table)
        self.closed += int(pois.closed.sum())
        self._at_zero += int(((pois.lng == 0) & (pois.lat == 0) & kept).sum())
        lng, lat = to_wgs84(pois.lng, pois.lat, self._options.datum)
        columns: dict[str, Any] = {"poi_id": ids, "address": pois.address}
        if pois.name is not None:
            columns["name"] = pois.name
        columns |= {"lng": pa.array(lng), "lat": pa.array(lat)}
        table = pa.table(columns | {new: batch.table[old] for old, new in self._own.items()})
        return table if kept.all() else table.filter(pa.array(kept))

    def _refused(self, problem: Problem, batch: RawBatch, kept: Bools) -> Bools:
        """Return the kept rows with a problem, after they were listed. Raises InputError if none may be left out."""
        wrong = problem.rows & kept
        for row in np.flatnonzero(wrong).tolist():
            where, what = f"{batch.positions(row)}: {problem.column}", problem.what(row)
            if self._bad is None:
                raise InputError(what, where=where, hint=problem.hint)
            self._leave_out(BadRow(where, what, batch.table.slice(row, 1).to_pylist()[0]), problem.hint)
        return wrong

    def _leave_out(self, bad: BadRow, hint: str = FILL) -> None:
        assert self._bad is not None
        self._first_error = self._first_error or InputError(bad.error, where=bad.where, hint=hint)
        self._bad.add(bad)

    def _nothing(self) -> InputError:
        """Return the error for a table without POIs."""
        if self._first_error is not None:
            what = f"all rows are invalid, the first one with: {self._first_error.what}"
            return InputError(what, where=self._first_error.where, hint=self._first_error.hint)
        if self.closed:
            return InputError("all POIs are closed for good", where=self._path, hint="To keep them: --columns closed=")
        return InputError("the POI table has no rows", where=self._path, hint="Make or fetch it again.")

    def _say(self, text: str) -> None:
        self._log(f"{self.name}: {text}")

    def _say_schema(self) -> None:
        if self.notes:
            self._say(f"{', '.join(self.notes)}")
        if self.schema.name != "m3gal":
            roles = ", ".join(f"{role} = {source}" for role, source in self.schema.describe())
            self._say(f"{self.schema.name}: {roles}")

    def _say_result(self) -> None:
        if not self.has_ids:
            self._say("no id column; the ids are row numbers from 0")
        if self.schema.datum and self._options.datum == "wgs84":
            shifted = f"{DATUM_NAMES[self.schema.datum]}, which is shifted"
            self._say(f"the coordinates seem to be {shifted}. To convert them: --datum {self.schema.datum}")
        if self.closed:
            verb = "POI is" if self.closed == 1 else "POIs are"
            self._say(f"{self.closed:,} {verb} closed for good and left out")
        if self._at_zero:
            self._say(f"{self._at_zero:,} POIs lie at 0, 0: are their coordinates unknown?")
        if self._bad is not None and self._bad.count:
            total = self.rows + self.closed + self._bad.count
            verb = "is" if self._bad.count == 1 else "are"
            self._say(f"{self._bad.count:,} of {total:,} rows {verb} invalid and left out; see {self._bad.path}")


def open_pois(path: Path, options: PoiOptions = DEFAULT_OPTIONS, log: Log = no_log) -> PoiStream:
    """Open a POI table and recognise its schema.

    Args:
        path: A table in any format that ``open_table`` reads.
        options: See ``PoiOptions``.
        log: Called with messages: the source of each role, the number of rows that were left out.

    Raises:
        InputError: The file is unreadable or has no rows, or its schema is unknown or ambiguous.
    """
    return PoiStream(path, options, log)


def read_pois(path: Path, options: PoiOptions = DEFAULT_OPTIONS, log: Log = no_log) -> pd.DataFrame:
    """Read all canonical POIs of a table; see ``open_pois``. Raises InputError."""
    with open_pois(path, options, log) as stream:
        return pa.concat_tables(stream.batches()).to_pandas()


def _own_columns(table: pa.Table, schema: Schema) -> dict[str, str]:
    """Return the name among canonical POIs of each own column that is kept: geometries and bytes are not."""
    out: dict[str, str] = {}
    for column in table.column_names:
        new = schema.own_name(column)
        values = table[column].combine_chunks()
        if is_binary(values.type) or (is_text(values.type) and holds_geometries(values)):
            continue
        if new is None or (column,) == schema.sources.get("geometry"):
            continue
        while new in out.values() or (new != column and new in table.column_names):
            new += "_source"
        out[column] = new
    return out
