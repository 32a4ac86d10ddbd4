"""Encode a POI table into an index, by one process or by several, and resume an interrupted build.

Vectors are written in shards. A shard file is complete or absent, so a killed build loses the current shards only, and
the next start continues. Each of N processes encodes every N-th shard. They communicate by files only, so machines with
a common file system can share the work.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Encoder, Progress
from m3gal_cli.encoders.vector_shards import shard_count, shard_path, write_shard
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, read_json, remove_folder
from m3gal_cli.index.folder_lock import FolderLock
from m3gal_cli.index.index import BUILDING, COLUMNS, FORMAT, MANIFEST, POIS, Index, Log, residual_path, write_pois

if TYPE_CHECKING:
    import pandas as pd

SHARD_ROWS = 8192
POLL_S = 0.2  # seconds between two checks for the shards of other processes
REPORT_FROM_S = 10.0  # the duration of a longer build is logged


@dataclass(frozen=True)
class Worker:
    """Process number ``rank`` (from 0) of ``world_size`` processes that build an index together."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class IndexSources:
    """The model and the POI table that an index is built from.

    Both functions are called only if there is something to build.

    Args:
        model: Fingerprint of the model.
        table: Fingerprint of the POI table; None if its file is missing. A complete index is then used unchanged.
        read_pois: Reads the POI table. Raises InputError if the file is missing.
        load_encoder: Loads the model.
    """

    model: Fingerprint
    table: Fingerprint | None
    read_pois: Callable[[], pd.DataFrame]
    load_encoder: Callable[[], Encoder]


def open_or_build(
    path: Path,
    sources: IndexSources,
    log: Log,
    progress: Progress,
    worker: Worker = Worker(),
    shard_rows: int = SHARD_ROWS,
    poll_s: float = POLL_S,
) -> Index | None:
    """Open the index in ``path``; build, resume or replace it first if necessary.

    Args:
        path: Folder of the index.
        sources: Model and POI table. An index of other sources is replaced.
        log: Called with a message if an index is replaced, resumed, or used without its POI table.
        progress: Called with the rows done and the rows in all of this process.
        worker: Rank of this process and number of processes.
        shard_rows: Rows of each shard of a new index.
        poll_s: Seconds between two checks for the shards of other processes.

    Returns:
        The index in the first process, None in the others.

    Raises:
        InputError: The POI table is unreadable, the folder contains other files, the index is damaged, the disk is
            full, or another process builds a different index in the folder.
    """
    difference = _difference_in(path, sources) if worker.rank == 0 else None
    manifest = read_json(path / MANIFEST)
    if isinstance(manifest, dict) and difference_of(manifest, sources) is None:
        if worker.rank:
            return None
        if sources.table is None:
            log(f"index {path}: used without its POI table ({manifest.get('table_name', 'unknown')}), which is missing")
        if (path / BUILDING).exists():
            _remove_build_files(path)
        return Index(path)
    if difference:
        log(f"index {path} was built {difference}: building it again")
    return _Build(path, sources, log, progress, worker, shard_rows, poll_s).run()


def difference_of(record: dict[str, Any], sources: IndexSources) -> str | None:
    """Describe how the record of an index differs from its sources; None if it matches them."""
    if record.get("format") != FORMAT:
        return "by another version of m3gal"
    differences = []
    if not sources.model.matches(record.get("model")):
        differences.append("with another model")
    if sources.table is not None and not sources.table.matches(record.get("table")):
        name = record.get("table_name")
        differences.append("from another POI table" + (f" ({name})" if name else ""))
    return " and ".join(differences) or None


def _difference_in(path: Path, sources: IndexSources) -> str | None:
    """Describe how the index in a folder differs from its sources. Raises InputError if the folder has other files."""
    if not path.exists() or (path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())):
        return None
    record = _record_in(path)
    if "format" not in record or "table" not in record:
        hint = "Choose another folder with --index-dir."
        raise InputError("not an index: the folder holds other files", where=path, hint=hint)
    return difference_of(record, sources)


