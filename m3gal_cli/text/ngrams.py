"""Character 1- and 2-grams of many texts at once, as integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CODE_POINT_BITS = np.uint64(21)
_CODE_BITS = np.uint64(42)  # leaves 22 bits of a 64-bit key for the row: four million texts at once
Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class Ngrams:
    """The M n-grams of some texts, repeated as often as they occur.

    The code of a 1-gram is its code point, that of a 2-gram is ``first << 21 | second``.
    """

    codes: Codes  # (M,)
    rows: NDArray[np.int64]  # (M,), the number of the text that contains each n-gram
    size: int  # number of texts

    @classmethod
    def of(cls, texts: Sequence[str], *, with_spaces: bool = False) -> Ngrams:
        """Extract the n-grams of normalised texts: all 1-grams in the order of the texts, then all 2-grams.

        N-grams that contain a space are left out, unless ``with_spaces``.
        """
        points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        rows = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        kept = np.ones(len(points), bool) if with_spaces else points != ord(" ")
        pairs = np.flatnonzero((rows[1:] == rows[:-1]) & kept[1:] & kept[:-1])
        codes = np.concatenate([points[kept], (points[pairs] << _CODE_POINT_BITS) | points[pairs + 1]])
        return cls(codes, np.concatenate([rows[kept], rows[pairs]]), len(texts))

    def distinct(self) -> Ngrams:
        """Return each n-gram of a text once, ordered by text and code."""
        keys = np.sort(self._keys())  # np.unique counts in a hash table, which is slower for mostly distinct keys
        return self._of_keys(keys[np.concatenate([keys[:1] == keys[:1], keys[1:] != keys[:-1]])])

    def without(self, others: Ngrams) -> Ngrams:
        """Return the distinct n-grams of each text that the text of the same row in ``others`` does not contain."""
        return self._of_keys(np.setdiff1d(self._keys(), others._keys()))

    def _keys(self) -> Codes:
        """Return row and code of each n-gram in one integer."""
        return np.asarray(self.rows.astype(np.uint64) << _CODE_BITS | self.codes)

    def _of_keys(self, keys: Codes) -> Ngrams:
        rows = (keys >> _CODE_BITS).astype(np.int64)
        return Ngrams(keys & ((np.uint64(1) << _CODE_BITS) - np.uint64(1)), rows, self.size)
