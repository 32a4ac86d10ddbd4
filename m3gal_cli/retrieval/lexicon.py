"""Lexical evidence on a few candidates: of a table only the document frequencies of 1-2-grams are kept, no postings.

What rescores the best few hundred of a search needs their lexical scores alone, whatever the size of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.retrieval.lexical import BM25_B, BM25_K1, grams_of, words_of

FILE = "lexicon.npz"
_AT_ONCE = 20_000  # texts
_SECOND = np.uint64(21)  # a code point has 21 bits: a 2-gram is two of them in one number, a 1-gram one
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Terms:
    """The different grams of a query and their shares of its summed idf. Shape: shares: (G,), summing to 1."""

    grams: list[str]
    shares: Floats


class Lexicon:
    """Document frequencies of the grams of a table.

    Args:
        codes: (G,) the grams as numbers, rising.
        rows: (G,) in how many texts each of them is.
        size: texts.
        mean_length: grams a text.
    """

    def __init__(self, codes: NDArray[np.uint64], rows: NDArray[np.int64], size: int, mean_length: float) -> None:
        self.codes, self.rows, self.size, self.mean_length = codes, rows, size, mean_length

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lexicon:
        """The lexicon of these texts, each of which counts, equal ones too."""
        pieces = [_frequencies([plain(t) for t in part]) for part in _batches(texts)]
        codes = np.concatenate([np.zeros(0, np.uint64), *(p[0] for p in pieces)])
        rows = np.concatenate([np.zeros(0, np.int64), *(p[1] for p in pieces)])
        distinct, inverse = np.unique(codes, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, inverse, rows)
        size = sum(p[2] for p in pieces)
        return cls(distinct, total, size, sum(p[3] for p in pieces) / max(size, 1))

    def save(self, path: Path) -> None:
        """Write it. Raises OSError."""
        with path.open("wb") as file:
            np.savez(file, codes=self.codes, rows=self.rows, size=self.size, mean_length=self.mean_length)

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Read what ``save`` wrote. Raises OSError, ValueError, KeyError, EOFError or BadZipFile for what is none."""
        with np.load(path, allow_pickle=False) as found:
            codes, rows = found["codes"], found["rows"]
            if codes.dtype != np.uint64 or rows.dtype != np.int64 or codes.shape != rows.shape or codes.ndim != 1:
                raise ValueError("no lexicon")
            return cls(codes, rows, int(found["size"]), float(found["mean_length"]))

    def idf(self, grams: Sequence[str]) -> Floats:
        """ln(1 + (N - n + 0.5) / (n + 0.5)) of each gram, n of N texts having it. Shape: -> (G,)."""
        codes = np.array([code_of(gram) for gram in grams], np.uint64)
        if not len(self.codes) or not len(codes):
            return np.full(len(codes), np.log(1.0 + (self.size + 0.5) / 0.5))
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        found = np.where(self.codes[at] == codes, self.rows[at], 0)
        return np.asarray(np.log(1.0 + (self.size - found + 0.5) / (found + 0.5)))

    def terms(self, query: str) -> Terms:
        """The grams of a query; none where it has no letter and no digit."""
        counts = Counter(grams_of(words_of(query)))
        weights = self.idf(list(counts)) * np.array(list(counts.values()), np.float64)
        return Terms(list(counts), weights / weights.sum() if len(weights) else weights)

    def bm25(self, terms: Terms, counts: Floats, lengths: Floats) -> Floats:
        """BM25 of texts over the most that any text could have for the query: that is what its grams' idf sum up to.

        So the numbers of different queries can be compared. Robertson & Zaragoza 2009, k1 1.5, b 0.75.

        Args:
            counts: how often each gram is in each text. Shape: (n, G).
            lengths: grams of each text. Shape: (n,) -> (n,), from 0 to below 1.
        """
        damping = BM25_K1 * (1.0 - BM25_B + BM25_B * lengths / max(self.mean_length, 1e-9))
        return np.asarray((counts / (counts + damping[:, None])) @ terms.shares)


def plain(text: str) -> str:
    """The letters and digits of a text, NFKC and lower case, runs of them apart by a space."""
    return " ".join(words_of(text))


def length_of(text: str) -> int:
    """Grams of a plain text: of each run its letters and their pairs."""
    return 2 * len(text) - 3 * text.count(" ") - 1 if text else 0


def count_grams(terms: Terms, texts: Sequence[str]) -> Floats:
    """How often each gram is in each plain text. Shape: -> (n, G)."""
    return np.array([[_count(gram, text) for gram in terms.grams] for text in texts], np.float64).reshape(
        len(texts), len(terms.grams)
    )


def code_of(gram: str) -> int:
    """A 1- or 2-gram as a number."""
    return ord(gram) if len(gram) == 1 else (ord(gram[0]) << int(_SECOND)) | ord(gram[1])


def _count(gram: str, text: str) -> int:
    """How often a gram is in a text; str.count alone would find aa once in aaa."""
    if len(gram) == 1 or gram[0] != gram[1]:
        return text.count(gram)
    return sum(text.startswith(gram, i) for i in range(len(text) - 1)) if gram in text else 0


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(texts)
    while part := list(islice(rest, _AT_ONCE)):
        yield part


def _frequencies(texts: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64], int, int]:
    """Grams of plain texts: codes, rows with each, texts, grams in all."""
    letters = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    row = np.cumsum(letters == ord("\n"))
    within = (letters != ord("\n")) & (letters != ord(" "))
    pairs = np.flatnonzero(within[1:] & within[:-1])
    codes = np.concatenate([letters[within], (letters[pairs] << _SECOND) | letters[pairs + 1]])
    rows = np.concatenate([row[within], row[pairs]])
    distinct, number = np.unique(codes, return_inverse=True)
    seen = np.unique(number.astype(np.int64) * len(texts) + rows)
    return distinct, np.bincount(seen // len(texts), minlength=len(distinct)), len(texts), len(codes)
