"""The columns of POIs in an Arrow file, which is memory-mapped: opening it reads no values.

Values that Arrow cannot hold in one type, such as the ids 1 and "1", are stored as JSON text. The field of such a
column is marked, and its values are decoded when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("poi_id", "address", "lng", "lat")
TYPES = {"address": pa.large_string(), "lng": pa.float64(), "lat": pa.float64()}
KIND, JSON = b"m3gal", b"json"  # metadata of a field with JSON text

Rows = NDArray[np.int64]


def as_table(pois: pd.DataFrame | pa.Table) -> pa.Table:
    """Return POIs as an Arrow table: poi_id, address, lng and lat, then the other columns.

    Raises:
        InputError: A column is missing.
    """
    given = [str(name) for name in (pois.column_names if isinstance(pois, pa.Table) else pois.columns)]
    if missing := [name for name in COLUMNS if name not in given]:
        raise InputError(f"the POIs have no column {', '.join(missing)}", hint="Add it.")
    names = [*COLUMNS, *(name for name in given if name not in COLUMNS)]
    fields, arrays = [], []
    for name in names:
        values = pois[name]
        array, is_text = (values, is_json(pois, name)) if isinstance(pois, pa.Table) else _array_of(values)
        array = array.cast(TYPES.get(name, _plain_type(array.type)))
        fields.append(_field(name, array.type, is_text))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields)).combine_chunks()  # rows are taken faster from one chunk


def concatenated(tables: list[pa.Table]) -> pa.Table:
    """Return the rows of several tables; columns that have no common type become JSON text."""
    fields, arrays = [], []
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        parts = [table.select([name]) if name in table.column_names else None for table in tables]
        field, array = _joined(name, parts, [len(table) for table in tables])
        fields.append(field)
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def values_of(table: pa.Table, name: str) -> list[Any]:
    """Return the values of a column; JSON text is decoded."""
    values: list[Any] = table[name].to_pylist()
    if is_json(table, name):
        return [None if value is None else json.loads(value) for value in values]
    return values


def is_json(table: pa.Table, name: str) -> bool:
    """Return whether a column holds JSON text."""
    return (table.schema.field(name).metadata or {}).get(KIND) == JSON


def write_columns(table: pa.Table, path: Path) -> None:
    """Write a table in one record batch, uncompressed. Raises OSError."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def open_columns(path: Path) -> pa.Table:
    """Memory-map a table. Raises OSError and ArrowException."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def taken(table: pa.Table, rows: Rows) -> pa.Table:
    """Return rows of a table. Shape: rows: (n,)."""
    # Without numpy's conversion, which imports pandas: that takes half a second.
    return table.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows))]))


def numbers_of(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return a column of float64; without a copy if it has one chunk. Shape: (N,)."""
    chunks = table[name].chunks
    arrays = [np.from_dlpack(chunk).astype(np.float64, copy=False) for chunk in chunks]
    return arrays[0] if len(arrays) == 1 else np.concatenate([np.zeros(0), *arrays])


def _joined(name: str, parts: list[pa.Table | None], sizes: list[int]) -> tuple[pa.Field, pa.ChunkedArray]:
    """Return a column of several tables, of which those without the column are None."""
    present = [part for part in parts if part is not None]
    valued = [part for part in present if len(part) and not pa.types.is_null(part[name].type)]
    # The types of JSON text and values, or of floats and other numbers, have no common type without loss.
    kinds = {(is_json(part, name), pa.types.is_floating(part[name].type)) for part in valued}
    columns = [pa.table({name: pa.nulls(n)}) if part is None else part for part, n in zip(parts, sizes, strict=True)]
    if len(kinds) <= 1:
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            array = pa.concat_tables(columns, promote_options="permissive")[name]
            return _field(name, array.type, any(is_json(part, name) for part in present)), array
    texts = [_json_array(values_of(column, name)) for column in columns]
    return _field(name, pa.large_string(), True), pa.chunked_array(texts)


def _array_of(values: pd.Series) -> tuple[pa.Array, bool]:
    """Return a column of a DataFrame, and whether it is JSON text."""
    with suppress(pa.ArrowException, OverflowError):
        array = pa.Array.from_pandas(values)
        if not pa.types.is_nested(array.type):  # a struct would give all dictionaries the same keys
            return array, False
    return _json_array(values.tolist()), True


def _json_array(values: list[Any]) -> pa.Array:
    return pa.array([_json_text(value) for value in values], pa.large_string())


def _json_text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    return json.dumps(value, ensure_ascii=False, default=lambda v: v.item() if isinstance(v, np.generic) else str(v))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that a column is stored as: large strings, and no dictionaries."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    return pa.large_string() if pa.types.is_string(kind) or pa.types.is_string_view(kind) else kind


def _field(name: str, kind: pa.DataType, is_text: bool) -> pa.Field:
    return pa.field(name, kind, metadata={KIND: JSON} if is_text else None)


def columns_of(tables: Iterable[pa.Table]) -> list[str]:
    """Return the names of all columns beside poi_id, address, lng and lat, in the order of their appearance."""
    names = dict.fromkeys(name for table in tables for name in table.column_names)
    return [name for name in names if name not in COLUMNS]
