"""Postings: for each n-gram the rows of a table that contain it, as three arrays that can be memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from m3gal_cli.text.terms import Ids, Lists, Numbers

PART = 1 << 24  # postings that are sorted at once; they take 128 MiB
BLOCK = 1 << 22  # n-grams that are read at once
FILES = ("ids.npy", "starts.npy", "rows.npy")
_ROW_BITS = np.uint64(32)


@dataclass(frozen=True)
class Postings:
    """The rows of each n-gram.

    Shape:
        ids: (G,), the n-grams, ascending. starts: (G + 1,). rows: (P,) int32; those of n-gram i are
        ``rows[starts[i] : starts[i + 1]]``, ascending.
    """

    ids: Ids
    starts: Numbers
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, ngrams: Lists) -> Postings:
        """Transpose the n-grams of rows, which are distinct in each row."""
        parts = list(_parts(ngrams))
        ids, counts, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
        return cls(ids, _starts(counts), rows)

    @classmethod
    def write(cls, folder: Path, ngrams: Lists) -> None:
        """Write the postings of rows to a new folder; the memory does not grow with their number. Raises OSError."""
        folder.mkdir()
        ids, counts, done = [], [], 0
        rows = open_memmap(folder / FILES[2], "w+", np.int32, (len(ngrams.values),))
        for part_ids, part_counts, part_rows in _parts(ngrams):
            rows[done : done + len(part_rows)] = part_rows
            done += len(part_rows)
            ids.append(part_ids)
            counts.append(part_counts)
        rows.flush()
        np.save(folder / FILES[0], np.concatenate(ids))
        np.save(folder / FILES[1], _starts(np.concatenate(counts)))

    @classmethod
    def open(cls, folder: Path) -> Postings:
        """Memory-map the arrays. Raises OSError, ValueError and EOFError for files that are missing or damaged."""
        ids, starts, rows = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in FILES)
        valid = (ids.dtype, starts.dtype, rows.dtype) == (np.uint32, np.int64, np.int32)
        if not valid or starts.shape != (len(ids) + 1,) or int(starts[-1]) != len(rows):
            raise ValueError("the files do not hold postings")
        return cls(ids, starts, rows)

    def find(self, ngrams: Ids) -> list[NDArray[np.int32]]:
        """Return the rows of each n-gram; none for an n-gram that no row contains."""
        if not len(self.ids):
            return [self.rows[:0]] * len(ngrams)
        at = np.minimum(np.searchsorted(self.ids, ngrams), len(self.ids) - 1)
        starts = self.starts[at]
        ends = np.where(self.ids[at] == ngrams, self.starts[at + 1], starts)
        return [self.rows[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _starts(counts: Numbers) -> Numbers:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _parts(ngrams: Lists) -> Iterator[tuple[Ids, Numbers, NDArray[np.int32]]]:
    """Yield ids, their numbers of rows, and these rows, for ascending ranges of ids."""
    count = 1 + len(ngrams.values) // PART
    sample = np.sort(ngrams.values[:: max(1, len(ngrams.values) // 100_000)])
    cuts = sample[(np.arange(1, count) * len(sample)) // count].tolist()
    for low, high in zip([0, *cuts], [*cuts, 1 << 32], strict=True):
        keys = np.sort(np.concatenate([np.zeros(0, np.uint64), *_keys(ngrams, low, high)]))
        ids = (keys >> _ROW_BITS).astype(np.uint32)
        first = np.flatnonzero(np.concatenate([ids[:1] == ids[:1], ids[1:] != ids[:-1]]))
        yield ids[first], np.diff(np.append(first, len(ids))), keys.astype(np.uint32).view(np.int32)


def _keys(ngrams: Lists, low: int, high: int) -> Iterator[NDArray[np.uint64]]:
    """Yield ``id << 32 | row`` of each n-gram with low <= id < high, block by block."""
    starts, values = ngrams.starts, ngrams.values
    cuts = np.unique(np.searchsorted(starts, np.arange(0, len(values), BLOCK), side="right") - 1)
    for first, end in pairwise([*cuts.tolist(), len(ngrams)]):
        own = values[starts[first] : starts[end]].astype(np.uint64)
        rows = np.repeat(np.arange(first, end, dtype=np.uint64), np.diff(starts[first : end + 1]))
        kept = (own >= low) & (own < high)
        yield own[kept] << _ROW_BITS | rows[kept]
