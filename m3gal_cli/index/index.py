"""An index of POIs: a snapshot of its segments.

Rows are numbered through all segments, in the order of their age. A row that is not live keeps its number.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Coordinates
from m3gal_cli.index.manifest import BUILD_AGAIN, MANIFEST, SEGMENTS, Manifest, no_index, read_manifest
from m3gal_cli.index.poi_columns import Rows, columns_of, taken, values_of
from m3gal_cli.index.poi_rows import Place
from m3gal_cli.index.segment import LIVE, Log, Segment, States
from m3gal_cli.text.terms import Terms

__all__ = ["MANIFEST", "Index", "Log", "read_manifest"]


class Index:
    """A complete index, opened for reading. An update of the index does not change it.

    ``len(index)`` is the number of live POIs.

    Attributes:
        path: Folder of the index.
        manifest: Record of the snapshot (see ``manifest.py``).
        segments: The segments, oldest first.
        offsets: Number of the first row of each segment, and the number of all rows.
        row_count: Number of rows, including those that are not live.
        dim: Width D of the vectors.

    Raises:
        InputError: The folder contains no complete index, or the index is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest, self.segments = _open(path)
        self.dim: int = self.manifest["dim"]
        self.offsets = np.cumsum([0, *(len(segment) for segment in self.segments)])
        self.row_count = int(self.offsets[-1])

    def __len__(self) -> int:
        return sum(segment.live_count for segment in self.segments)

    @property
    def nbytes(self) -> int:
        """The size of the rounded vectors in bytes."""
        return sum(segment.nbytes for segment in self.segments)

    @cached_property
    def states(self) -> States:
        """The state of each row: LIVE, DELETED or DUPLICATE. Shape: (row_count,)."""
        return np.concatenate([np.zeros(0, np.uint8), *(segment.states for segment in self.segments)])

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """Whether each row is live. Shape: (row_count,)."""
        return np.asarray(self.states == LIVE)

    @cached_property
    def lng(self) -> Coordinates:
        """The longitudes of all rows in degrees, WGS-84. Shape: (row_count,)."""
        return self._coordinates("lng")

    @cached_property
    def lat(self) -> Coordinates:
        """The latitudes of all rows in degrees, WGS-84. Shape: (row_count,)."""
        return self._coordinates("lat")

    @cached_property
    def columns(self) -> list[str]:
        """The names of the own columns: all except poi_id, address, lng and lat."""
        return columns_of(segment.pois for segment in self.segments)

    def vectors(self, rows: Rows) -> Vectors:
        """Read the vectors of the given rows. Shape: (n,) -> (n, D) float32."""
        out = np.empty((len(rows), self.dim), np.float32)
        for segment, at, own in self._by_segment(rows):
            out[at] = segment.vectors(own)
        return out

    def hashes(self, name: str) -> NDArray[np.uint64]:
        """Return the hashes of all rows by the name of ``HASHES``. Shape: (row_count,)."""
        return np.concatenate([np.zeros(0, np.uint64), *(segment.hashes(name) for segment in self.segments)])

    def values_at(self, rows: Rows, name: str) -> list[Any]:
        """Return the values of a column in the given rows; None where a segment has no such column."""
        values: list[Any] = [None] * len(rows)
        for segment, at, own in self._by_segment(rows):
            if name in segment.pois.column_names:
                found = values_of(taken(segment.pois.select([name]), own), name)
                for i, value in zip(at.tolist(), found, strict=True):
                    values[i] = value
        return values

    def pois_at(self, rows: Rows, columns: tuple[str, ...] | list[str] = ()) -> list[dict[str, Any]]:
        """Return poi_id, name (if the index has names), address, lng, lat and given columns of the given rows."""
        names = ["poi_id", *(["name"] if "name" in self.columns else []), "address", "lng", "lat"]
        names += [name for name in columns if name not in names]
        values = [self.values_at(rows, name) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]

    def addresses_at(self, rows: Rows) -> list[str]:
        """Return the address of each of the given rows."""
        return self.values_at(rows, "address")

    def terms_at(self, rows: Rows) -> Terms:
        """Return the terms of the addresses of the given rows."""
        found = self._by_segment(rows)
        if len(found) == 1:
            segment, _, own = found[0]
            return segment.terms.take(own)
        order = np.concatenate([np.zeros(0, np.int64), *(at for _, at, _ in found)])
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return Terms.concatenate([segment.terms.take(own) for segment, _, own in found]).take(back)

    def places_at(self, rows: Rows) -> list[Place]:
        """Return address, lng and lat of each of the given rows."""
        return list(zip(self.addresses_at(rows), self.lng[rows].tolist(), self.lat[rows].tolist(), strict=True))

    def files(self) -> list[Path]:
        """Return the files of this snapshot beside its manifest, relative to the folder of the index."""
        return sorted(Path(SEGMENTS, segment.path.name, file) for segment in self.segments for file in segment.files())

    def _coordinates(self, name: str) -> Coordinates:
        parts = [getattr(segment, name) for segment in self.segments]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0), *parts])

    def _by_segment(self, rows: Rows) -> list[tuple[Segment, Rows, Rows]]:
        """Return each segment that holds some of the rows, their positions among ``rows``, and their own numbers."""
        if len(self.segments) == 1:
            return [(self.segments[0], np.arange(len(rows)), rows)] if len(rows) else []
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        found = []
        for number in np.unique(owner).tolist():
            at = np.flatnonzero(owner == number)
            found.append((self.segments[number], at, rows[at] - self.offsets[number]))
        return found


def _open(path: Path) -> tuple[Manifest, list[Segment]]:
    """Return the manifest and its segments; read both again if a writer replaces the snapshot meanwhile."""
    while True:
        manifest = read_manifest(path)
        if manifest is None:
            raise no_index(path)
        try:
            # ``name`` drops the folders of a path, so that a segment is never outside of the index.
            entries = [(Path(entry["name"]).name, int(entry["states"])) for entry in manifest["segments"]]
            segments = [Segment(path / SEGMENTS / name, generation) for name, generation in entries]
            if {manifest["dim"], *(segment.dim for segment in segments)} != {int(manifest["dim"])}:
                raise ValueError("dim")
            return manifest, segments
        except (InputError, KeyError, TypeError, ValueError) as error:
            if read_manifest(path) != manifest:
                continue
            if isinstance(error, InputError):
                raise
            raise InputError(f"damaged index: {MANIFEST} ({error!r})", where=path, hint=BUILD_AGAIN) from error
