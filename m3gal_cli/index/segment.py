"""A segment of an index: an immutable part of its rows, with one vector and the columns of each POI.

The vector of a POI is k + g', because its score is q·k + q·g' = q·(k + g'). It is stored in two float16 parts: the
rounded vector, which searches scan, and the residual of the rounding. Searches add the residual for the best rows, so
that final scores have float32 precision.

A row is live, deleted, or a duplicate of an earlier live row with the same address and coordinates. Only live rows are
found. The states of the rows are the one thing that changes: a later generation of the index adds a file.

INDEX/segments/NAME/
  segment.json              sizes, model, and a hash of the POIs
  pois.arrow                poi_id, address, lng, lat and all other columns of the POIs; memory-mapped
  {id,row,text,place}_hash.npy  hashes of the rows, uint64 (see ``poi_rows.py``)
  vectors/000000.npy        rounded vectors, shape (shard_rows, D) float16; the last shard may be shorter; memory-mapped
  vectors/000000.rest.npy   residuals of the same shape
  terms/                    terms of the addresses, and postings of their n-grams (see ``segment_terms.py``)
  states.GENERATION.npy     0 live, 1 deleted, 2 duplicate; uint8
  lexicon.GENERATION.npz    document frequencies of the live rows
  head/, ann/               data of the searches
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.vector_shards import SHARDS, open_mapped, release_pages, shard_count, shard_path
from m3gal_cli.errors import InputError
from m3gal_cli.files import read_json
from m3gal_cli.geo.filters import Coordinates, GeoFilter
from m3gal_cli.index.manifest import BUILD_AGAIN, FREQUENCIES, STATES, state_files
from m3gal_cli.index.poi_columns import COLUMNS, Rows, numbers_of, open_columns, taken, values_of
from m3gal_cli.index.poi_rows import HASHES
from m3gal_cli.index.segment_terms import SegmentTerms, open_terms
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import Terms

SEGMENT_FILE, POIS = "segment.json", "pois.arrow"
LIVE, DELETED, DUPLICATE = 0, 1, 2

Shard = NDArray[np.float16]
States = NDArray[np.uint8]
Log = Callable[[str], None]


def residual_path(segment: Path, number: int) -> Path:
    """Return the file of the residuals of a shard."""
    return segment / SHARDS / f"{number:06d}.rest.npy"


def hash_path(segment: Path, name: str) -> Path:
    """Return the file of the hashes of the rows by the name of ``HASHES``."""
    return segment / f"{name}_hash.npy"


class Segment:
    """A complete segment, opened for reading. Vectors and columns stay on disk until they are read.

    Args:
        path: Folder of the segment.
        generation: Generation of the states of its rows; None: all rows are live.

    Attributes:
        record: Content of segment.json.
        dim: Width D of the vectors.
        shard_rows: Rows of each shard but the last one.
        max_norm: Upper bound of the norms of the rounded vectors.
        max_residual_norm: Upper bound of the norms of the residuals.
        pois: Columns of the POIs.
        lng: Longitudes in degrees, WGS-84, shape (N,).
        lat: Latitudes in degrees, WGS-84, shape (N,).
        states: State of each row: LIVE, DELETED or DUPLICATE. Shape (N,).
        live: Which rows are live, shape (N,); None if all are.
        live_count: Number of live rows.

    Raises:
        InputError: The folder contains no complete segment, or it is damaged.
    """

    def __init__(self, path: Path, generation: int | None = None) -> None:
        record = read_json(path / SEGMENT_FILE)
        if not isinstance(record, dict):
            raise InputError("damaged index: a segment is missing", where=path, hint=BUILD_AGAIN)
        self.path, self.record, self.generation = path, record, generation
        try:
            self.dim, self._size, self.shard_rows = (int(record[name]) for name in ("dim", "rows", "shard_rows"))
            self.max_norm, self.max_residual_norm = (float(record[f"largest_{name}"]) for name in ("norm", "rest"))
            self.pois: pa.Table = open_columns(path / POIS)
            self.lng, self.lat = (numbers_of(self.pois, name) for name in ("lng", "lat"))
            numbers = range(shard_count(self._size, self.shard_rows))
            self._shards: list[Shard] = [open_mapped(shard_path(path, i)) for i in numbers]
            self._residuals: list[Shard] = [open_mapped(residual_path(path, i)) for i in numbers]
            self._hashes = {name: open_mapped(hash_path(path, name)) for name in HASHES}
            states = np.zeros(self._size, np.uint8)
            if generation is not None:
                states = np.array(open_mapped(path / state_files(generation)[0]))
        except (OSError, EOFError, ValueError, KeyError, TypeError, ArithmeticError, pa.ArrowException) as error:
            raise InputError(f"damaged index ({error})", where=path, hint=BUILD_AGAIN) from error
        shapes = [(min(self.shard_rows, self._size - i), self.dim) for i in range(0, self._size, self.shard_rows)]
        valid = [s.shape for s in self._shards] == shapes == [s.shape for s in self._residuals]
        valid &= all(s.dtype == np.float16 for s in (*self._shards, *self._residuals))
        valid &= states.shape == (self._size,) and states.dtype == np.uint8
        valid &= all(h.shape == (self._size,) and h.dtype == np.uint64 for h in self._hashes.values())
        if not valid or len(self.pois) != self._size or set(COLUMNS) - set(self.pois.column_names):
            raise InputError("damaged index: its files do not match its manifest", where=path, hint=BUILD_AGAIN)
        self.states: States = states
        self.live_count = int((states == LIVE).sum())
        self.live = None if self.live_count == self._size else states == LIVE

    def __len__(self) -> int:
        """Return the number of rows, including those that are not live."""
        return self._size

    @property
    def nbytes(self) -> int:
        """Return the size of the rounded vectors in bytes."""
        return sum(s.nbytes for s in self._shards)

    def live_rows(self) -> Rows:
        """Return the live rows, ascending."""
        return np.arange(self._size) if self.live is None else np.flatnonzero(self.live)

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """Return the hashes of all rows by the name of ``HASHES``. Shape: (N,)."""
        return self._hashes[name]

    def shards(self) -> Iterator[tuple[int, Shard]]:
        """Yield the number of the first row, and the rounded vectors, of each shard. Shape: (n, D) float16."""
        for number, shard in enumerate(self._shards):
            yield number * self.shard_rows, shard

    def vectors(self, rows: Rows) -> Vectors:
        """Read the vectors of the given rows; ascending rows are the fastest. Shape: (n,) -> (n, D) float32."""
        return _add_parts(*self.parts(rows))

    def parts(self, rows: Rows) -> tuple[Shard, Shard]:
        """Read the rounded vectors of the given rows, and their residuals. Shape: (n,) -> (n, D), (n, D) float16."""
        owner = rows // self.shard_rows
        if (np.diff(owner) < 0).any():
            order = np.argsort(rows, kind="stable")
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            rounded, residual = self.parts(rows[order])
            return rounded[back], residual[back]
        rounded, residual = (np.empty((len(rows), self.dim), np.float16) for _ in range(2))
        cuts = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), len(rows)] if len(rows) else []
        for a, b in pairwise(cuts):
            number, offsets = int(owner[a]), rows[a:b] - owner[a] * self.shard_rows
            for part, stored in ((rounded, self._shards[number]), (residual, self._residuals[number])):
                part[a:b] = stored[offsets]
                release_pages(stored)  # else scattered reads would soon load most of the file into memory
        return rounded, residual

    def rows_in(self, geo_filter: GeoFilter) -> Rows:
        """Return the live rows that pass a geographic filter, ascending."""
        order, lng, lat = self._by_lat
        south, north = max(box[1] for box in geo_filter.boxes()), min(box[3] for box in geo_filter.boxes())
        belt = slice(np.searchsorted(lat, south, side="left"), np.searchsorted(lat, north, side="right"))
        return np.sort(order[belt][geo_filter.rows(lng[belt], lat[belt])])

    @cached_property
    def _by_lat(self) -> tuple[Rows, Coordinates, Coordinates]:
        """Return the live rows sorted by latitude, with lng and lat, so that a filter reads a range of them only."""
        rows = self.live_rows()
        order = rows[np.argsort(self.lat[rows], kind="stable")]
        return order, self.lng[order], self.lat[order]

    @property
    def terms(self) -> Terms:
        """The terms of the addresses of all rows."""
        return self._terms.terms

    @property
    def postings(self) -> Postings:
        """The postings of the n-grams of all rows."""
        return self._terms.postings

    @cached_property
    def _terms(self) -> SegmentTerms:
        return open_terms(self.path, len(self), self.addresses_at)

    def addresses_at(self, rows: Rows) -> list[str]:
        """Return the address of each of the given rows."""
        addresses: list[str] = taken(self.pois.select(["address"]), rows)["address"].to_pylist()
        return addresses

    def ids_at(self, rows: Rows) -> list[Any]:
        """Return the poi_id of each of the given rows."""
        return values_of(taken(self.pois.select(["poi_id"]), rows), "poi_id")

    def files(self) -> list[Path]:
        """Return the files of the segment with the current states, relative to its folder; no leftovers."""
        current = () if self.generation is None else state_files(self.generation)
        paths = (p.relative_to(self.path) for p in self.path.rglob("*") if p.is_file())
        whole = (p for p in paths if not any(part.startswith(".") for part in p.parts))
        return sorted(p for p in whole if not p.name.startswith((f"{STATES}.", f"{FREQUENCIES}.")) or p.name in current)


def _add_parts(rounded: Shard, residual: Shard) -> Vectors:
    """Return the float32 vectors. torch, if it is imported, converts float16 several times as fast as numpy."""
    if "torch" not in sys.modules:
        return rounded.astype(np.float32) + residual.astype(np.float32)
    import torch

    vectors: Vectors = torch.from_numpy(rounded).float().add_(torch.from_numpy(residual).float()).numpy()
    return vectors
