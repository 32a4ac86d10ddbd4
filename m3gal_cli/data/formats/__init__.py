"""Read rows from table files: CSV in its dialects, Parquet, JSON, GeoJSON, GeoNames, Excel.

``open_table`` recognises the format. All formats give batches of rows in the columns of the file.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from m3gal_cli.data.formats.delimited import DelimitedTable
from m3gal_cli.data.formats.encodings import recognise_encoding
from m3gal_cli.data.formats.kinds import NAMES, SUFFIXES, reads_by_line, recognise_format, unpack
from m3gal_cli.data.formats.objects import JsonTable
from m3gal_cli.data.formats.parquet import ParquetTable, part_files
from m3gal_cli.data.formats.sheet import SheetTable
from m3gal_cli.data.formats.source import Source
from m3gal_cli.data.formats.table import BadRow, Log, Positions, RawBatch, RawTable, TableOptions
from m3gal_cli.files import require_file, suffix_of

__all__ = ["BadRow", "Positions", "RawBatch", "RawTable", "TableOptions", "no_log", "open_table", "part_files"]
_DEFAULT = TableOptions()


def no_log(_: str) -> None:
    """Ignore the message."""


def open_table(path: Path, options: TableOptions = _DEFAULT, log: Log = no_log) -> RawTable:
    """Open a table file, or a folder of Parquet files; close it as a context manager.

    The content decides the format where it is clear, otherwise the suffix. ``.gz`` and ``.zip`` are unpacked.

    Args:
        path: The file or folder.
        options: How the table is read.
        log: Called with a message before long work.

    Raises:
        InputError: The file is missing, empty or damaged, or it is no table.
    """
    with ExitStack() as resources:
        if path.is_dir() and part_files(path):
            table: RawTable = ParquetTable(path, str(path))
        else:
            require_file(path, "table", "Give a file, or a folder of .parquet files." if path.is_dir() else None)
            table = _open(Source(path, str(path)), options, log, resources)
        table.path = path
        table.resources = resources.pop_all()
    return table


def _open(source: Source, options: TableOptions, log: Log, resources: ExitStack) -> RawTable:
    kind = recognise_format(source)
    if kind == "zip":
        source = unpack(source, resources)
        kind = recognise_format(source)
    table: RawTable
    if kind == "parquet":
        table = ParquetTable(source.path, source.name)
    elif kind == "xlsx":
        table = SheetTable(source.path, source.name, options)
    else:
        encoding = recognise_encoding(source)
        if kind == "json":
            table = JsonTable(source, encoding, reads_by_line(source, encoding), options, log)
        else:
            table = DelimitedTable(source, encoding, options)
    suffix = suffix_of(source.path)
    if SUFFIXES.get(suffix, kind) != kind:
        table.notes.insert(0, f"{NAMES[kind]}, although the name ends in {suffix}")
    return table
