"""An index: one vector a POI on the disk, k + g' (q·k + q·g' = q·(k + g')), and the POIs' columns beside them.

A vector is kept in two parts: rounded to float16, which searches go through, and what rounding took from it, which is
added for the few rows that are left: scores are those of float32.

INDEX/
  manifest.json       what it was made of and its measures; written last, so that only a whole index has one
  building.json       the same while it is being made
  pois.parquet        poi_id, address, lng, lat of the distinct POIs, in the order of the table
  vectors/000000.npy  (SHARD_ROWS, D) float16 each, the last one shorter; mapped, not read
  vectors/000000.rest.npy   what rounding took from these, in the same shape
"""

from __future__ import annotations

import json
import mmap
import sys
import warnings
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Area, Coordinates

if TYPE_CHECKING:
    import pandas as pd
    import torch

FORMAT = 1
MANIFEST, BUILDING, POIS, SHARDS = "manifest.json", "building.json", "pois.parquet", "vectors"
COLUMNS = ("poi_id", "address", "lng", "lat")
IDS_KEY, IDS_JSON = b"m3gal.poi_id", b"json"

Shard = NDArray[np.float16]


def shard_path(index: Path, number: int) -> Path:
    """The file of a shard; where it is, so is its rest."""
    return index / SHARDS / f"{number:06d}.npy"


def rest_path(index: Path, number: int) -> Path:
    """The file of what rounding took from a shard."""
    return index / SHARDS / f"{number:06d}.rest.npy"


