"""The terms of a query, which features compare with those of its candidates."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.folding import fold, has_units
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Ids, Terms, numbers_of

Floats = NDArray[np.float64]


class QueryTerms:
    """A query with its terms. See ``Terms`` for n-grams, ``fold`` for folded texts and units.

    Attributes:
        folded: The folded query.
        words: Its words, numbers and single units, in their order.
        word_ids: Their n-grams (``Terms.word_ids``). Shape: (W,).
        has_units: Whether it has units.
        numbers: Its distinct whole numbers, ascending.
        ngrams: Its distinct n-grams, ascending. Shape: (G,).
        idf: Their idf. Shape: (G,).
        shares: Their share in the summed idf; their sum is 1. Shape: (G,).
        half_shares: The shares of those of the first and of the second half, divided between words; 0 for other
            n-grams. Shape: (G,), (G,).
    """

    def __init__(self, text: str, frequencies: NgramFrequencies) -> None:
        self.frequencies = frequencies
        self.folded = fold(text)
        self.words = words_of(self.folded)
        self.word_ids = Terms.word_ids(self.words)
        self.has_units = has_units(self.folded)
        self.numbers: Ids = np.array(sorted(numbers_of(self.folded)), np.uint32)
        whole, first, second = np.split(
            (lists := Terms.of_folded([self.folded, *halves_of(self.folded)])).values, lists.starts[1:-1]
        )
        self.ngrams: Ids = whole
        self.idf: Floats = frequencies.idf(whole)
        self.shares = _shares(self.idf)
        self.half_shares = tuple(
            _shares(self.idf * np.isin(whole, half, assume_unique=True)) for half in (first, second)
        )

    @cached_property
    def unknown_share(self) -> float:
        """The summed shares of the n-grams that no address has."""
        return float(self.shares[self.frequencies.counts_of(self.ngrams) == 0].sum())


def words_of(folded: str) -> list[str]:
    """Return words, numbers and single units of a folded text, in their order."""
    if folded.isascii():
        return folded.split()
    out: list[str] = []
    for run in folded.split():
        if run.isascii():
            out.append(run)
        else:
            out.extend(run)
    return out


def halves_of(folded: str) -> tuple[str, str]:
    """Divide a folded text in the middle, or at the next end of a word."""
    middle = len(folded) // 2
    while 0 < middle < len(folded) and not (
        " " in folded[middle - 1 : middle + 1] or not (folded[middle].isascii() or folded[middle - 1].isascii())
    ):
        middle += 1
    return folded[:middle].strip(), folded[middle:].strip()


def _shares(idf: Floats) -> Floats:
    total = idf.sum()
    return idf / total if total else idf
