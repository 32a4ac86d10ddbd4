"""The index of a POI table on disk: one vector for each POI and the columns of the POIs.

The vector of a POI is k + g', because its score is q·k + q·g' = q·(k + g'). It is stored in two float16 parts: the
rounded vector, which searches scan, and the residual of the rounding. Searches add the residual for the best rows, so
that final scores have float32 precision.

INDEX/
  manifest.json             fingerprints of model and table, and sizes; written last
  building.json             the same while the index is being built
  pois.parquet              poi_id, address, lng, lat of the distinct POIs, in the order of the table
  vectors/000000.npy        rounded vectors, shape (shard_rows, D) float16; the last shard may be shorter; memory-mapped
  vectors/000000.rest.npy   residuals of the same shape
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.vector_shards import SHARDS, open_mapped, release_pages, shard_count, shard_path
from m3gal_cli.errors import InputError
from m3gal_cli.files import read_json
from m3gal_cli.geo.filters import Coordinates, GeoFilter

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
MANIFEST, BUILDING, POIS = "manifest.json", "building.json", "pois.parquet"
COLUMNS = ("poi_id", "address", "lng", "lat")
IDS_KEY, IDS_JSON = b"m3gal.poi_id", b"json"

Shard = NDArray[np.float16]
Log = Callable[[str], None]


def residual_path(index: Path, number: int) -> Path:
    """Return the file of the residuals of a shard."""
    return index / SHARDS / f"{number:06d}.rest.npy"


class Index:
    """A complete index, opened for reading. Vectors stay on disk until they are read.

    Attributes:
        dim: Width D of the vectors.
        shard_rows: Rows of each shard but the last one.
        max_norm: Norm of the longest rounded vector.
        max_residual_norm: Norm of the longest residual.
        pois: Columns poi_id, address, lng and lat.
        lng: Longitudes in degrees, WGS-84, shape (N,).
        lat: Latitudes in degrees, WGS-84, shape (N,).

    Raises:
        InputError: The folder contains no complete index, or the index is damaged.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_json(path / MANIFEST)
        hint = "Delete the folder; the next start builds it again."
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise InputError("not an index of this version", where=path, hint=hint)
        self.path, self.manifest = path, manifest
        try:
            self.dim, self._size, self.shard_rows = (int(manifest[name]) for name in ("dim", "rows", "shard_rows"))
            self.max_norm, self.max_residual_norm = (float(manifest[f"largest_{name}"]) for name in ("norm", "rest"))
            with pq.ParquetFile(path / POIS) as file:
                # select raises an error for a missing column, but read does not
                self.pois: pa.Table = file.read(columns=list(COLUMNS)).select(COLUMNS)
            self.lng, self.lat = (_to_numpy(self.pois[name]) for name in ("lng", "lat"))
            numbers = range(shard_count(self._size, self.shard_rows))
            self._shards: list[Shard] = [open_mapped(shard_path(path, i)) for i in numbers]
            self._residuals: list[Shard] = [open_mapped(residual_path(path, i)) for i in numbers]
        except (OSError, EOFError, ValueError, KeyError, TypeError, ArithmeticError, pa.ArrowException) as error:
            raise InputError(f"damaged index ({error})", where=path, hint=hint) from error
        shapes = [(min(self.shard_rows, self._size - i), self.dim) for i in range(0, self._size, self.shard_rows)]
        valid = [s.shape for s in self._shards] == shapes == [s.shape for s in self._residuals]
        valid &= all(s.dtype == np.float16 for s in (*self._shards, *self._residuals))
        if not valid or len(self.pois) != self._size:
            raise InputError("damaged index: its files do not match its manifest", where=path, hint=hint)
        self._ids_are_json = (self.pois.schema.metadata or {}).get(IDS_KEY) == IDS_JSON

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Return the size of the rounded vectors in bytes."""
        return sum(s.nbytes for s in self._shards)

    def shards(self) -> Iterator[tuple[int, Shard]]:
        """Yield the number of the first row, and the rounded vectors, of each shard. Shape: (n, D) float16."""
        for number, shard in enumerate(self._shards):
            yield number * self.shard_rows, shard

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Read the vectors of the given rows; ascending rows are the fastest. Shape: (n,) -> (n, D) float32."""
        owner = rows // self.shard_rows
        if (np.diff(owner) < 0).any():
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), self.dim), np.float32)
            out[order] = self.vectors(rows[order])
            return out
        rounded, residual = (np.empty((len(rows), self.dim), np.float16) for _ in range(2))
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(rows)] if len(rows) else []
        for a, b in pairwise(cuts):
            number, offsets = int(owner[a]), rows[a:b] - owner[a] * self.shard_rows
            for part, stored in ((rounded, self._shards[number]), (residual, self._residuals[number])):
                part[a:b] = stored[offsets]
                release_pages(stored)  # else scattered reads would soon load most of the file into memory
        return _add_parts(rounded, residual)

    def rows_in(self, geo_filter: GeoFilter) -> NDArray[np.int64]:
        """Return the rows of the POIs that pass a geographic filter, ascending."""
        order, lng, lat = self._by_lat
        south, north = max(box[1] for box in geo_filter.boxes()), min(box[3] for box in geo_filter.boxes())
        belt = slice(np.searchsorted(lat, south, side="left"), np.searchsorted(lat, north, side="right"))
        return np.sort(order[belt][geo_filter.rows(lng[belt], lat[belt])])

    @cached_property
    def _by_lat(self) -> tuple[NDArray[np.int64], Coordinates, Coordinates]:
        """Return the rows sorted by latitude, with lng and lat, so that a filter reads a range of them only."""
        order = np.argsort(self.lat, kind="stable")
        return order, self.lng[order], self.lat[order]

    def pois_at(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return poi_id, address, lng and lat of each of the given rows."""
        pois: list[dict[str, Any]] = self.pois.take(_to_arrow(rows)).to_pylist()
        if self._ids_are_json:
            for poi in pois:
                poi["poi_id"] = json.loads(poi["poi_id"])
        return pois

    def addresses_at(self, rows: NDArray[np.int64]) -> list[str]:
        """Return the address of each of the given rows."""
        addresses: list[str] = self.pois["address"].take(_to_arrow(rows)).to_pylist()
        return addresses


def write_pois(pois: pd.DataFrame, path: Path) -> None:
    """Write the POI columns of an index; ids of mixed types (1 and "1") are stored as JSON. Raises OSError."""
    frame = pois[list(COLUMNS)]
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, OverflowError):
        ids = [json.dumps(value, ensure_ascii=False, default=str) for value in frame["poi_id"]]
        table = pa.Table.from_pandas(frame.assign(poi_id=ids), preserve_index=False)
        table = table.replace_schema_metadata({IDS_KEY: IDS_JSON})
    pq.write_table(table, path)


# Conversions between numpy and pyarrow that do not import pandas, which takes half a second.


def _to_numpy(column: pa.ChunkedArray) -> Coordinates:
    return np.from_dlpack(column.combine_chunks()).astype(np.float64, copy=False)


def _to_arrow(rows: NDArray[np.int64]) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def _add_parts(rounded: Shard, residual: Shard) -> Vectors:
    """Return the float32 vectors. torch, if it is imported, converts float16 several times as fast as numpy."""
    if "torch" not in sys.modules:
        return rounded.astype(np.float32) + residual.astype(np.float32)
    import torch

    vectors: Vectors = torch.from_numpy(rounded).float().add_(torch.from_numpy(residual).float()).numpy()
    return vectors
