"""GeoParquet 1.1: tables with a point a row that QGIS, geopandas and DuckDB open. Points are lng, lat degrees WGS-84.

The specification: a Parquet file whose metadata hold the key ``geo``, a JSON object that names the geometry columns,
their encoding and their extent; without a ``crs`` the coordinates are OGC:CRS84, longitude before latitude.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from m3gal_cli.files import atomic_path

VERSION = "1.1.0"
GEOMETRY = "geometry"
_WKB_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])  # packed: 21 bytes


def wkb_points(lng: np.ndarray, lat: np.ndarray) -> pa.BinaryArray:
    """(N,) degrees each -> N points in well-known binary, little-endian."""
    rows = np.zeros(len(lng), _WKB_POINT)
    rows["order"], rows["kind"], rows["x"], rows["y"] = 1, 1, lng, lat
    offsets = np.arange(len(lng) + 1, dtype=np.int32) * _WKB_POINT.itemsize
    return pa.BinaryArray.from_buffers(pa.binary(), len(lng), [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


def geo_metadata(bbox: Sequence[float] | None) -> bytes:
    """The value of the key ``geo`` of a table of points; ``bbox`` is west, south, east, north, None for no rows."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"], "edges": "planar"}
    if bbox is not None:
        column["bbox"] = [float(v) for v in bbox]
    return json.dumps({"version": VERSION, "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}).encode()


class PointWriter:
    """Writes row groups of a table with the columns ``lng`` and ``lat`` and adds the column ``geometry``."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write a row group: the schema's columns by name, ``geometry`` excepted."""
        lnglat = np.array([columns["lng"], columns["lat"]], np.float64).T.reshape(-1, 2)
        if not len(lnglat):
            return
        self._low, self._high = np.minimum(self._low, lnglat.min(axis=0)), np.maximum(self._high, lnglat.max(axis=0))
        arrays = [
            wkb_points(lnglat[:, 0], lnglat[:, 1]) if f.name == GEOMETRY else pa.array(columns[f.name], f.type)
            for f in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def bbox(self) -> list[float] | None:
        """West, south, east, north of what was written; None for nothing."""
        return [*self._low.tolist(), *self._high.tolist()] if np.isfinite(self._low).all() else None


@contextmanager
def point_writer(path: Path, schema: pa.Schema) -> Iterator[PointWriter]:
    """A writer of a GeoParquet file that appears under ``path`` only when it is whole.

    Args:
        path: The file.
        schema: The columns, ``lng`` and ``lat`` among them; ``geometry`` (WKB) is added at the end.

    Raises:
        InputError: the file cannot be written.
    """
    schema = schema.append(pa.field(GEOMETRY, pa.binary(), nullable=False))
    # Without a copy of Arrow's schema: its metadata, fixed before the extent is known, would hide ``geo`` from Arrow.
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer,
    ):
        points = PointWriter(writer, schema)
        yield points
        writer.add_key_value_metadata({"geo": geo_metadata(points.bbox()).decode()})
