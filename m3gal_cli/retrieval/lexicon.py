"""BM25 of a few candidates: of a table only the document frequencies of character 1-2-grams are kept, no postings.

What rescores the best few hundred of a search needs their lexical score alone, whatever the size of the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.retrieval.lexical import BM25_B, BM25_K1, words_of

FILE = "lexicon.npz"
_AT_ONCE = 20_000  # texts
_SECOND = np.uint64(21)  # a code point has 21 bits: a 2-gram is two of them in one number, a 1-gram one


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
        pieces = [_frequencies([" ".join(words_of(t)) for t in part]) for part in _batches(texts)]
        codes, rows = (np.concatenate([p[i] for p in pieces] or [np.zeros(0, np.uint64)]) for i in (0, 1))
        distinct, inverse = np.unique(codes, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, inverse, rows.astype(np.int64))
        size = sum(p[2] for p in pieces)
        return cls(distinct, total, size, sum(p[3] for p in pieces) / max(size, 1))

    def save(self, path: Path) -> None:
        """Write it. Raises OSError."""
        with path.open("wb") as file:
            np.savez(file, codes=self.codes, rows=self.rows, size=self.size, mean_length=self.mean_length)

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Read what ``save`` wrote. Raises OSError, ValueError or KeyError for what is none."""
        with np.load(path, allow_pickle=False) as found:
            codes, rows = found["codes"], found["rows"]
            if codes.dtype != np.uint64 or codes.shape != rows.shape or codes.ndim != 1:
                raise ValueError("no lexicon")
            return cls(codes, rows, int(found["size"]), float(found["mean_length"]))

    def shares(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """BM25 of each text over the most that any text could have for the query: its grams' summed idf.

        So the numbers of different queries can be compared. Robertson & Zaragoza 2009, k1 1.5, b 0.75, and the idf
        ln(1 + (N - n + 0.5) / (n + 0.5)); 0 for a query without letters and digits.

        Shape: n texts -> (n,), from 0 to below 1.
        """
        grams = Counter(gram for word in words_of(query) for gram in _grams(word))
        out = np.zeros(len(texts))
        if not grams or not len(texts):
            return out.astype(np.float32)
        weights = self._idf(list(grams)) * np.array(list(grams.values()))
        plain = [" ".join(words_of(text)) for text in texts]
        lengths = np.array([2 * len(p) - 3 * p.count(" ") - 1 if p else 0 for p in plain])
        damping = BM25_K1 * (1.0 - BM25_B + BM25_B * lengths / max(self.mean_length, 1e-9))
        for gram, weight in zip(grams, weights, strict=True):
            counts = np.array([_count(gram, p) for p in plain], np.float64)
            out += weight * counts / (counts + damping)
        return (out / weights.sum()).astype(np.float32)

    def _idf(self, grams: Sequence[str]) -> NDArray[np.float64]:
        codes = np.array([code_of(gram) for gram in grams], np.uint64)
        at = np.minimum(np.searchsorted(self.codes, codes), max(len(self.codes) - 1, 0))
        known = self.codes[at] == codes if len(self.codes) else np.zeros(len(codes), bool)
        found = np.where(known, self.rows[at] if len(self.rows) else 0, 0)
        return np.asarray(np.log(1.0 + (self.size - found + 0.5) / (found + 0.5)))


def _grams(word: str) -> list[str]:
    return [*word, *(a + b for a, b in pairwise(word))]


def code_of(gram: str) -> int:
    """A 1- or 2-gram as a number."""
    return ord(gram) if len(gram) == 1 else (ord(gram[0]) << int(_SECOND)) | ord(gram[1])


def _count(gram: str, plain: str) -> int:
    """How often a gram is in a text; str.count alone would find aa once in aaa."""
    if len(gram) == 1 or gram[0] != gram[1]:
        return plain.count(gram)
    return sum(plain.startswith(gram, i) for i in range(len(plain) - 1)) if gram in plain else 0


def _batches(texts: Iterable[str]) -> Iterable[list[Any]]:
    rows = list(texts) if not isinstance(texts, Sequence) else texts
    for start in range(0, len(rows), _AT_ONCE):
        yield list(rows[start : start + _AT_ONCE])


def _frequencies(plain: list[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64], int, int]:
    """Grams of texts whose words stand apart by spaces: codes, rows with each, texts, grams in all."""
    letters = np.frombuffer("\n".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    row = np.cumsum(letters == ord("\n"))
    within = (letters != ord("\n")) & (letters != ord(" "))
    pairs = np.flatnonzero(within[1:] & within[:-1])
    codes = np.concatenate([letters[within], (letters[pairs] << _SECOND) | letters[pairs + 1]])
    rows = np.concatenate([row[within], row[pairs]])
    distinct, number = np.unique(codes, return_inverse=True)
    seen = np.unique(number.astype(np.int64) * len(plain) + rows)
    return distinct, np.bincount(seen // len(plain), minlength=len(distinct)), len(plain), len(codes)
