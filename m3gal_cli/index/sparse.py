"""Sparse search: the POIs whose addresses share the rarest character n-grams with a query.

The score is a cosine of tf-idf vectors, in which the square root of its number of n-grams is the length of an address:

    score(q, d) = Σ idf(g)² / (√(Σ idf(h)²) · √|d| · idf₀),   g in q ∩ d,   h in q,   idf(g) = ln((1 + N) / (1 + n)) + 1

N is the number of live rows of the index, and n of them contain g. idf₀ is the idf of an n-gram that no row contains.
A score is in [0, 1]. It does not depend on how the rows are divided into segments.

A search first reads the postings of the rarest n-grams of the query, at most ``max_postings`` rows in all. The best
rows by these n-grams are then scored exactly, by all their n-grams. If no n-gram was left out, the result equals
sorting the scores of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.searcher import SearchResult, empty_result, group_by_filter, top_k
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import Ids, Lists, Terms

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]

# Among 1,000,000 addresses, the best 300 for a name are then exact. For a whole address, 97% of them are found
# (benchmarks/sparse.py).
MAX_POSTINGS = 1_000_000
MIN_RESCORED = 500  # rows that are scored exactly
SAMPLE_ROWS = 16_384  # rows by which the score of the best rows is estimated


class SparseRows(Protocol):
    """Rows that can be searched: a segment of an index, or a table in memory."""

    def __len__(self) -> int: ...

    @property
    def live(self) -> NDArray[np.bool_] | None:
        """Whether each row can be found, shape (N,); None: all can."""
        ...

    @property
    def terms(self) -> Terms:
        """The terms of the addresses."""
        ...

    @property
    def postings(self) -> Postings:
        """The postings of the n-grams of the addresses."""
        ...

    def rows_in(self, geo_filter: GeoFilter) -> Rows:
        """Return the live rows that pass a geographic filter, ascending."""
        ...


class SparseQuery(NamedTuple):
    """The distinct n-grams of a query, ascending. Shape: (G,) each."""

    ngrams: Ids
    counts: Rows  # number of live rows that contain each n-gram
    weights: Floats  # idf² / (√(Σ idf²) · idf₀)

    def rarest(self, max_postings: int) -> tuple[Ids, Float32s]:
        """Return the n-grams to read, rarest first, and their weights."""
        order = np.argsort(self.counts, kind="stable")
        order = order[self.counts[order] > 0]
        read = order[: max(1, int(np.searchsorted(np.cumsum(self.counts[order]), max_postings, side="right")))]
        return self.ngrams[read], self.weights[read].astype(np.float32)

    def sums(self, ngrams: Lists) -> Floats:
        """Return the sum of the weights of the n-grams that each of n rows has. Shape: -> (n,)."""
        rows, at = ngrams.find(self.ngrams)
        return np.bincount(rows, self.weights[at], len(ngrams)).astype(np.float64, copy=False)


class SparseSearcher:
    """Sparse search of an index, or of a table in memory.

    Args:
        parts: The segments, in the order of their rows.
        frequencies: Document frequencies of the live rows of all segments.
        max_postings: Largest number of rows that a query reads from postings; the rarest n-gram is always read.
        min_rescored: Smallest number of rows that are scored exactly; twice ``k`` if that is more.
    """

    def __init__(
        self,
        parts: Sequence[SparseRows],
        frequencies: NgramFrequencies,
        max_postings: int = MAX_POSTINGS,
        min_rescored: int = MIN_RESCORED,
    ) -> None:
        self.parts, self.frequencies = [_Part(part) for part in parts], frequencies
        self.max_postings, self.min_rescored = max_postings, min_rescored
        self.offsets: Rows = np.cumsum([0, *(len(part) for part in parts)])

    def search(self, texts: Sequence[str], k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Return the ``k`` best live rows of each query that share an n-gram with it and pass its filter.

        Equal scores are ordered by row number.

        Shape:
            Q texts, Q filters -> (Q, k).
        """
        result = empty_result(len(texts), k)
        for geo_filter, numbers in group_by_filter(len(texts), filters).items():
            allowed = [None if geo_filter is None else part.rows.rows_in(geo_filter) for part in self.parts]
            for number in numbers:
                query = self.query(texts[number])
                rows = self._candidates(query, allowed, max(self.min_rescored, 2 * k))
                scores = self.scores(query, rows)
                result.put(number, top_k(rows[scores > 0], scores[scores > 0], k))
        return result

    def query(self, text: str) -> SparseQuery:
        """Return the n-grams of a query with their weights."""
        ngrams = Terms.query(text)
        squares = self.frequencies.idf(ngrams) ** 2
        scale = np.sqrt(squares.sum()) * self.frequencies.largest_idf
        return SparseQuery(ngrams, self.frequencies.counts_of(ngrams), squares / scale if len(ngrams) else squares)

    def scores(self, query: SparseQuery, rows: Rows) -> Float32s:
        """Return the exact scores of some rows. Shape: (n,) -> (n,)."""
        out = np.zeros(len(rows), np.float32)
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        for number in np.unique(owner).tolist():
            own = owner == number
            ngrams = self.parts[number].rows.terms.ngrams.take(rows[own] - self.offsets[number])
            out[own] = _divided(query.sums(ngrams), ngrams.counts)
        return out

    def all_scores(self, query: SparseQuery) -> Float32s:
        """Return the exact scores of all rows, live or not. Shape: -> (N,)."""
        out = []
        for part in self.parts:
            # The weights are added by ascending n-gram as in ``scores``, so that both are bitwise equal.
            sums = np.zeros(len(part.rows))
            for rows, weight in zip(part.rows.postings.find(query.ngrams), query.weights.tolist(), strict=True):
                sums[rows] += weight
            out.append(_divided(sums, part.rows.terms.ngrams.counts))
        return np.concatenate([np.zeros(0, np.float32), *out])

    def _candidates(self, query: SparseQuery, allowed: Sequence[Rows | None], count: int) -> Rows:
        """Return about the ``count`` best rows by the rarest n-grams of a query, or fewer, ascending."""
        if (
            all(rows is not None for rows in allowed)
            and sum(len(rows) for rows in allowed if rows is not None) <= count
        ):
            parts = [
                rows + first for rows, first in zip(allowed, self.offsets.tolist(), strict=False) if rows is not None
            ]
            return np.concatenate([np.zeros(0, np.int64), *parts])
        ngrams, weights = query.rarest(self.max_postings)
        found, values = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        for part, own, first in zip(self.parts, allowed, self.offsets.tolist(), strict=False):
            partial = part.partial_scores(ngrams, weights)
            partial = partial if own is None else partial[own]
            best = best_positions(partial, count)
            found.append((best if own is None else own[best]) + first)
            values.append(partial[best])
        rows, partial = np.concatenate(found), np.concatenate(values)
        return rows if len(self.parts) == 1 else rows[best_positions(partial, count)]


