"""Recognise the schema of a small table and make its POIs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from m3gal_cli.data.schemas import PoiColumns, Schema, parse_columns, recognise

Table = dict[str, Any] | list[dict[str, Any]] | pa.Table  # columns, rows, or both


def table_of(table: Table) -> pa.Table:
    """Return columns or rows as a table."""
    return pa.Table.from_pylist(table) if isinstance(table, list) else pa.table(table)


def schema_of(table: Table, given: str | None = None) -> Schema:
    """Return the schema of a table; ``given`` is the value of ``--columns``."""
    table = table_of(table)
    return recognise(table.column_names, table, None if given is None else parse_columns(given))


def pois_of(table: Table, given: str | None = None) -> PoiColumns:
    """Return the columns of POIs that the schema of a table makes."""
    return schema_of(table, given).apply(table_of(table))


def texts_of(table: Table, given: str | None = None) -> list[str | None]:
    """Return the address texts of a table."""
    texts: list[str | None] = pois_of(table, given).address.to_pylist()
    return texts


def ids_of(table: Table, given: str | None = None) -> list[Any]:
    """Return the ids of a table, which has some."""
    ids = pois_of(table, given).ids
    assert ids is not None
    values: list[Any] = ids.to_pylist()
    return values