def read_json(path: Path) -> Any:
    """A file's JSON, or None where there is none or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


class Index:
    """A whole index, opened. Vectors stay on the disk until they are looked at.

    Raises:
        InputError: there is none, or its files do not fit its manifest.
    """

    def __init__(self, path: Path) -> None:
        manifest = read_json(path / MANIFEST)
        hint = "Delete the folder: it is made anew."
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise InputError("is no index", where=path, hint=hint)
        self.path, self.manifest = path, manifest
        try:
            self.dim, self._size, self.shard_rows = (int(manifest[name]) for name in ("dim", "rows", "shard_rows"))
            self.largest_norm, self.largest_rest = (float(manifest[f"largest_{name}"]) for name in ("norm", "rest"))
            with pq.ParquetFile(path / POIS) as file:
                self.pois: pa.Table = file.read(columns=list(COLUMNS)).select(COLUMNS)  # a missing one is told of
            self.lng, self.lat = (_numbers(self.pois[name]) for name in ("lng", "lat"))
            self._shards, self._rests = (
                [mapped(of(path, i)) for i in range(shard_count(self._size, self.shard_rows))]
                for of in (shard_path, rest_path)
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, ArithmeticError, pa.ArrowException) as error:
            raise InputError(f"a damaged index ({error})", where=path, hint=hint) from error
        wanted = [(min(self.shard_rows, self._size - i), self.dim) for i in range(0, self._size, self.shard_rows)]
        whole = [s.shape for s in self._shards] == wanted == [s.shape for s in self._rests]
        whole &= all(s.dtype == np.float16 for s in (*self._shards, *self._rests))
        if not whole or len(self.pois) != self._size:
            raise InputError("a damaged index: its files do not fit its manifest", where=path, hint=hint)
        self._ids_are_json = (self.pois.schema.metadata or {}).get(IDS_KEY) == IDS_JSON

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of the rounded vectors."""
        return sum(s.nbytes for s in self._shards)

    def shards(self) -> Iterator[tuple[int, Shard]]:
        """Number of the first row, and vectors, rounded, of each shard in turn. Shape: (n, D) float16."""
        for number, shard in enumerate(self._shards):
            yield number * self.shard_rows, shard

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of these rows; quickest where they rise. Shape: (n,) -> (n, D) float32."""
        owner = rows // self.shard_rows
        if (np.diff(owner) < 0).any():
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), self.dim), np.float32)
            out[order] = self.vectors(rows[order])
            return out
        rounded, rest = (np.empty((len(rows), self.dim), np.float16) for _ in range(2))
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(rows)] if len(rows) else []
        for a, b in pairwise(cuts):
            number, at = int(owner[a]), rows[a:b] - owner[a] * self.shard_rows
            for half, mapping in ((rounded, self._shards[number]), (rest, self._rests[number])):
                half[a:b] = mapping[at]
                let_go(mapping)  # rows here and there would hold most of the file in memory before long
        return _sum(rounded, rest)

    def rows_in(self, area: Area) -> NDArray[np.int64]:
        """Rows of the POIs in an area, rising."""
        order, lng, lat = self._by_lat
        south, north = max(box[1] for box in area.boxes()), min(box[3] for box in area.boxes())
        belt = slice(np.searchsorted(lat, south, side="left"), np.searchsorted(lat, north, side="right"))
        return np.sort(order[belt][area.rows(lng[belt], lat[belt])])

    @cached_property
    def _by_lat(self) -> tuple[NDArray[np.int64], Coordinates, Coordinates]:
        """Rows from south to north, with their coordinates: a search in an area need not look at all."""
        order = np.argsort(self.lat, kind="stable")
        return order, self.lng[order], self.lat[order]

    def places(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """poi_id, address, lng, lat of these rows. Shape: (n,) -> n."""
        found: list[dict[str, Any]] = self.pois.take(_column(rows)).to_pylist()
        if self._ids_are_json:
            for place in found:
                place["poi_id"] = json.loads(place["poi_id"])
        return found

    def addresses(self, rows: NDArray[np.int64]) -> list[str]:
        """Addresses of these rows. Shape: (n,) -> n."""
        found: list[str] = self.pois["address"].take(_column(rows)).to_pylist()
        return found

    def poi(self, row: int) -> dict[str, Any]:
        """poi_id, address, lng, lat of a row."""
        return self.places(np.array([row]))[0]


def write_pois(pois: pd.DataFrame, path: Path) -> None:
    """Write the columns of an index; ids of several kinds (1 and "1") as JSON. Raises OSError."""
    frame = pois[list(COLUMNS)]
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, OverflowError):
        ids = [json.dumps(value, ensure_ascii=False, default=str) for value in frame["poi_id"]]
        table = pa.Table.from_pandas(frame.assign(poi_id=ids), preserve_index=False)
        table = table.replace_schema_metadata({IDS_KEY: IDS_JSON})
    pq.write_table(table, path)


def mapped(path: Path) -> Shard:
    """The array in a file, mapped; as a plain array, of which slices are quicker than of a memmap. Raises OSError."""
    return np.asarray(np.load(path, mmap_mode="r"))


def let_go(rows: NDArray[Any]) -> None:
    """Let what was read of a mapped array count for this process no longer; the system keeps it while it has room."""
    held: Any = getattr(rows, "_mmap", None) or getattr(rows.base, "_mmap", None)
    if held is not None and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        held.madvise(mmap.MADV_DONTNEED)


def read_only(rows: NDArray[Any]) -> torch.Tensor:
    """A mapped array as a tensor that shares it and must not be written to."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(rows)


# From arrays to columns and back: the usual calls of pyarrow import pandas, which takes half a second.


def _numbers(column: pa.ChunkedArray) -> Coordinates:
    """A column of numbers as an array."""
    return np.from_dlpack(column.combine_chunks()).astype(np.float64, copy=False)


def _column(rows: NDArray[np.int64]) -> pa.Array:
    """An array of numbers as a column."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def _sum(rounded: Shard, rest: Shard) -> Vectors:
    """Both parts of vectors put together. Where torch is there, it widens halves several times as fast as numpy."""
    if "torch" not in sys.modules:
        return rounded.astype(np.float32) + rest.astype(np.float32)
    import torch

    whole: Vectors = torch.from_numpy(rounded).float().add_(torch.from_numpy(rest).float()).numpy()
    return whole


def shard_count(rows: int, shard_rows: int) -> int:
    """Shards of so many rows."""
    return -(-rows // shard_rows)
