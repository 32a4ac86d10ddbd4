"""Read a Parquet or GeoParquet file, or a folder of such parts, in batches. Columns keep their types."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from m3gal_cli.data.formats.geojson import not_wgs84
from m3gal_cli.data.formats.table import BATCH_ROWS, Positions, RawBatch, RawTable, cannot_read
from m3gal_cli.errors import InputError

_USUAL_TYPES = (
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_string_view, pa.string()),
    (pa.types.is_binary_view, pa.binary()),
    (pa.types.is_fixed_size_binary, pa.binary()),
)
_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError)  # of pyarrow for damaged files


class ParquetTable(RawTable):
    """The rows of one or several Parquet files."""

    format, unit = "parquet", "rows"

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(name)
        self._parts = part_files(path) if path.is_dir() else [path]
        self._folder = path if path.is_dir() else None
        schemas = []
        for part in self._parts:
            with self._errors(part), pq.ParquetFile(part) as file:
                schemas.append(file.schema_arrow)
                self.size += file.metadata.num_rows
                _require_degrees((file.metadata.metadata or {}).get(b"geo"), self._name(part))
        self.columns = schemas[0].names
        self._schema = self._common(schemas)
        repeated, times = Counter(self.columns).most_common(1)[0] if self.columns else ("", 0)
        if times > 1:
            raise InputError(f"the column {repeated} appears twice", where=name, hint="Rename one of them.")
        if self._folder:
            self.notes.append(f"{len(self._parts):,} Parquet files")

    def batches(self) -> Iterator[RawBatch]:
        """Read the parts in the order of their names; see ``RawTable.batches``."""
        self.done = 0
        for part in self._parts:
            with self._errors(part), pq.ParquetFile(part, pre_buffer=False) as file:
                row = 1
                for batch in file.iter_batches(BATCH_ROWS):
                    batch.validate(full=True)  # a damaged text would fail later, without a position
                    table = pa.Table.from_batches([batch]).select(self.columns)
                    if not table.schema.equals(self._schema):
                        table = table.cast(self._schema)
                    table = pa.table([_of_usual_type(column) for column in table.columns], self.columns)
                    yield RawBatch(table, Positions(f"{self._name(part)}: row ", range(row, row + len(batch))))
                    row += len(batch)
                    self.done += len(batch)

    def _common(self, schemas: list[pa.Schema]) -> pa.Schema:
        """Return the schema that holds the rows of all parts. Raises InputError if they are different tables."""
        hint = "Give a folder with the parts of one table, or a single file."
        for part, schema in zip(self._parts, schemas, strict=True):
            if set(schema.names) != set(self.columns):
                differing = ", ".join(sorted(set(schema.names) ^ set(self.columns))[:5])
                what = f"the columns differ from those of {self._parts[0].name} ({differing})"
                raise InputError(what, where=self._name(part), hint=hint)
        try:
            return pa.unify_schemas(schemas, promote_options="permissive").remove_metadata()
        except pa.ArrowException as error:
            raise cannot_read(error, self.name, hint) from error

    def _name(self, part: Path) -> str:
        return self.name if self._folder is None else f"{self.name}/{part.relative_to(self._folder)}"

    @contextmanager
    def _errors(self, part: Path) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise cannot_read(error, self._name(part)) from error


def part_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder and its folders, by name; without hidden ones and those that are empty."""
    return sorted(
        path
        for path in folder.rglob("*.parquet")
        if path.is_file()
        and path.stat().st_size
        and not any(p.startswith((".", "_")) for p in path.relative_to(folder).parts)
    )


def _of_usual_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of a rare type in a usual one, because few functions of pyarrow accept the rare types."""
    kind = column.type
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    for is_rare, usual in _USUAL_TYPES:
        if is_rare(kind):
            kind = usual
    return column if kind == column.type else column.cast(kind)


def _require_degrees(geo: bytes | None, name: str) -> None:
    """Raise InputError if the geometry of a GeoParquet file is not in WGS-84; without ``crs`` it is."""
    try:
        meta: Any = json.loads(geo) if geo else {}
        crs = meta["columns"][meta["primary_column"]].get("crs") if meta else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return
    if not isinstance(crs, dict):
        return
    code: Any = crs.get("id") if isinstance(crs.get("id"), dict) else {}
    known = str(code.get("code")) in ("4326", "CRS84") if code else crs.get("type") == "GeographicCRS"
    if not known:
        raise not_wgs84(crs.get("name") or f"{code.get('authority')}:{code.get('code')}", name)
