"""BM25 over character 1-2-grams: the baseline that needs no training, for any script."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

BM25_K1, BM25_B = 1.5, 0.75  # Robertson & Zaragoza 2009
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The runs of letters and digits of a text, NFKC and lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams_of(words: Iterable[str]) -> list[str]:
    """Character 1- and 2-grams of words; no 2-gram spans a gap."""
    grams: list[str] = []
    for word in words:
        grams += word
        grams += [word[i : i + 2] for i in range(len(word) - 1)]
    return grams


def character_ngrams(text: str) -> list[str]:
    """Character 1- and 2-grams of a text, letters and digits only, NFKC and lower case; no 2-gram spans a gap."""
    return grams_of(words_of(text))


class LexicalIndex:
    """BM25 scores (Robertson & Zaragoza 2009; k1 1.5, b 0.75) of a fixed list of texts, by the library bm25s."""

    def __init__(self, texts: Iterable[str]) -> None:
        import bm25s

        self._vocabulary: dict[str, int] = {}
        table = self._vocabulary
        # Arrays of 4 bytes a gram; lists would take 8, and more than the index itself.
        ids = [array("i", [table.setdefault(g, len(table)) for g in character_ngrams(t)]) for t in texts]
        self.size = len(ids)
        self._bm25 = bm25s.BM25(k1=BM25_K1, b=BM25_B)
        if table:  # texts of signs alone have none, and every score is 0
            self._bm25.index((ids, dict(table)), show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """Score of every text for one query. Shape: -> (N,)."""
        out = np.zeros(self.size, np.float32)
        table = self._vocabulary
        for gram in character_ngrams(query):
            number = table.get(gram)
            if number is not None:  # one gram's texts at a time, where the library would copy those of all grams
                stored = self._bm25.scores
                own = slice(int(stored["indptr"][number]), int(stored["indptr"][number + 1]))
                np.add.at(out, stored["indices"][own], stored["data"][own])
        return out
