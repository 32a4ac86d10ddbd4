"""Document frequencies of the character 1-2-grams of a table, from which the reranker computes idf weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.ngrams import Codes, Ngrams
from m3gal_cli.text.normalise import normalise, normalised_batches

Floats = NDArray[np.float64]


class QueryNgrams(NamedTuple):
    """The distinct n-grams of a query, ascending, and the share of each in the summed idf. Shape: (G,), (G,)."""

    codes: Codes
    shares: Floats


class DocumentFrequencies:
    """Number of texts of a table that contain each n-gram.

    Args:
        codes: The n-grams, as ``Ngrams`` codes them, ascending. Shape: (G,).
        rows: Number of texts with each n-gram. Shape: (G,).
        size: Number of texts.
    """

    def __init__(self, codes: Codes, rows: NDArray[np.int64], size: int) -> None:
        self.codes, self.rows, self.size = codes, rows, size

    @classmethod
    def of(cls, texts: Iterable[str]) -> DocumentFrequencies:
        """Count the n-grams of texts; a text that occurs twice counts twice."""
        codes, rows, size = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], 0
        for batch in normalised_batches(texts):
            distinct, counts = np.unique(Ngrams.of(batch).distinct().codes, return_counts=True)
            codes.append(distinct)
            rows.append(counts)
            size += len(batch)
        distinct, inverse = np.unique(np.concatenate(codes), return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, inverse, np.concatenate(rows))
        return cls(distinct, total, size)

    @classmethod
    def total(
        cls, parts: Sequence[DocumentFrequencies], without: DocumentFrequencies | None = None
    ) -> DocumentFrequencies:
        """Add the counts of several tables, and subtract those of texts that are ``without``."""
        if len(parts) == 1 and (without is None or not without.size):
            return parts[0]
        signed = [(part, 1) for part in parts] + ([(without, -1)] if without is not None else [])
        codes, inverse = np.unique(
            np.concatenate([np.zeros(0, np.uint64), *(part.codes for part, _ in signed)]), return_inverse=True
        )
        rows = np.zeros(len(codes), np.int64)
        np.add.at(rows, inverse, np.concatenate([np.zeros(0, np.int64), *(sign * part.rows for part, sign in signed)]))
        return cls(codes[rows > 0], rows[rows > 0], sum(sign * part.size for part, sign in signed))

    def save(self, path: Path) -> None:
        """Write the counts as .npz. Raises OSError."""
        with path.open("wb") as file:
            np.savez(file, codes=self.codes, rows=self.rows, size=self.size)

    @classmethod
    def load(cls, path: Path) -> DocumentFrequencies:
        """Read the file that ``save`` wrote.

        Raises:
            OSError, ValueError, KeyError, EOFError, BadZipFile: the file is unreadable or of another kind.
        """
        with np.load(path, allow_pickle=False) as arrays:
            codes, rows = arrays["codes"], arrays["rows"]
            if codes.dtype != np.uint64 or rows.dtype != np.int64 or codes.shape != rows.shape or codes.ndim != 1:
                raise ValueError("the file does not hold document frequencies")
            return cls(codes, rows, int(arrays["size"]))

    def idf(self, codes: Codes) -> Floats:
        """Return ln(1 + (N - n + 0.5) / (n + 0.5)) of each n-gram, where n of N texts contain it."""
        if not len(self.codes) or not len(codes):
            return np.full(len(codes), np.log(1.0 + (self.size + 0.5) / 0.5))
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        counts = np.where(self.codes[at] == codes, self.rows[at], 0)
        return np.asarray(np.log(1.0 + (self.size - counts + 0.5) / (counts + 0.5)))

    def query_ngrams(self, query: str) -> QueryNgrams:
        """Return the n-grams of a query; none for a query without letters and digits."""
        codes, counts = np.unique(Ngrams.of([normalise(query)]).codes, return_counts=True)
        weights = self.idf(codes) * counts
        return QueryNgrams(codes, weights / weights.sum() if len(weights) else weights)
