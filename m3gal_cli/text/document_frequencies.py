"""What words say of a few candidates: of a table only the document frequencies of 1-2-grams are kept, no postings.

What rescores the best of a search reads their texts alone, whatever the size of the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.bm25 import words_of

FILE = "lexicon.npz"
_AT_ONCE = 20_000  # texts
_SECOND = np.uint64(21)  # a code point has 21 bits: a 2-gram is two of them in one number, a 1-gram one
_CODE_BITS = np.uint64(42)  # which leaves 22 bits for the number of a text: four million at once
Floats = NDArray[np.float64]
Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class Terms:
    """The different grams of a query as numbers, rising, and their shares of its summed idf.

    Shape: codes: (G,); shares: (G,), summing to 1.
    """

    codes: Codes
    shares: Floats


@dataclass(frozen=True)
class Grams:
    """All grams of some plain texts, as often as they are there.

    Shape: codes: (M,) the grams as numbers; rows: (M,) whose each of them is, of ``size`` texts.
    """

    codes: Codes
    rows: NDArray[np.int64]
    size: int

    @classmethod
    def of(cls, texts: Sequence[str]) -> Grams:
        """Those of plain texts."""
        letters = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        row = np.cumsum(letters == ord("\n"))
        within = (letters != ord("\n")) & (letters != ord(" "))
        pairs = np.flatnonzero(within[1:] & within[:-1])
        codes = np.concatenate([letters[within], (letters[pairs] << _SECOND) | letters[pairs + 1]])
        return cls(codes, np.concatenate([row[within], row[pairs]]), len(texts))

    def have(self, terms: Terms) -> NDArray[np.bool_]:
        """Which grams of a query are in which text. Shape: -> (n, G)."""
        out = np.zeros((self.size, len(terms.codes)), bool)
        if out.size:
            at = np.minimum(np.searchsorted(terms.codes, self.codes), len(terms.codes) - 1)
            hit = terms.codes[at] == self.codes
            out[self.rows[hit], at[hit]] = True
        return out

    def distinct(self) -> Grams:
        """Each gram of a text once, texts in their order."""
        return self._told_by(np.unique(self._keys()))

    def without(self, others: Grams) -> Grams:
        """Each gram of a text once, but for those that the same one of other texts has; texts in their order."""
        own, theirs = np.unique(self._keys()), np.sort(others._keys())
        if not len(theirs):
            return self._told_by(own)
        at = np.minimum(np.searchsorted(theirs, own), len(theirs) - 1)
        return self._told_by(own[theirs[at] != own])

    def _keys(self) -> Codes:
        """Text and gram in one number. Shape: -> (M,)."""
        return np.asarray(self.rows.astype(np.uint64) << _CODE_BITS | self.codes)

    def _told_by(self, keys: Codes) -> Grams:
        rows = (keys >> _CODE_BITS).astype(np.int64)
        return Grams(keys & ((np.uint64(1) << _CODE_BITS) - np.uint64(1)), rows, self.size)


class DocumentFrequencies:
    """Document frequencies of the grams of a table.

    Args:
        codes: (G,) the grams as numbers, rising.
        rows: (G,) in how many texts each of them is.
        size: texts.
    """

    def __init__(self, codes: Codes, rows: NDArray[np.int64], size: int) -> None:
        self.codes, self.rows, self.size = codes, rows, size

    @classmethod
    def of(cls, texts: Iterable[str]) -> DocumentFrequencies:
        """The lexicon of these texts, each of which counts, equal ones too."""
        pieces = [_frequencies([plain(t) for t in part]) for part in _batches(texts)]
        codes = np.concatenate([np.zeros(0, np.uint64), *(p[0] for p in pieces)])
        rows = np.concatenate([np.zeros(0, np.int64), *(p[1] for p in pieces)])
        distinct, inverse = np.unique(codes, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, inverse, rows)
        return cls(distinct, total, sum(p[2] for p in pieces))

    def save(self, path: Path) -> None:
        """Write it. Raises OSError."""
        with path.open("wb") as file:
            np.savez(file, codes=self.codes, rows=self.rows, size=self.size)

    @classmethod
    def load(cls, path: Path) -> DocumentFrequencies:
        """Read what ``save`` wrote. Raises OSError, ValueError, KeyError, EOFError or BadZipFile for what is none."""
        with np.load(path, allow_pickle=False) as found:
            codes, rows = found["codes"], found["rows"]
            if codes.dtype != np.uint64 or rows.dtype != np.int64 or codes.shape != rows.shape or codes.ndim != 1:
                raise ValueError("no lexicon")
            return cls(codes, rows, int(found["size"]))

    def idf(self, codes: Codes) -> Floats:
        """ln(1 + (N - n + 0.5) / (n + 0.5)) of each gram, n of N texts having it. Shape: (G,) -> (G,)."""
        if not len(self.codes) or not len(codes):
            return np.full(len(codes), np.log(1.0 + (self.size + 0.5) / 0.5))
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        found = np.where(self.codes[at] == codes, self.rows[at], 0)
        return np.asarray(np.log(1.0 + (self.size - found + 0.5) / (found + 0.5)))

    def terms(self, query: str) -> Terms:
        """The grams of a query; none where it has no letter and no digit."""
        codes, times = np.unique(Grams.of([plain(query)]).codes, return_counts=True)
        weights = self.idf(codes) * times
        return Terms(codes, weights / weights.sum() if len(weights) else weights)

    def typed(self, texts: Grams, terms: Terms) -> Floats:
        """Share of the idf of each text's grams, each of which it has once, that is in the query; 0 for a text of none.

        Shape: -> (n,).
        """
        idf = self.idf(texts.codes)
        all_of, typed = (
            np.bincount(texts.rows, weights, texts.size) for weights in (idf, idf * np.isin(texts.codes, terms.codes))
        )
        return np.asarray(typed / np.maximum(all_of, 1e-9))


def plain(text: str) -> str:
    """The letters and digits of a text, NFKC and lower case, runs of them apart by a space."""
    return " ".join(words_of(text))


def code_of(gram: str) -> int:
    """A 1- or 2-gram as a number."""
    return ord(gram) if len(gram) == 1 else (ord(gram[0]) << int(_SECOND)) | ord(gram[1])


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while part := list(islice(rest, _AT_ONCE)):
        yield part


def _frequencies(texts: list[str]) -> tuple[Codes, NDArray[np.int64], int]:
    """Grams of plain texts: codes, rows with each, texts."""
    codes, rows = np.unique(Grams.of(texts).distinct().codes, return_counts=True)
    return codes, rows, len(texts)
