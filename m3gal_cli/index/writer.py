"""Update an index: add, replace and delete POIs, and make it equal to a table.

An update writes the new rows as a segment, then new states of the rows that are deleted, and then the manifest. A kill
leaves the last snapshot; the next update removes its files. One writer works at a time, and readers need no lock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.encoders.protocol import Encoder, Progress
from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder
from m3gal_cli.index.document_frequencies import write_states
from m3gal_cli.index.folder_lock import FolderLock
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import SEGMENTS, remove_unused, write_manifest
from m3gal_cli.index.merging import merge, segments_to_merge
from m3gal_cli.index.poi_columns import Rows, values_of
from m3gal_cli.index.poi_rows import (
    Hashes,
    Place,
    PoiRows,
    by_occurrence,
    first_equal_places,
    first_with,
    hashes_of,
    places_of,
)
from m3gal_cli.index.segment import DELETED, DUPLICATE, LIVE, Log, Segment, States
from m3gal_cli.index.segment_build import SHARD_ROWS, SegmentBuild
from m3gal_cli.index.vector_reuse import VectorReuse

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

WAIT_S = 60.0  # for another writer
POLL_S = 0.1


@dataclass(frozen=True)
class Update:
    """Numbers of POIs that an update added, changed, left unchanged and removed, and of texts that it encoded."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    encoded: int = 0
    not_found: list[str] = field(default_factory=list)  # ids that were to be deleted

    def words(self) -> str:
        """Return one line for the user."""
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        parts = [f"{count:,} {name}" for name, count in counts.items() if count] or ["no POI changed"]
        texts = f"; {self.encoded:,} text{'s' * (self.encoded != 1)} encoded" if self.added or self.changed else ""
        return ", ".join(parts) + texts


@contextmanager
def open_writer(
    path: Path,
    load_encoder: Callable[[], Encoder],
    log: Log = lambda text: None,
    progress: Progress = lambda done, total: None,
    wait_s: float = WAIT_S,
    shard_rows: int = SHARD_ROWS,
) -> Iterator[IndexWriter]:
    """Open an index for updates; wait for another writer first.

    Args:
        path: Folder of the index.
        load_encoder: Loads the model of the index; called only if a new text or location must be encoded.
        log: Called with messages.
        progress: Called with the rows encoded and the rows in all.
        wait_s: Longest time to wait for another writer.
        shard_rows: Rows of each shard of a new segment.

    Raises:
        InputError: There is no index, the folder is not writable, or another process keeps changing the index.
    """
    Index(path)
    with closing(FolderLock(make_folder(path))) as lock:
        if not lock.try_exclusive():
            log(f"index {path}: waiting for another process that changes it")
            end = time.monotonic() + wait_s
            while not lock.try_exclusive():
                if time.monotonic() > end:
                    hint = "Wait until it has finished."
                    raise InputError("another process is changing the index", where=path, hint=hint)
                time.sleep(POLL_S)
        yield IndexWriter(path, load_encoder, log, progress, shard_rows)


