"""Document frequencies of the hashed n-grams of addresses, from which idf weights are computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import TERMS_VERSION, Ids, Lists, Numbers

Floats = NDArray[np.float64]


class NgramFrequencies:
    """Number of rows of a table that contain each n-gram.

    Args:
        ids: The n-grams, ascending. Shape: (G,).
        counts: Number of rows with each n-gram, at least 1. Shape: (G,).
        size: Number of rows.
    """

    def __init__(self, ids: Ids, counts: Numbers, size: int) -> None:
        self.ids, self.counts, self.size = ids, counts, size

    @classmethod
    def of(cls, ngrams: Lists) -> NgramFrequencies:
        """Count the n-grams of rows, which are distinct in each row."""
        ids, counts = np.unique(ngrams.values, return_counts=True)
        return cls(ids, counts, len(ngrams))

    @classmethod
    def of_postings(cls, postings: Postings, size: int) -> NgramFrequencies:
        """Return the counts of postings of ``size`` rows."""
        return cls(postings.ids, np.diff(postings.starts), size)

    @classmethod
    def total(cls, parts: Sequence[NgramFrequencies], without: Sequence[NgramFrequencies] = ()) -> NgramFrequencies:
        """Add the counts of several tables, and subtract those of rows that are ``without``."""
        without = [part for part in without if part.size]
        if len(parts) == 1 and not without:
            return parts[0]
        signed = [*((part, 1) for part in parts), *((part, -1) for part in without)]
        ids = [np.zeros(0, np.uint32), *(part.ids for part, _ in signed)]
        counts = [np.zeros(0, np.int64), *(sign * part.counts for part, sign in signed)]
        distinct, inverse = np.unique(np.concatenate(ids), return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, inverse, np.concatenate(counts))
        return cls(distinct[total > 0], total[total > 0], sum(sign * part.size for part, sign in signed))

    def save(self, path: Path) -> None:
        """Write the counts as .npz. Raises OSError."""
        with path.open("wb") as file:
            np.savez(file, ids=self.ids, counts=self.counts, size=self.size, version=TERMS_VERSION)

    @classmethod
    def load(cls, path: Path) -> NgramFrequencies:
        """Read the file that ``save`` wrote.

        Raises:
            OSError, ValueError, KeyError, EOFError, BadZipFile: The file is unreadable or of another kind.
        """
        with np.load(path, allow_pickle=False) as arrays:
            ids, counts = arrays["ids"], arrays["counts"]
            if arrays["version"] != TERMS_VERSION:
                raise ValueError("the file is of another version")
            if ids.dtype != np.uint32 or counts.dtype != np.int64 or ids.shape != counts.shape or ids.ndim != 1:
                raise ValueError("the file does not hold document frequencies")
            return cls(ids, counts, int(arrays["size"]))

    def counts_of(self, ngrams: NDArray[np.generic]) -> Numbers:
        """Return the number of rows with each n-gram. Shape: (n,) -> (n,)."""
        if not len(self.ids):
            return np.zeros(len(ngrams), np.int64)
        at = np.minimum(np.searchsorted(self.ids, ngrams), len(self.ids) - 1)
        return np.where(self.ids[at] == ngrams, self.counts[at], 0)

    def idf(self, ngrams: NDArray[np.generic]) -> Floats:
        """Return ln((1 + N) / (1 + n)) + 1 of each n-gram, where n of N rows contain it. Shape: (n,) -> (n,)."""
        return np.asarray(np.log((1.0 + self.size) / (1.0 + self.counts_of(ngrams))) + 1.0)

    @property
    def largest_idf(self) -> float:
        """The idf of an n-gram that no row contains."""
        return float(np.log(1.0 + self.size) + 1.0)
