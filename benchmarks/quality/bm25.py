"""BM25 over character 1-2-grams: the baseline that needs no training, for any script."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.ngrams import Ngrams
from m3gal_cli.text.normalise import normalised_batches, words

BM25_K1, BM25_B = 1.5, 0.75


class Bm25Index:
    """BM25 scores (Robertson & Zaragoza 2009; k1 1.5, b 0.75) of a fixed list of texts, by the library bm25s."""

    def __init__(self, texts: Iterable[str]) -> None:
        import bm25s

        self._columns: dict[int, int] = {}  # n-gram -> column
        ids: list[NDArray[np.int32]] = []  # arrays: Python lists would be larger than the index itself
        for batch in normalised_batches(texts):
            ids += self._encode(Ngrams.of(batch))
        self.size = len(ids)
        self._bm25 = bm25s.BM25(k1=BM25_K1, b=BM25_B)
        if self._columns:  # bm25s refuses an empty vocabulary; every score is 0 then
            self._bm25.index((ids, dict(self._columns)), show_progress=False)

    def _encode(self, ngrams: Ngrams) -> list[NDArray[np.int32]]:
        """Return the columns of the n-grams of each text; new n-grams get new columns."""
        known = self._columns
        distinct, inverse = np.unique(ngrams.codes, return_inverse=True)
        columns = np.array([known.setdefault(code, len(known)) for code in distinct.tolist()], np.int32)[inverse]
        order = np.argsort(ngrams.rows, kind="stable")
        ends = np.cumsum(np.bincount(ngrams.rows, minlength=ngrams.size))
        return np.split(columns[order], ends[:-1])

    def scores(self, query: str) -> NDArray[np.float32]:
        """Return the score of every text for one query. Shape: -> (N,)."""
        out = np.zeros(self.size, np.float32)
        for word in words(query):  # word by word, which fixes the order of the float32 sums
            for code in Ngrams.of([word]).codes.tolist():
                column = self._columns.get(code)
                if column is not None:  # read the postings directly: bm25s copies those of all n-grams at once
                    postings = self._bm25.scores
                    span = slice(int(postings["indptr"][column]), int(postings["indptr"][column + 1]))
                    np.add.at(out, postings["indices"][span], postings["data"][span])
        return out
