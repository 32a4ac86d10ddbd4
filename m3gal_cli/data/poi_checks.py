"""Checks of POIs: texts, coordinates and ids, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from m3gal_cli.data.schemas import PoiColumns, Schema
from m3gal_cli.data.schemas.schema import LIMIT, NO_DEGREES
from m3gal_cli.data.schemas.sources import as_text, is_template, values_of

Bools = NDArray[np.bool_]
FILL = "Fill the cell, delete the row, or leave out such rows: --skip-bad."
_ROW_NUMBERS = "let row numbers be the ids: --columns 'id='"


class Problem(NamedTuple):
    """Rows that are invalid for one reason; ``what`` returns the error of a row."""

    rows: Bools
    column: str
    what: Callable[[int], str]
    hint: str = FILL


def invalid_values(pois: PoiColumns, table: pa.Table, schema: Schema, kept: Bools) -> Iterator[Problem]:
    """Yield the invalid texts and coordinates of a batch; ``kept`` are the rows that count."""
    text = schema.column_of("address")
    missing = ~pois.address.is_valid().to_numpy(zero_copy_only=False)
    yield Problem(missing, text, lambda row: f"expected text, got {_shown(table, text, row)}")
    yield from _not_numbers("lng", pois.lng, table, schema)
    yield _outside("lng", pois.lng, schema.column_of("lng"))
    yield from _not_numbers("lat", pois.lat, table, schema)
    outside = _outside("lat", pois.lat, schema.column_of("lat"))
    if (np.abs(pois.lng[kept & np.isfinite(pois.lng)]) <= LIMIT["lat"]).all():
        outside = outside._replace(
            what=lambda row, what=outside.what: f"{what(row)}: lng and lat look swapped",  # type: ignore[misc]
            hint=_swap_hint(schema),
        )
    yield outside


def _not_numbers(role: str, degrees: NDArray[np.float64], table: pa.Table, schema: Schema) -> Iterator[Problem]:
    column, expected = schema.column_of(role), "degrees"
    if role not in schema.sources:
        expected = "a geometry" if "geometry" in schema.sources else "two numbers"
    hint = "Write degrees as numbers, such as 24.9381, or leave out such rows: --skip-bad."
    rows = ~np.isfinite(degrees)
    empty = np.zeros(len(rows), bool)
    if rows.any():
        empty = rows & ~as_text(values_of(table, column)).is_valid().to_numpy(zero_copy_only=False)

    def what(row: int) -> str:
        return f"expected {expected}, got {_shown(table, column, row)}"

    yield Problem(empty, column, what)
    yield Problem(rows & ~empty, column, what, hint if role in schema.sources else FILL)


def _outside(role: str, degrees: NDArray[np.float64], column: str) -> Problem:
    limit = LIMIT[role]
    rows = np.abs(np.nan_to_num(degrees)) > limit
    hint = "Coordinates are degrees."
    if (np.abs(np.nan_to_num(degrees)) > 1000).any():
        hint = NO_DEGREES
    return Problem(rows, column, lambda row: f"{degrees[row]:g} is outside [-{limit:g}, {limit:g}]", hint)


def _swap_hint(schema: Schema) -> str:
    if "lng" in schema.sources:
        return f"Swap the two columns: --columns 'lng={schema.column_of('lat')}, lat={schema.column_of('lng')}'"
    for role, other in (("lat_lng", "lng_lat"), ("lng_lat", "lat_lng")):
        if role in schema.sources:
            return f"Swap the two numbers: --columns '{other}={schema.sources[role][0]}'"
    return "Coordinates of geometries are lng before lat: make it again, or give two columns of numbers."


class UniqueIds:
    """The ids of a table so far, as 64-bit hashes of 8 bytes each; two of 5 million collide with p < 1e-6."""

    def __init__(self) -> None:
        self._sorted: list[NDArray[np.uint64]] = []  # each at least twice as long as the next

    def invalid(self, ids: pa.Array, kept: Bools, column: str) -> Iterator[Problem]:
        """Yield the rows with an empty id, then those of ``kept`` with an id that an earlier row has."""
        empty = ~ids.is_valid().to_numpy(zero_copy_only=False)
        if not pa.types.is_integer(ids.type):
            blank = pc.equal(pc.utf8_trim_whitespace(ids.cast(pa.string())), "")
            empty |= pc.fill_null(blank, True).to_numpy(zero_copy_only=False)
        yield Problem(empty, column, lambda _: "the id is empty", f"Fill the cell, or {_ROW_NUMBERS}")
        rows = np.flatnonzero(kept & ~empty)
        hashes = _hashes(ids.take(pa.array(rows)))
        again = pd.Series(hashes).duplicated().to_numpy(copy=True)
        for known in self._sorted:
            again |= known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
        twice = np.zeros(len(ids), bool)
        twice[rows[again]] = True
        yield Problem(
            twice,
            column,
            lambda row: f"{column} {ids[row].as_py()!r} appears twice",
            f"Make ids unique, or {_ROW_NUMBERS}",
        )

    def add(self, ids: pa.Array) -> None:
        """Remember ids."""
        new = np.sort(_hashes(ids))
        while len(new) and self._sorted and len(self._sorted[-1]) < 2 * len(new):
            new = np.sort(np.concatenate([self._sorted.pop(), new]))
        if len(new):
            self._sorted.append(new)


def _hashes(ids: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_integer(ids.type):
        return pd.util.hash_array(ids.to_numpy(zero_copy_only=False))
    return pd.util.hash_array(np.array(ids.cast(pa.string()).to_pylist(), object), categorize=False)


def _shown(table: pa.Table, column: str, row: int) -> str:
    """Return a cell for a message; a missing value is "nothing"."""
    value = None if is_template(column) else values_of(table.slice(row, 1), column)[0].as_py()
    if isinstance(value, float):
        return "nothing" if np.isnan(value) else f"{value:g}"
    return "nothing" if value is None or value == "" else repr(value)[:80]
