"""Document frequencies of the live POIs of an index, which are the sums of those of its segments."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from zipfile import BadZipFile

import numpy as np

from m3gal_cli.files import atomic_path
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import state_files
from m3gal_cli.index.segment import LIVE, Segment, States
from m3gal_cli.text.ngram_frequencies import NgramFrequencies


def open_frequencies(index: Index) -> NgramFrequencies:
    """Return the document frequencies of the live POIs; count them if a file is missing or damaged."""
    return NgramFrequencies.total([segment_frequencies(segment) for segment in index.segments])


def segment_frequencies(segment: Segment) -> NgramFrequencies:
    """Return the document frequencies of the live rows of a segment."""
    if segment.generation is not None:
        with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
            stored = NgramFrequencies.load(segment.path / state_files(segment.generation)[1])
            if stored.size == segment.live_count:
                return stored
    return frequencies_of(segment, segment.states == LIVE)


def frequencies_of(segment: Segment, which: np.ndarray) -> NgramFrequencies:
    """Count the n-grams of the addresses of some rows. Shape: which: (N,) bool."""
    whole = NgramFrequencies.of_postings(segment.postings, len(segment))
    if 2 * np.count_nonzero(which) <= len(segment):
        return _counted(segment, np.flatnonzero(which))
    return NgramFrequencies.total([whole], [_counted(segment, np.flatnonzero(~which))])


def _counted(segment: Segment, rows: np.ndarray) -> NgramFrequencies:
    """Count the n-grams of some rows, block by block. Shape: (n,)."""
    blocks = [rows[i : i + segment.shard_rows] for i in range(0, len(rows), segment.shard_rows)]
    return NgramFrequencies.total([NgramFrequencies.of(segment.terms.ngrams.take(block)) for block in blocks])


def write_states(
    segment: Segment, states: States, generation: int, counted: NgramFrequencies | None = None
) -> dict[str, Any]:
    """Write new states of a segment, and its document frequencies with them, for a generation of the index.

    Args:
        segment: The segment with its current states, or without states if it is new.
        states: State of each row. Shape: (N,).
        generation: Generation of the index that is about to be written.
        counted: The document frequencies of the live rows, if they are known.

    Returns:
        The entry of the segment in the manifest.

    Raises:
        InputError: The disk is full.
    """
    now = states == LIVE
    if counted is None and segment.generation is None:
        counted = frequencies_of(segment, now)
    elif counted is None:
        before = segment.states == LIVE
        old, shown, hidden = segment_frequencies(segment), now & ~before, before & ~now
        counted = NgramFrequencies.total([old, frequencies_of(segment, shown)], [frequencies_of(segment, hidden)])
    files = [segment.path / name for name in state_files(generation)]
    with atomic_path(files[1]) as temporary:
        counted.save(temporary)
    with atomic_path(files[0]) as temporary, temporary.open("wb") as file:
        np.save(file, states)
    return {"name": segment.path.name, "rows": len(states), "live": int(now.sum()), "states": generation}
