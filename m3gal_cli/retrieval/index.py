"""An index: one vector a POI on the disk, k + g' (q·k + q·g' = q·(k + g')), and the POIs' columns beside them.

INDEX/
  manifest.json       what it was made of and its measures; written last, so that only a whole index has one
  building.json       the same while it is being made
  pois.parquet        poi_id, address, lng, lat of the distinct POIs, in the order of the table
  vectors/000000.npy  (SHARD_ROWS, D) float16 each, the last one shorter; mapped, not read
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.area import Area
from m3gal_cli.retrieval.embed import Vectors

FORMAT = 1
MANIFEST, BUILDING, POIS, SHARDS = "manifest.json", "building.json", "pois.parquet", "vectors"
COLUMNS = ("poi_id", "address", "lng", "lat")

Shard = NDArray[np.float16]


def shard_path(index: Path, number: int) -> Path:
    """The file of a shard."""
    return index / SHARDS / f"{number:06d}.npy"


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
        self.dim, self._size, self.shard_rows = (int(manifest[name]) for name in ("dim", "rows", "shard_rows"))
        try:
            self.pois: pa.Table = pq.read_table(path / POIS, columns=list(COLUMNS))
            self._shards: list[Shard] = [
                mapped(shard_path(path, i)) for i in range(shard_count(self._size, self.shard_rows))
            ]
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(f"a damaged index ({error})", where=path, hint=hint) from error
        lengths = [len(s) for s in self._shards]
        if (
            len(self.pois) != self._size
            or sum(lengths) != self._size
            or any(s.dtype != np.float16 for s in self._shards)
        ):
            raise InputError("a damaged index: its files do not fit its manifest", where=path, hint=hint)
        self.lng, self.lat = (self.pois[name].to_numpy().astype(np.float64, copy=False) for name in ("lng", "lat"))

    def __len__(self) -> int:
        return self._size

    @property
    def largest_norm(self) -> float:
        """No vector is longer."""
        return float(self.manifest["largest_norm"])

    @property
    def nbytes(self) -> int:
        """Bytes of the stored vectors."""
        return sum(s.nbytes for s in self._shards)

    def shards(self) -> Iterator[tuple[int, Shard]]:
        """Number of the first row, and vectors, of each shard in turn. Shape: (n, D) float16."""
        for number, shard in enumerate(self._shards):
            yield number * self.shard_rows, shard

    def vectors(self, rows: NDArray[np.int64]) -> Vectors:
        """Vectors of these rows; quickest where they rise. Shape: (n,) -> (n, D) float32."""
        out = np.empty((len(rows), self.dim), np.float32)
        owner = rows // self.shard_rows
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(rows)] if len(rows) else [0]
        for a, b in pairwise(cuts):
            number = int(owner[a])
            out[a:b] = self._shards[number][rows[a:b] - number * self.shard_rows]
        return out

    def rows_in(self, area: Area) -> NDArray[np.int64]:
        """Rows of the POIs in an area, rising."""
        return area.rows(self.lng, self.lat)

    def poi(self, row: int) -> dict[str, Any]:
        """poi_id, address, lng, lat of a row."""
        return {name: self.pois[name][row].as_py() for name in COLUMNS}


def mapped(path: Path) -> NDArray[Any]:
    """The array in a file, mapped; as a plain array, of which slices are quicker than of a memmap. Raises OSError."""
    return np.asarray(np.load(path, mmap_mode="r"))


def read_only(rows: NDArray[np.float16]) -> torch.Tensor:
    """A mapped array as a tensor that shares it and must not be written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return torch.from_numpy(rows)


def shard_count(rows: int, shard_rows: int) -> int:
    """Shards of so many rows."""
    return -(-rows // shard_rows)
