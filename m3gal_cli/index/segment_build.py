"""Build a segment: by one process or by several, and resume an interrupted build.

Vectors are written in shards. A shard file is complete or absent, so a killed build loses the current shards only, and
the next start continues. Each of N processes encodes every N-th shard. They communicate by files only, so machines with
a common file system can share the work. At the end, the first process renames INDEX/building to INDEX/segments/NAME.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.encoders.vector_shards import shard_count, shard_path, write_shard
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, publish_folder, read_json, remove_folder
from m3gal_cli.index.exact_numpy import MIN_PRUNED_ROWS
from m3gal_cli.index.folder_lock import FolderLock
from m3gal_cli.index.manifest import BUILDING, BUILDING_FILE, SEGMENTS, read_manifest
from m3gal_cli.index.poi_columns import Rows, taken, write_columns
from m3gal_cli.index.poi_rows import PoiRows
from m3gal_cli.index.segment import POIS, SEGMENT_FILE, Log, Segment, Shard, hash_path, residual_path
from m3gal_cli.index.segment_terms import FOLDER, terms_of, write_terms

SHARD_ROWS = 8192
POLL_S = 0.1  # seconds between two checks for the shards of other processes
IDENTITY = ("content", "rows", "dim", "shard_rows")  # keys of a record, with the hash of the model

# Encodes the POIs of these row numbers, and reports the number encoded and the total.
EncodeRows = Callable[[Rows, Progress], Vectors]


@dataclass(frozen=True)
class Worker:
    """Process number ``rank`` (from 0) of ``world_size`` processes that build an index together."""

    rank: int = 0
    world_size: int = 1


class _CompletedElsewhere(Exception):
    """Another process completed the same segment."""


@dataclass
class SegmentBuild:
    """One process's part of the build of a segment."""

    index: Path  # folder of the index
    rows: PoiRows  # duplicates are at the end
    equal_rows: Rows  # for each of these duplicates the row that it equals
    model: dict[str, Any]  # record of the fingerprint of the model
    dim: int  # width of the vectors
    encode: EncodeRows
    log: Log
    progress: Progress  # called with the rows done and the rows in all of this process
    generation: int  # generation of the index that is being written
    used: frozenset[str] = frozenset()  # segments of the current snapshot; other ones of killed builds are taken over
    origin: dict[str, Any] | None = None  # further content of the record, for messages
    worker: Worker = Worker()
    shard_rows: int = SHARD_ROWS

    def __post_init__(self) -> None:
        self.folder = self.index / BUILDING
        self.record = {"model": self.model, **(self.origin or {}), "content": self.rows.content()}
        self.record |= {"rows": len(self.rows), "dim": self.dim, "shard_rows": self.shard_rows}
        self.name = f"{self.generation:06d}-{self.record['content'][:16]}"

    def await_first_process(self) -> None:
        """Wait until the first process has started, or completed, this build."""
        self._wait_for(lambda: self.owns_folder() or self.completed() is not None)

    def claim(self, lock: FolderLock | None = None) -> None:
        """Start this build in the folder, or join a build of the same segment.

        The lock is shared while a build runs and exclusive while the folder is emptied. So the folder of a running
        build is never emptied. Without a lock, the caller holds it exclusively.
        """
        while self.completed() is None and not self.owns_folder():
            if lock is None or lock.try_exclusive():
                if not self.owns_folder():
                    self._start()
                break
            lock.share()  # waits for an exclusive lock to end
            if record_in(self.folder):
                break
        if lock is not None:
            lock.share()

    def run(self) -> str | None:
        """Encode the shards of this process; the first process then completes the segment and returns its name.

        Raises:
            InputError: Another process builds another segment, the model returns a vector that is not finite, or the
                disk is full.
        """
        try:
            self._check_folder()
            if self.worker.rank == 0:
                self._write_pois()
            self._encode()
            return None if self.worker.rank else self._complete()
        except _CompletedElsewhere:
            return None if self.worker.rank else self.completed()

    def completed(self) -> str | None:
        """Return the name of a complete segment with this content that the current snapshot does not use."""
        for folder in sorted((self.index / SEGMENTS).glob("[!.]*")):
            if folder.name not in self.used and _identity(record_in(folder)) == _identity(self.record):
                return folder.name
        return None

    def owns_folder(self) -> bool:
        """Return whether the folder contains this build."""
        return _identity(record_in(self.folder)) == _identity(self.record)

    def _start(self) -> None:
        try:
            if self.folder.exists():
                remove_folder(self.folder)
            make_folder(self.folder)
        except OSError as error:
            hint = "Choose another folder with --index-dir."
            raise InputError(f"cannot remove an old build ({error.strerror})", where=self.folder, hint=hint) from error
        with atomic_text(self.folder / BUILDING_FILE) as file:
            json.dump(self.record, file, indent=1, ensure_ascii=False)

    def _check_folder(self) -> None:
        """Raise InputError if the folder belongs to another build."""
        if self.owns_folder():
            return
        if self.completed() is not None:
            raise _CompletedElsewhere
        other = (record_in(self.folder) or read_manifest(self.index) or {}).get("table_name")
        what = "another process is building an index" + (f" from another POI table ({other})" if other else "")
        hint = "Wait until it has finished, or choose another folder with --index-dir."
        raise InputError(f"{what} in this folder", where=self.index, hint=hint)

    def _write_pois(self) -> None:
        if (self.folder / POIS).exists():
            done = sum(self._is_written(i) for i in self._shards())
            done = min(done * self.shard_rows, len(self.rows))
            self.log(f"index {self.index}: resuming after {done:,} of {len(self.rows):,} POIs")
            return
        for name, hashes in self.rows.hashes.items():
            with self._unless_written(hash_path(self.folder, name)):
                write_shard(hash_path(self.folder, name), hashes)
        with self._unless_written(self.folder / POIS), atomic_path(self.folder / POIS) as temporary:
            write_columns(self.rows.table, temporary)

    def _encode(self) -> None:
        """Write the shards of this process; the shards with duplicates are left to the first process, at the end."""
        distinct = len(self.rows) - len(self.equal_rows)
        whole = self._shards()[: distinct // self.shard_rows if len(self.equal_rows) else None]
        own = [i for i in whole[self.worker.rank :: self.worker.world_size] if not self._is_written(i)]
        total, done = sum(len(self._rows_of(i)) for i in own), 0
        for number in own:
            rows = self._rows_of(number)
            done = self._encode_shard(number, rows, done, total)
        if self.worker.rank:
            return
        if not all(self._is_written(i) for i in whole):
            self.log(f"index {self.index}: waiting for the shards of the other processes")
            self._wait_for(lambda: all(self._is_written(i) for i in whole) or not self.owns_folder())
        for number in self._shards()[len(whole) :]:
            if not self._is_written(number):
                rows = self._rows_of(number)
                if (rows < distinct).any():
                    self._encode_shard(number, rows, 0, len(rows))
                else:
                    self._copy_shard(number, self.equal_rows[rows - distinct])

    def _encode_shard(self, number: int, rows: Rows, before: int, total: int) -> int:
        def report(encoded: int, distinct: int) -> None:
            self.progress(before + len(rows) * encoded // max(1, distinct), total)

        vectors = self.encode(rows, report)
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16)
        wrong = ~np.isfinite(rounded).all(axis=1)
        if wrong.any():
            address = self.rows.table["address"][int(rows[np.argmax(wrong)])].as_py()
            what = f"the model returns a vector that is not finite for {address!r}"
            raise InputError(what, where=self.index, hint="Use another checkpoint of the run.")
        self._write(number, rounded, (vectors - rounded).astype(np.float16))
        self.progress(before + len(rows), total)
        return before + len(rows)

    def _copy_shard(self, number: int, rows: Rows) -> None:
        """Write a shard of duplicates with the vectors of the rows that they equal."""
        parts = [np.empty((len(rows), self.dim), np.float16) for _ in range(2)]
        owner = rows // self.shard_rows
        for source in np.unique(owner).tolist():
            own, paths = owner == source, (shard_path(self.folder, source), residual_path(self.folder, source))
            for part, path in zip(parts, paths, strict=True):
                part[own] = np.load(path, mmap_mode="r")[rows[own] - source * self.shard_rows]
        self._write(number, *parts)

    def _write(self, number: int, rounded: Shard, residuals: Shard) -> None:
        self._check_folder()
        # A shard is written after its residuals: if it exists, they exist.
        for file, part in ((residual_path(self.folder, number), residuals), (shard_path(self.folder, number), rounded)):
            with self._unless_written(file):
                write_shard(file, part)

    def _complete(self) -> str:
        """Add the record of the complete segment, and rename the folder."""
        self._check_folder()
        folder, target = self.folder, self.index / SEGMENTS / self.name
        try:
            norms = {
                "largest_norm": max([0.0, *(_max_norm(shard_path(folder, i)) for i in self._shards())]),
                "largest_rest": max([0.0, *(_max_norm(residual_path(folder, i)) for i in self._shards())]),
            }
            for left in folder.rglob(".*.tmp"):
                left.unlink(missing_ok=True)
            make_folder(target.parent)
            if (folder / FOLDER).exists():  # of a killed build, perhaps incomplete
                remove_folder(folder / FOLDER)
            write_terms(folder / FOLDER, terms_of(self._addresses_at, len(self.rows)))
            finish_segment(folder, self.record | norms)
            if target.exists() and self.name not in self.used:
                remove_folder(target)
            publish_folder(folder, target)
        except (OSError, InputError) as error:
            if not self.owns_folder() and self.completed() is not None:
                raise _CompletedElsewhere from error
            if isinstance(error, InputError):
                raise
            hint = "Free disk space and start again."
            raise InputError(f"cannot write ({error.strerror or error})", where=self.index, hint=hint) from error
        return self.name

    @contextmanager
    def _unless_written(self, path: Path) -> Iterator[None]:
        """Ignore a failed write if another process that builds the same segment wrote the file."""
        try:
            yield
        except InputError as error:
            if not self.owns_folder() and self.completed() is not None:
                raise _CompletedElsewhere from error
            if not path.exists():
                raise

    def _shards(self) -> range:
        return range(shard_count(len(self.rows), self.shard_rows))

    def _rows_of(self, number: int) -> Rows:
        return np.arange(number * self.shard_rows, min((number + 1) * self.shard_rows, len(self.rows)))

    def _addresses_at(self, rows: Rows) -> list[str]:
        addresses: list[str] = taken(self.rows.table.select(["address"]), rows)["address"].to_pylist()
        return addresses

    def _is_written(self, number: int) -> bool:
        return shard_path(self.folder, number).exists()

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready():
            time.sleep(POLL_S)


def finish_segment(folder: Path, record: dict[str, Any]) -> None:
    """Write the record and the projections of a segment whose other files are complete. Raises InputError."""
    with atomic_text(folder / SEGMENT_FILE) as file:
        json.dump(record, file, indent=1, ensure_ascii=False)
    (folder / BUILDING_FILE).unlink(missing_ok=True)
    if record["rows"] >= MIN_PRUNED_ROWS:
        from m3gal_cli.index.pca_pruning import open_pruner  # imports torch

        open_pruner(Segment(folder))


def record_in(folder: Path) -> dict[str, Any]:
    """Return the record of a segment, complete or not; empty if there is none."""
    record = read_json(folder / BUILDING_FILE) or read_json(folder / SEGMENT_FILE)
    return record if isinstance(record, dict) else {}


def _identity(record: dict[str, Any]) -> str:
    """Return the content hashes and sizes of a record as a string, without paths and times of files."""
    model = record.get("model")
    identity: dict[str, Any] = {name: record.get(name) for name in IDENTITY}
    identity["model"] = {key: model.get(key) for key in ("sha256", "also")} if isinstance(model, dict) else None
    return json.dumps(identity, sort_keys=True)


def _max_norm(path: Path) -> float:
    shard = np.load(path, mmap_mode="r")
    squares = np.square(shard, dtype=np.float32).sum(axis=1, dtype=np.float64)
    return float(np.sqrt(squares.max())) if len(squares) else 0.0
