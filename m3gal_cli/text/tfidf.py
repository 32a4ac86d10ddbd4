"""Texts nearest to others by tf-idf cosine over character 1-2-grams; sparse, so that millions of texts fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

COMMON_SHARE, COMMON_LEAST, COMMON_MOST = 0.02, 1000, 5000
_BITS = 22  # grams are hashed into 2**22 columns: a city has some 100,000 of them
_PIECE = 20_000  # texts turned into grams at once
_BLOCK = 64  # queries scored at once
_SPACE = re.compile(r"\s+")


class LexicalIndex:
    """An index of texts.

    The weight of a gram is its count times ln((1 + N) / (1 + rows with it)) + 1. A gram in more rows than
    ``common_rows(N)`` says nothing and has none: it would touch a large part of the table for every query.

    Args:
        texts: N texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        pieces = [_grams(texts[i : i + _PIECE]) for i in range(0, len(texts), _PIECE)]
        found = np.zeros(1 << _BITS, np.int64)
        for piece in pieces:
            found += np.bincount(piece.indices, minlength=len(found))
        idf = np.log((1.0 + len(texts)) / (1.0 + found)) + 1.0
        idf[found > common_rows(len(texts))] = 0.0
        self._idf = idf.astype(np.float32)
        for i, piece in enumerate(pieces):  # one by one, so that what common grams took is given back at once
            pieces[i] = _unit(piece, self._idf)
        rows = vstack(pieces, format="csr")
        pieces.clear()
        self._by_gram = rows.T.tocsr()

    def nearest(self, queries: Sequence[str], k: int) -> list[NDArray[np.int64]]:
        """For each query up to ``k`` row numbers, nearest first, ties by number; only rows that share grams with it."""
        out: list[NDArray[np.int64]] = []
        for start in range(0, len(queries), _BLOCK):
            scores = (_unit(_grams(queries[start : start + _BLOCK]), self._idf) @ self._by_gram).tocsr()
            for one, two in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
                values, rows = scores.data[one:two], scores.indices[one:two].astype(np.int64)
                if len(values) > k:
                    edge = np.partition(values, len(values) - k)[len(values) - k]
                    near = np.flatnonzero(values >= edge)  # all that tie with the last one, so that numbers decide
                    values, rows = values[near], rows[near]
                out.append(rows[np.lexsort((rows, -values))][:k])
        return out


def common_rows(n: int) -> int:
    """In how many of ``n`` rows a gram may be found and still count."""
    return int(max(COMMON_LEAST, min(COMMON_SHARE * n, COMMON_MOST)))


def _grams(texts: Sequence[str]) -> csr_matrix:
    """Counts of character 1-2-grams, a row a text."""
    plain = [_SPACE.sub(" ", text.casefold()) for text in texts]
    letters = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    row = np.repeat(np.arange(len(plain)), [len(text) for text in plain])
    pairs = np.flatnonzero(row[1:] == row[:-1])
    grams = np.concatenate([letters, (letters[pairs] << np.uint64(21)) | letters[pairs + 1]])
    columns = (grams * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)  # Fibonacci hashing
    rows = np.concatenate([row, row[pairs]])
    ones = np.ones(len(columns), np.float32)
    counts = csr_matrix((ones, (rows, columns.astype(np.int64))), shape=(len(plain), 1 << _BITS))
    counts.sum_duplicates()
    return counts


def _unit(counts: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """The rows weighted and of length 1, without what weighs nothing."""
    weights = counts.data * idf[counts.indices]
    row = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    norms = np.sqrt(np.bincount(row, weights.astype(np.float64) ** 2, minlength=counts.shape[0]))
    kept = weights > 0.0
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=counts.shape[0]))])
    data = (weights[kept] / norms[row[kept]]).astype(np.float32)
    return csr_matrix((data, counts.indices[kept], ends.astype(counts.indptr.dtype)), shape=counts.shape)
