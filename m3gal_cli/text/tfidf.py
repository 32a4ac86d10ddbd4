"""Nearest texts by tf-idf cosine over character 1-2-grams, as sparse matrices that hold millions of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from m3gal_cli.text.ngrams import Ngrams
from m3gal_cli.text.normalise import collapse_spaces

COMMON_SHARE, COMMON_MIN_ROWS, COMMON_MAX_ROWS = 0.02, 1000, 5000
_HASH_BITS = 22  # n-grams are hashed into 2**22 columns; a city has about 100,000 distinct ones
_BATCH = 20_000  # texts
_QUERY_BATCH = 64


class TfidfIndex:
    """An index of N texts.

    The weight of an n-gram in n texts is its count times ln((1 + N) / (1 + n)) + 1. N-grams that contain a space are
    included. An n-gram in more than ``common_rows(N)`` texts weighs 0: it hardly distinguishes texts, and such n-grams
    take most of the search time.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        batches = [_counts(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)]
        rows_with = np.zeros(1 << _HASH_BITS, np.int64)
        for batch in batches:
            rows_with += np.bincount(batch.indices, minlength=len(rows_with))
        idf = np.log((1.0 + len(texts)) / (1.0 + rows_with)) + 1.0
        idf[rows_with > common_rows(len(texts))] = 0.0
        self._idf = idf.astype(np.float32)
        for i, batch in enumerate(batches):  # one at a time, to free the memory of common n-grams early
            batches[i] = _unit_rows(batch, self._idf)
        rows = vstack(batches, format="csr")
        batches.clear()
        self._by_ngram = rows.T.tocsr()

    def nearest(self, queries: Sequence[str], k: int) -> list[NDArray[np.int64]]:
        """Return up to ``k`` rows that share n-grams with each query, nearest first, ties by row."""
        out: list[NDArray[np.int64]] = []
        for start in range(0, len(queries), _QUERY_BATCH):
            scores = (_unit_rows(_counts(queries[start : start + _QUERY_BATCH]), self._idf) @ self._by_ngram).tocsr()
            for begin, end in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
                values, rows = scores.data[begin:end], scores.indices[begin:end].astype(np.int64)
                if len(values) > k:
                    threshold = np.partition(values, len(values) - k)[len(values) - k]
                    near = np.flatnonzero(values >= threshold)  # keeps all ties with the k-th, to be cut by row
                    values, rows = values[near], rows[near]
                out.append(rows[np.lexsort((rows, -values))][:k])
        return out


def common_rows(n: int) -> int:
    """Return the number of texts, of ``n``, up to which an n-gram has a weight."""
    return int(max(COMMON_MIN_ROWS, min(COMMON_SHARE * n, COMMON_MAX_ROWS)))


def _counts(texts: Sequence[str]) -> csr_matrix:
    """Return the counts of n-grams, one row a text."""
    ngrams = Ngrams.of([collapse_spaces(text) for text in texts], with_spaces=True)
    columns = (ngrams.codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _HASH_BITS)  # Fibonacci hashing
    ones = np.ones(len(columns), np.float32)
    counts = csr_matrix((ones, (ngrams.rows, columns.astype(np.int64))), shape=(len(texts), 1 << _HASH_BITS))
    counts.sum_duplicates()
    return counts


def _unit_rows(counts: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """Return the rows weighted by idf and scaled to length 1, without entries of weight 0."""
    weights = counts.data * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(row, weights.astype(np.float64) ** 2, minlength=counts.shape[0]))
    kept = weights > 0.0
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=counts.shape[0]))])
    data = (weights[kept] / norms[row[kept]]).astype(np.float32)
    return csr_matrix((data, counts.indices[kept], ends.astype(counts.indptr.dtype)), shape=counts.shape)
