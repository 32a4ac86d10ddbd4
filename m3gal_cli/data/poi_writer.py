"""Write canonical POIs in batches: .parquet, .csv or .jsonl by suffix (.csv and .jsonl also .gz)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from m3gal_cli.data.tables import COORDINATE_DECIMALS
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, opener_of, suffix_of

SUFFIXES = (".parquet", ".csv", ".jsonl")
Write = Callable[[pa.Table], None]


def check_suffix(path: Path) -> str:
    """Return the suffix of a POI table to write. Raises InputError for another suffix."""
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        what = f"cannot write a POI table as {suffix or 'a file without suffix'}"
        raise InputError(what, where=path, hint=f"Use one of {', '.join(SUFFIXES)}; .csv and .jsonl also .gz.")
    return suffix


@contextmanager
def poi_writer(path: Path) -> Iterator[Write]:
    """Open a writer of batches; the file appears when the block ends without an error. Raises InputError.

    Coordinates are rounded to a centimetre. CSV has no nested values: they are JSON text there.
    """
    suffix = check_suffix(path)
    # The temporary name has another suffix, so ``opener_of`` takes that of ``path``: it decides about gzip.
    with atomic_path(path) as temporary, opener_of(path)(temporary, "wb") as file:
        if suffix == ".jsonl":
            yield lambda pois: _write_lines(file, _rounded(pois))
            return
        writer: Any = None

        def write(pois: pa.Table) -> None:
            nonlocal writer
            pois = _rounded(pois)
            if suffix == ".csv":
                pois = _flat(pois)
                writer = writer or pa.csv.CSVWriter(file, pois.schema)
            else:
                writer = writer or pq.ParquetWriter(file, pois.schema, compression="zstd")
            writer.write_table(pois)

        yield write
        if writer is not None:
            writer.close()


def _write_lines(file: Any, pois: pa.Table) -> None:
    file.write("".join(_json(row) + "\n" for row in pois.to_pylist(maps_as_pydicts="lossy")).encode())


def _rounded(pois: pa.Table) -> pa.Table:
    for name in ("lng", "lat"):
        rounded = pc.round(pois[name], COORDINATE_DECIMALS)
        pois = pois.set_column(pois.schema.get_field_index(name), name, rounded)
    return pois


def _flat(pois: pa.Table) -> pa.Table:
    """Return a table with nested values as JSON text."""
    for i, field in enumerate(pois.schema):
        if pa.types.is_nested(field.type):
            values = pois[field.name].to_pylist(maps_as_pydicts="lossy")
            texts = [None if value is None else _json(value) for value in values]
            pois = pois.set_column(i, field.name, pa.array(texts, pa.string()))
    return pois


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