@dataclass
class _Build:
    """One process's part of a build; the fields are the arguments of ``open_or_build``."""

    path: Path
    sources: IndexSources
    log: Log
    progress: Progress
    worker: Worker
    shard_rows: int
    poll_s: float
    record: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Index | None:
        """Encode the shards of this process; the first process then completes the index and returns it."""
        from m3gal_cli.data.duplicates import distinct_pois  # imports pandas, which an open index does not need

        start = time.monotonic()
        pois = distinct_pois(self.sources.read_pois()[list(COLUMNS)])
        encoder = self.sources.load_encoder()
        table = self.sources.table
        assert table is not None, "read_pois raises InputError if the table is missing"
        self.record = {"format": FORMAT, "model": self.sources.model.record(), "table": table.record()}
        self.record |= {"table_name": table.files[0].name} if table.files else {}
        self.record |= {"rows": len(pois), "dim": encoder.dim, "shard_rows": self.shard_rows}
        if self.worker.rank:
            self._wait_for(self._owns_folder)
        with closing(FolderLock(make_folder(self.path))) as lock:
            self._claim(lock)
            if self.worker.rank == 0:
                self._write_pois(pois)
            return self._encode(pois, encoder, start)

    def _claim(self, lock: FolderLock) -> None:
        """Start this build in the folder, or join a build of the same index.

        The lock is shared while a build runs and exclusive while the folder is emptied. So the folder of a running
        build is never emptied.
        """
        if not self._owns_folder() and lock.try_exclusive() and not self._owns_folder():
            _empty(self.path)
            with atomic_text(self.path / BUILDING) as file:
                json.dump(self.record, file, indent=1, ensure_ascii=False)
        lock.share()
        self._check_folder()

    def _write_pois(self, pois: pd.DataFrame) -> None:
        if (self.path / POIS).exists():
            done = sum(self._is_written(i) for i in range(shard_count(len(pois), self.shard_rows)))
            done = min(done * self.shard_rows, len(pois))
            self.log(f"index {self.path}: resuming after {done:,} of {len(pois):,} POIs")
            return
        with _unless_written(self.path / POIS), atomic_path(self.path / POIS) as temporary:
            write_pois(pois, temporary)

    def _encode(self, pois: pd.DataFrame, encoder: Encoder, start: float) -> Index | None:
        path, shards = self.path, range(shard_count(len(pois), self.shard_rows))
        missing = [i for i in shards[self.worker.rank :: self.worker.world_size] if not self._is_written(i)]
        encode_shards(path, pois, encoder, missing, self.progress, self.shard_rows, self._check_folder)
        if self.worker.rank:
            return None
        if not all(self._is_written(i) for i in shards):
            self.log(f"index {path}: waiting for the shards of the other processes")
            self._wait_for(lambda: all(self._is_written(i) for i in shards))
        self._check_folder()
        self.record["largest_norm"] = max(_max_norm(shard_path(path, i)) for i in shards)
        self.record["largest_rest"] = max(_max_norm(residual_path(path, i)) for i in shards)
        with _unless_written(path / MANIFEST), atomic_text(path / MANIFEST) as file:
            json.dump(self.record, file, indent=1, ensure_ascii=False)
        _remove_build_files(path)
        if (seconds := time.monotonic() - start) >= REPORT_FROM_S:
            self.log(f"index {path}: {len(pois):,} POIs encoded in {seconds:,.0f} s")
        return Index(path)

    def _owns_folder(self) -> bool:
        """Return whether the folder contains the index of this build, complete or not."""
        return _identity(_record_in(self.path)) == _identity(self.record)

    def _check_folder(self) -> None:
        """Raise InputError if the folder belongs to another build."""
        if self._owns_folder():
            return
        other = _record_in(self.path)
        difference = difference_of(other, self.sources) if other else None
        what = f"another process is building an index {difference or 'of other size'} in this folder"
        hint = "Wait until it has finished, or choose another folder with --index-dir."
        raise InputError(what, where=self.path, hint=hint)

    def _is_written(self, number: int) -> bool:
        return shard_path(self.path, number).exists()

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        while not ready():
            time.sleep(self.poll_s)


