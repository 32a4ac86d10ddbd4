"""Merge segments: copy the rows that are not deleted, in their order, into one new segment.

As in an LSM tree, small young segments are merged before large old ones: each POI is copied a few times only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.encoders.vector_shards import shard_count, shard_path, write_shard
from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder, publish_folder, remove_folder
from m3gal_cli.index.document_frequencies import segment_frequencies, write_states
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import SEGMENTS
from m3gal_cli.index.poi_columns import concatenated, taken, write_columns
from m3gal_cli.index.poi_rows import HASHES, content_of
from m3gal_cli.index.segment import DELETED, POIS, Segment, hash_path, residual_path
from m3gal_cli.index.segment_build import finish_segment
from m3gal_cli.index.segment_terms import FOLDER, write_terms
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Terms

MAX_SEGMENTS = 8
MAX_DELETED = 0.5  # share of deleted rows above which all segments are merged


def segments_to_merge(sizes: list[int], deleted: int) -> int:
    """Return how many of the youngest segments to merge; 0 for none.

    Args:
        sizes: Rows of each segment that are not deleted, oldest first.
        deleted: Deleted rows of all segments.
    """
    if deleted > MAX_DELETED * (sum(sizes) + deleted):
        return len(sizes)
    if len(sizes) <= MAX_SEGMENTS:
        return 0
    for count in range(2, len(sizes)):
        if 2 * sum(sizes[-count:]) <= sizes[-count - 1]:
            return count
    return len(sizes)


def merge(index: Index, count: int, generation: int, shard_rows: int) -> dict[str, Any]:
    """Write the youngest ``count`` segments of an index as one, and return its entry for the manifest.

    Raises:
        InputError: The disk is full.
    """
    segments = index.segments[-count:]
    kept = [np.flatnonzero(segment.states != DELETED) for segment in segments]
    hashes = {
        name: np.concatenate([s.hashes(name)[rows] for s, rows in zip(segments, kept, strict=True)]) for name in HASHES
    }
    content = content_of(hashes)
    parent = make_folder(index.path / SEGMENTS)
    target = parent / f"{generation:06d}-{content[:16]}"
    temporary = parent / f".{target.name}.tmp"
    try:
        for folder in (temporary, target):
            if folder.exists():
                remove_folder(folder)
        make_folder(temporary)
        for name, values in hashes.items():
            write_shard(hash_path(temporary, name), values)
        tables = [taken(s.pois, rows) for s, rows in zip(segments, kept, strict=True)]
        write_columns(concatenated(tables), temporary / POIS)
        _copy_vectors(segments, kept, temporary, shard_rows)
        write_terms(temporary / FOLDER, _taken_terms(segments, kept, shard_rows))
        record = {"model": index.manifest["model"], "content": content, "rows": sum(map(len, kept)), "dim": index.dim}
        record |= {"shard_rows": shard_rows, "largest_norm": max(s.max_norm for s in segments)}
        finish_segment(temporary, record | {"largest_rest": max(s.max_residual_norm for s in segments)})
        publish_folder(temporary, target)
    except OSError as error:
        hint = "Free disk space and start again."
        raise InputError(f"cannot write ({error.strerror or error})", where=index.path, hint=hint) from error
    states = np.concatenate([segment.states[rows] for segment, rows in zip(segments, kept, strict=True)])
    counted = NgramFrequencies.total([segment_frequencies(segment) for segment in segments])
    return write_states(Segment(target), states, generation, counted)


def _taken_terms(segments: list[Segment], kept: list[np.ndarray], block_rows: int) -> Iterator[Terms]:
    """Yield the terms of the kept rows, block by block."""
    for segment, rows in zip(segments, kept, strict=True):
        for first in range(0, len(rows), block_rows):
            yield segment.terms.take(rows[first : first + block_rows])


def _copy_vectors(segments: list[Segment], kept: list[np.ndarray], folder: Path, shard_rows: int) -> None:
    """Write the stored vectors of the kept rows in shards, without rounding them again."""
    offsets = np.cumsum([0, *map(len, kept)])
    for number in range(shard_count(int(offsets[-1]), shard_rows)):
        first, end = number * shard_rows, min((number + 1) * shard_rows, int(offsets[-1]))
        parts = []
        for segment, rows, offset in zip(segments, kept, offsets.tolist(), strict=False):
            own = rows[max(0, first - offset) : max(0, end - offset)]
            if len(own):
                parts.append(segment.parts(own))
        rounded, residuals = (np.concatenate(part) for part in zip(*parts, strict=True))
        write_shard(residual_path(folder, number), residuals)
        write_shard(shard_path(folder, number), rounded)