class _Part:
    """A segment with the arrays that its search needs."""

    def __init__(self, rows: SparseRows) -> None:
        self.rows = rows

    @cached_property
    def factors(self) -> Float32s:
        """1 / √(number of n-grams) of each row; 0 for a row that is not live or has none. Shape: (N,)."""
        counts = self.rows.terms.ngrams.counts
        out = np.where(counts > 0, 1.0 / np.sqrt(np.maximum(counts, 1)), 0.0)
        if self.rows.live is not None:
            out[~self.rows.live] = 0.0
        return out.astype(np.float32)

    def partial_scores(self, ngrams: Ids, weights: Float32s) -> Float32s:
        """Return the scores of all rows by some n-grams; 0 for a row that is not live. Shape: (G,), (G,) -> (N,)."""
        sums = np.zeros(len(self.rows), np.float32)
        for rows, weight in zip(self.rows.postings.find(ngrams), weights, strict=True):
            sums[rows] += weight
        sums *= self.factors
        return sums


def best_positions(values: Float32s, count: int) -> Rows:
    """Return the positions of the ``count`` largest positive values, ascending; of equal values the first ones.

    Shape:
        (n,) -> (m,), m <= count.
    """
    step, found = len(values) // SAMPLE_ROWS, None
    if step > 1:  # a sample gives a threshold that few values exceed
        sample = np.sort(values[::step])
        threshold = sample[-min(len(sample), 4 * count // step + 8)]
        found = np.flatnonzero(values >= threshold) if threshold > 0 else None
    if found is None or len(found) < count:
        found = np.flatnonzero(values > 0)
    if len(found) <= count:
        return found
    chosen = values[found]
    least = np.partition(chosen, len(chosen) - count)[len(chosen) - count]
    above, equal = found[chosen > least], found[chosen == least]
    return np.sort(np.concatenate([above, equal[: count - len(above)]]))


def _divided(sums: Floats, counts: Rows) -> Float32s:
    """Divide sums of weights by the lengths of the addresses. Shape: (n,), (n,) -> (n,)."""
    return (sums / np.sqrt(np.maximum(counts, 1))).astype(np.float32)