def encode_shards(
    path: Path,
    pois: pd.DataFrame,
    encoder: Encoder,
    numbers: list[int],
    progress: Progress,
    shard_rows: int = SHARD_ROWS,
    before_write: Callable[[], None] = lambda: None,
) -> None:
    """Encode the shards ``numbers`` of the distinct POIs, and write each one when it is encoded.

    ``before_write`` is called before each write and may raise an error. Raises InputError if the model returns a vector
    that is not finite in float16.
    """
    texts: list[str] = pois["address"].tolist()
    coordinates = pois["lng"].to_numpy(np.float64), pois["lat"].to_numpy(np.float64)
    total, done = sum(min(shard_rows, len(pois) - i * shard_rows) for i in numbers), 0
    for number in numbers:
        rows = slice(number * shard_rows, (number + 1) * shard_rows)
        address, (lng, lat) = texts[rows], (column[rows] for column in coordinates)

        def report(encoded: int, distinct: int, before: int = done, own: int = len(address)) -> None:
            progress(before + own * encoded // distinct, total)

        vectors = encoder.encode_poi_texts(address, report) + encoder.encode_locations(lng, lat)
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16)
        wrong = ~np.isfinite(rounded).all(axis=1)
        if wrong.any():
            what = f"the model returns a vector that is not finite for {address[int(np.argmax(wrong))]!r}"
            raise InputError(what, where=path, hint="Use another checkpoint of the run.")
        before_write()
        # A shard is written after its residuals: if it exists, they exist.
        residuals = (vectors - rounded).astype(np.float16)
        for file, part in ((residual_path(path, number), residuals), (shard_path(path, number), rounded)):
            with _unless_written(file):
                write_shard(file, part)
        done += len(address)


@contextmanager
def _unless_written(path: Path) -> Iterator[None]:
    """Ignore a failed write if the file exists: another process that builds the same index wrote it."""
    try:
        yield
    except InputError:
        if not path.exists():
            raise


def _empty(path: Path) -> None:
    """Remove the index in a folder. After a kill the folder is still recognised as an incomplete index."""
    try:
        if (path / MANIFEST).exists():
            (path / MANIFEST).replace(path / BUILDING)
        for entry in [e for e in path.iterdir() if e.name != BUILDING and not e.name.startswith(".")]:
            remove_folder(entry) if entry.is_dir() else entry.unlink()
    except OSError as error:
        hint = "Choose another folder with --index-dir."
        raise InputError(f"cannot remove the old index ({error.strerror})", where=path, hint=hint) from error


def _remove_build_files(path: Path) -> None:
    """Remove the files that only a build needs, and those that killed processes left, from a complete index."""
    for left in (path / BUILDING, *path.rglob(".*.tmp")):
        with suppress(OSError):
            left.unlink(missing_ok=True)
    for left in path.glob(".*.old"):
        shutil.rmtree(left, ignore_errors=True)


def _max_norm(path: Path) -> float:
    shard = np.load(path, mmap_mode="r")
    return float(np.sqrt(np.square(shard, dtype=np.float32).sum(axis=1, dtype=np.float64).max()))


def _record_in(path: Path) -> dict[str, Any]:
    """Return the record of the index in a folder, complete or not; empty if there is none."""
    record = read_json(path / BUILDING) or read_json(path / MANIFEST)
    return record if isinstance(record, dict) else {}


def _identity(record: dict[str, Any]) -> str:
    """Return the content hashes and sizes of a record as a string, without paths and times of files."""
    identity: dict[str, Any] = {name: record.get(name) for name in ("format", "rows", "dim", "shard_rows")}
    for name in ("model", "table"):
        source = record.get(name)
        identity[name] = {key: source.get(key) for key in ("sha256", "also")} if isinstance(source, dict) else None
    return json.dumps(identity, sort_keys=True)