class IndexWriter:
    """Updates an index; opened by ``open_writer``. Each method replaces the snapshot when it is complete.

    Attributes:
        index: The current snapshot.
    """

    def __init__(
        self, path: Path, load_encoder: Callable[[], Encoder], log: Log, progress: Progress, shard_rows: int
    ) -> None:
        self.path, self.log, self.progress, self.shard_rows = path, log, progress, shard_rows
        self._load_encoder = load_encoder
        self.index = Index(path)

    def upsert(self, pois: pd.DataFrame | pa.Table) -> Update:
        """Add POIs; one of a known id replaces that POI as a whole. Of equal ids in ``pois`` the last one counts.

        An id that the index lacks is also looked up in the other type: the text "17" replaces the POI 17, and 17 "17".

        Raises:
            InputError: A column is missing, or the disk is full.
        """
        rows = PoiRows.of(pois)
        last = {id_key(value): row for row, value in enumerate(values_of(rows.table, "poi_id"))}
        if len(last) < len(rows):
            keys = sorted(last, key=last.__getitem__)
            rows = rows.take(np.array([last[key] for key in keys]))
            last = {key: row for row, key in enumerate(keys)}
        others = [reading for value in values_of(rows.table, "poi_id") for reading in _readings(value)[1:]]
        stored = self._rows_with(np.concatenate([rows.hashes["id"], hashes_of(others)]))
        ids = self.index.values_at(stored, "poi_id")
        match = np.array([last.get(id_key(value), -1) for value in ids], np.int64)  # the new row of each stored one
        exact = set(match.tolist())
        for i in np.flatnonzero(match < 0).tolist():
            rows_of_type = [last.get(id_key(reading), -1) for reading in _readings(ids[i])[1:]]
            match[i] = next((row for row in rows_of_type if row not in exact), -1)
        stored, match = stored[match >= 0], match[match >= 0]
        count = np.bincount(match, minlength=len(rows))
        same = self.index.hashes("row")[stored] == rows.hashes["row"][match]
        unchanged = np.zeros(len(rows), bool)
        unchanged[match[same]] = True
        unchanged &= count == 1
        update = Update(int((count == 0).sum()), int(((count > 0) & ~unchanged).sum()), int(unchanged.sum()))
        deleted, new = stored[~unchanged[match]], rows.take(np.flatnonzero(~unchanged))
        return self._replace(update, deleted, new, edited=True)

    def delete(self, ids: Iterable[Any]) -> Update:
        """Delete POIs by id. Ids are looked up in both types, as in ``upsert``."""
        wanted = [(str(value), _readings(value)) for value in ids]
        stored = self._rows_with(hashes_of([reading for _, readings in wanted for reading in readings]))
        rows: dict[Any, list[int]] = {}
        for row, value in zip(stored.tolist(), self.index.values_at(stored, "poi_id"), strict=True):
            rows.setdefault(id_key(value), []).append(row)
        found = [next((rows[id_key(r)] for r in readings if id_key(r) in rows), []) for _, readings in wanted]
        deleted = np.unique(np.array([row for own in found for row in own], np.int64))
        missing = [text for (text, _), own in zip(wanted, found, strict=True) if not own]
        return self._replace(Update(removed=len(deleted), not_found=missing), deleted, None, edited=True)

    def sync(self, pois: pd.DataFrame | pa.Table, **origin: Any) -> Update:
        """Make the index equal to a table: add, replace and delete POIs by id, and by occurrence for equal ids.

        Args:
            pois: The table.
            origin: Entries of the manifest that say where the table is from.

        Raises:
            InputError: A column is missing, or the disk is full.
        """
        rows, stored = PoiRows.of(pois), np.flatnonzero(self.index.states != DELETED)
        match = first_with(by_occurrence(self.index.hashes("id")[stored]), by_occurrence(rows.hashes["id"]))
        known = match >= 0
        unchanged = np.zeros(len(rows), bool)
        unchanged[known] = self.index.hashes("row")[stored[match[known]]] == rows.hashes["row"][known]
        kept = np.zeros(len(stored), bool)
        kept[match[unchanged]] = True
        changed = int((known & ~unchanged).sum())
        removed = len(stored) - int(known.sum())
        update = Update(int((~known).sum()), changed, int(unchanged.sum()), removed)
        new = rows.take(np.flatnonzero(~unchanged))
        return self._replace(update, stored[~kept], new, edited=False, **origin)

    def compact(self) -> Update:
        """Merge all segments into one, without the deleted rows."""
        if len(self.index.segments) > 1 or (self.index.states == DELETED).any():
            self._merge(len(self.index.segments))
        remove_unused(self.path, self.index.manifest)
        return Update(unchanged=len(self.index))

    def _rows_with(self, ids: Hashes) -> Rows:
        """Return the rows, except deleted ones, with these id hashes."""
        return np.flatnonzero(np.isin(self.index.hashes("id"), ids) & (self.index.states != DELETED))

    def _replace(self, update: Update, deleted: Rows, new: PoiRows | None, **changes: Any) -> Update:
        """Delete rows, add new ones, and write the next snapshot; ``changes`` are entries of its manifest."""
        manifest, encoded = self.index.manifest, 0
        if not len(deleted) and not new:
            if not changes["edited"] and any(manifest.get(name) != value for name, value in changes.items()):
                self._publish(manifest["segments"], **changes)
            return update
        generation = manifest["generation"] + 1
        if not new:
            entries = self._write_states(self._new_states(deleted), generation)
        else:
            new, equal_rows = new.distinct_first()
            states = self._new_states(deleted, new)
            folder, encoded = self._build(new, equal_rows, generation)
            entries = self._write_states(states, generation)
            entries.append(write_states(Segment(folder), states[self.index.row_count :], generation))
        self._publish(entries, **changes)
        kept = [int((segment.states != DELETED).sum()) for segment in self.index.segments]
        if count := segments_to_merge(kept, self.index.row_count - sum(kept)):
            self._merge(count)
        remove_unused(self.path, self.index.manifest)
        return replace(update, encoded=encoded)

    def _new_states(self, deleted: Rows, new: PoiRows | None = None) -> States:
        """Return the states of all old rows and then of new ones, after rows are deleted.

        Of the rows of one place that are not deleted, the first is live, and the others are duplicates.
        """
        index, count = self.index, self.index.row_count
        states, places = index.states.copy(), index.hashes("place")
        states[deleted] = DELETED
        changed = places[deleted]
        if new:
            states = np.concatenate([states, np.zeros(len(new), np.uint8)])
            places, changed = (np.concatenate([hashes, new.hashes["place"]]) for hashes in (places, changed))
        rows = np.flatnonzero(np.isin(places, changed) & (states != DELETED))

        def places_at(chosen: Rows) -> list[Place]:
            numbers = rows[chosen]
            old = index.places_at(numbers[numbers < count])
            return old + places_of(new.table, numbers[numbers >= count] - count) if new else old

        first = first_equal_places(places[rows], places_at)
        states[rows] = np.where(first == np.arange(len(rows)), LIVE, DUPLICATE)
        return states

    def _build(self, new: PoiRows, equal_rows: Rows, generation: int) -> tuple[Path, int]:
        """Write a segment of new rows; return its folder and the number of texts that were encoded."""
        index = self.index
        vectors = VectorReuse(index, new, self._load_encoder)
        build = SegmentBuild(
            index=self.path,
            rows=new,
            equal_rows=equal_rows,
            model=index.manifest["model"],
            dim=index.dim,
            encode=vectors.encode,
            log=self.log,
            progress=self.progress,
            generation=generation,
            used=frozenset(segment.path.name for segment in index.segments),
            shard_rows=self.shard_rows,
        )
        build.claim()
        name = build.run()
        assert name is not None, "this is the first process"
        return self.path / SEGMENTS / name, vectors.encoded

    def _write_states(self, states: States, generation: int) -> list[dict[str, Any]]:
        """Write the states that changed; return the entries of the segments with rows that are not deleted."""
        entries: list[dict[str, Any] | None] = list(self.index.manifest["segments"])
        for i, (segment, start) in enumerate(zip(self.index.segments, self.index.offsets.tolist(), strict=False)):
            own = states[start : start + len(segment)]
            if (own != segment.states).any():
                entries[i] = None if (own == DELETED).all() else write_states(segment, own, generation)
        return [entry for entry in entries if entry is not None]

    def _merge(self, count: int) -> None:
        """Merge the youngest ``count`` segments, and write the next snapshot."""
        manifest = self.index.manifest
        entries = manifest["segments"][: len(manifest["segments"]) - count]
        if any((segment.states != DELETED).any() for segment in self.index.segments[-count:]):
            entries = [*entries, merge(self.index, count, manifest["generation"] + 1, self.shard_rows)]
        self._publish(entries)

    def _publish(self, entries: list[dict[str, Any]], **changes: Any) -> None:
        """Write the manifest of the next snapshot, and open this snapshot."""
        write_manifest(self.path, self.index.manifest, segments=entries, **changes)
        self.index = Index(self.path)


def id_key(value: Any) -> Any:
    """Return an id as a key of a dictionary; the text "1" and the number 1 differ."""
    if isinstance(value, str | int | float | None):
        return value
    return json.dumps(value, sort_keys=True, default=str), type(value).__name__


def _readings(value: Any) -> list[Any]:
    """Return an id, and then the same id in the other type, if there is one: the number of a text, or the reverse."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in (int, float):  # True is no number, although it equals 1
        return [value, str(int(value))] if value == value // 1 else [value]
    if not isinstance(value, str):
        return [value]
    try:
        number = json.loads(value)
    except ValueError:
        return [value]
    return [value, number] if type(number) in (int, float) and str(number) == value else [value]
