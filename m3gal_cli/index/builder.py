"""Open an index; build it, or bring it up to date with its POI table, first if necessary."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Encoder, Progress, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder, read_json
from m3gal_cli.index.document_frequencies import write_states
from m3gal_cli.index.folder_lock import FolderLock
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import (
    BUILDING,
    BUILDING_FILE,
    FORMAT,
    MANIFEST,
    SEGMENTS,
    Manifest,
    new_manifest,
    no_index,
    read_manifest,
    remove_unused,
    unused,
    write_manifest,
)
from m3gal_cli.index.poi_columns import Rows
from m3gal_cli.index.poi_rows import PoiRows, places_of
from m3gal_cli.index.segment import DUPLICATE, Log, Segment
from m3gal_cli.index.segment_build import SHARD_ROWS, SegmentBuild, Worker, record_in
from m3gal_cli.index.segment_terms import has_terms
from m3gal_cli.index.writer import open_writer

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ALONE = Worker()
REPORT_FROM_S = 10.0  # the duration of a longer build is logged


@dataclass(frozen=True)
class IndexSources:
    """The model and the POI table that an index is built from.

    The functions are called only if there is something to build.
    """

    model: Fingerprint
    table: Fingerprint | None  # None if there is no table: a complete index is then used unchanged
    read_pois: Callable[[], tuple[pd.DataFrame | pa.Table, Any]]  # POIs and schema; InputError without a table
    load_encoder: Callable[[], Encoder]
    table_name: str | None = None
    model_reference: str | None = None  # path of the checkpoint relative to the index
    table_given: bool = False  # the user named the table: the index must equal it, also after updates by hand
    alone: bool = False  # without a table on purpose: no message says that it is missing

    def read(self) -> tuple[pd.DataFrame | pa.Table, dict[str, Any]]:
        """Return the POIs, and the entries of a manifest that say where they are from."""
        # The table is read after its fingerprint: if it changes between both, the next start finds the difference.
        table = None if self.table is None else self.table.record()
        pois, schema = self.read_pois()
        origin = {"table": table, "table_name": self.table_name, "schema": schema}
        return pois, origin | {"model_reference": self.model_reference}


def open_or_build(
    path: Path,
    sources: IndexSources,
    log: Log,
    progress: Progress,
    worker: Worker = ALONE,
    shard_rows: int = SHARD_ROWS,
) -> Index | None:
    """Open the index in ``path``; build, resume, update or replace it first if necessary.

    An index of another model or of an earlier format is built again. An index of another table is brought up to date
    by the difference, by the first process alone.

    Args:
        path: Folder of the index.
        sources: Model and POI table.
        log: Called with a message if an index is replaced, updated, resumed, or used without its POI table.
        progress: Called with the rows done and the rows in all of this process.
        worker: Rank of this process and number of processes.
        shard_rows: Rows of each shard of a new segment.

    Returns:
        The index in the first process, None in the others.

    Raises:
        InputError: The POI table is unreadable, the folder contains other files, the index is damaged, the disk is
            full, or another process builds a different index in the folder.
    """
    if worker.rank == 0:
        _check_folder(path)
    manifest = read_manifest(path)
    if manifest is not None and sources.model.matches(manifest.get("model")):
        if worker.rank:
            return None
        _remove_leftovers(path, manifest)
        if _is_current(path, manifest, sources, log):
            return _with_terms(Index(path), log)
        return _update(path, sources, log, progress, shard_rows)
    if worker.rank == 0 and (difference := _difference(_record_in(path), sources)):
        log(f"index {path} was built {difference}: building it again")
    return _build(path, sources, log, progress, worker, shard_rows, manifest)


def _difference(record: dict[str, Any], sources: IndexSources) -> str | None:
    """Describe how the record of an index differs from its sources; None if it matches them, or is empty."""
    if not record:
        return None
    if record.get("format", FORMAT) != FORMAT:
        return "by another version of m3gal"
    differences = []
    if not sources.model.matches(record.get("model")):
        differences.append("with another model")
    if sources.table is not None and not sources.table.matches(record.get("table")):
        name = record.get("table_name")
        differences.append("from another POI table" + (f" ({name})" if name else ""))
    return " and ".join(differences) or None


def _is_current(path: Path, manifest: Manifest, sources: IndexSources, log: Log) -> bool:
    """Return whether an index of the same model is used unchanged; log why if its table is missing or differs."""
    name = manifest.get("table_name") or "unknown"
    if sources.table is None:
        if not sources.alone:
            log(f"index {path}: used without its POI table ({name}), which is missing")
        return True
    is_equal = sources.table.matches(manifest.get("table"))
    if not manifest.get("edited"):
        return is_equal
    if sources.table_given:
        return False
    if not is_equal:
        reason = "POIs were added or deleted by hand; --pois applies them"
        log(f"index {path}: used without the changes of {name}, because {reason}")
    return True


def _with_terms(index: Index, log: Log) -> Index:
    """Compute the terms of segments of an earlier version, which has other ones or none."""
    missing = [segment for segment in index.segments if not has_terms(segment.path, len(segment))]
    if missing:
        count = sum(len(segment) for segment in missing)
        log(f"index {index.path}: computing the n-grams of {count:,} addresses, which an earlier version did not store")
    for segment in missing:
        _ = segment.terms
    return index


def _update(path: Path, sources: IndexSources, log: Log, progress: Progress, shard_rows: int) -> Index:
    """Bring an index up to date with its table."""
    pois, origin = sources.read()
    with open_writer(path, sources.load_encoder, log, progress, shard_rows=shard_rows) as writer:
        update = writer.sync(pois, **origin)
        log(f"index {path}: brought up to date with {origin['table_name'] or 'its POI table'}: {update.words()}")
        return writer.index


def _build(
    path: Path,
    sources: IndexSources,
    log: Log,
    progress: Progress,
    worker: Worker,
    shard_rows: int,
    old: Manifest | None,
) -> Index | None:
    """Build the first segment of an index; the ``old`` snapshot stays readable until its manifest is replaced."""
    start = time.monotonic()
    pois, origin = sources.read()
    rows, equal_rows = PoiRows.of(pois).distinct_first()
    del pois  # a second copy
    encoder, model = sources.load_encoder(), sources.model.record()

    def encode(numbers: Rows, report: Progress) -> Vectors:
        places = places_of(rows.table, numbers)
        addresses, lng, lat = (list(column) for column in zip(*places, strict=True))
        return encoder.encode_poi_texts(addresses, report) + encoder.encode_locations(lng, lat)

    build = SegmentBuild(
        index=path,
        rows=rows,
        equal_rows=equal_rows,
        model=model,
        dim=encoder.dim,
        encode=encode,
        log=log,
        progress=progress,
        generation=(old or {}).get("generation", 0) + 1,
        used=frozenset(entry["name"] for entry in (old or {}).get("segments", [])),
        origin={name: origin[name] for name in ("table", "table_name")},
        worker=worker,
        shard_rows=shard_rows,
    )
    if worker.rank:
        build.await_first_process()
    with closing(FolderLock(make_folder(path))) as lock:
        build.claim(lock)
        name = build.run()
        if worker.rank:
            return None
        current = read_manifest(path)
        if current is None or current == old:  # else another process has completed the same index
            assert name is not None, "the first process completes the segment"
            folder, manifest = path / SEGMENTS / name, new_manifest(model, encoder.dim, old)
            states = np.zeros(len(rows), np.uint8)
            states[len(rows) - len(equal_rows) :] = DUPLICATE
            generation = manifest["generation"] + 1
            entry = write_states(Segment(folder), states, generation)
            remove_unused(path, write_manifest(path, manifest, segments=[entry], **origin))
    if (seconds := time.monotonic() - start) >= REPORT_FROM_S:
        log(f"index {path}: {len(rows):,} POI{'s' * (len(rows) != 1)} encoded in {seconds:,.0f} s")
    return Index(path)


def _check_folder(path: Path) -> None:
    """Raise InputError if the folder holds other files than an index, complete or not."""
    if not path.exists() or read_manifest(path) is not None:
        return
    if (path / SEGMENTS).is_dir() and (path / MANIFEST).exists() and not _record_in(path):
        raise no_index(path)
    names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else [path.name]
    if set(names) - {BUILDING, SEGMENTS} and not {"model", "table"} <= set(_record_in(path)):
        hint = "Choose another folder with --index-dir."
        raise InputError("not an index: the folder holds other files", where=path, hint=hint)


def _record_in(path: Path) -> dict[str, Any]:
    """Return the record of the build in a folder, or else of its index, also of format 1; empty if there is none."""
    record = record_in(path / BUILDING) or read_json(path / MANIFEST) or read_json(path / BUILDING_FILE)
    return record if isinstance(record, dict) else {}


def _remove_leftovers(path: Path, manifest: Manifest) -> None:
    """Remove files that a killed process left, unless another process is writing."""
    if not unused(path, manifest):
        return
    with closing(FolderLock(path)) as lock:
        if lock.try_exclusive() and lock.is_exclusive and (current := read_manifest(path)) is not None:
            remove_unused(path, current)
