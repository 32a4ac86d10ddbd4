"""Write GeoParquet 1.1: tables with a point per row, for QGIS, geopandas and DuckDB.

The metadata key ``geo`` of the file is a JSON object with the geometry columns, their encoding and bounding box.
Without ``crs`` the coordinates are OGC:CRS84: longitude before latitude, WGS-84.
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
    """Return points in well-known binary, little-endian. Shape: (N,), (N,) degrees -> (N,)."""
    rows = np.zeros(len(lng), _WKB_POINT)
    rows["order"], rows["kind"], rows["x"], rows["y"] = 1, 1, lng, lat
    offsets = np.arange(len(lng) + 1, dtype=np.int32) * _WKB_POINT.itemsize
    return pa.BinaryArray.from_buffers(pa.binary(), len(lng), [None, pa.py_buffer(offsets), pa.py_buffer(rows)])


class PointWriter:
    """Writes row groups of a table with columns ``lng`` and ``lat``, and adds the column ``geometry``."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write a row group: the columns of the schema by name, without ``geometry``."""
        lnglat = np.array([columns["lng"], columns["lat"]], np.float64).T.reshape(-1, 2)
        if not len(lnglat):
            return
        self._low, self._high = np.minimum(self._low, lnglat.min(axis=0)), np.maximum(self._high, lnglat.max(axis=0))
        arrays = [
            wkb_points(lnglat[:, 0], lnglat[:, 1]) if f.name == GEOMETRY else pa.array(columns[f.name], f.type)
            for f in self._schema
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def geo_metadata(self) -> str:
        """Return the metadata ``geo`` of the rows so far; the bounding box is west, south, east, north."""
        column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"], "edges": "planar"}
        if np.isfinite(self._low).all():
            column["bbox"] = [*self._low.tolist(), *self._high.tolist()]
        return json.dumps({"version": VERSION, "primary_column": GEOMETRY, "columns": {GEOMETRY: column}})


@contextmanager
def point_writer(path: Path, schema: pa.Schema) -> Iterator[PointWriter]:
    """Open a writer of a GeoParquet file, which appears at ``path`` when the block ends without an error.

    The schema has the columns ``lng`` and ``lat``; the column ``geometry`` (WKB) is added. Raises InputError.
    """
    schema = schema.append(pa.field(GEOMETRY, pa.binary(), nullable=False))
    # store_schema=False: a stored Arrow schema is fixed before the bbox is known, and would hide ``geo`` from Arrow.
    with (
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd", store_schema=False) as writer,
    ):
        points = PointWriter(writer, schema)
        yield points
        writer.add_key_value_metadata({"geo": points.geo_metadata()})
