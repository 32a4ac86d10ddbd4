"""BM25 over character 1-2-grams: the baseline that needs no training, for any script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")


def character_ngrams(text: str) -> list[str]:
    """Character 1- and 2-grams of a text, letters and digits only, NFKC and lower case; no 2-gram spans a gap."""
    grams: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        grams += word
        grams += [word[i : i + 2] for i in range(len(word) - 1)]
    return grams


class LexicalIndex:
    """BM25 scores (Robertson & Zaragoza 2009; k1 1.5, b 0.75) of a fixed list of texts, by the library bm25s."""

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self.size = len(texts)
        self._vocabulary: dict[str, int] = {}
        ids = [self._ids(t, grow=True) for t in texts]
        self._bm25 = bm25s.BM25(k1=1.5, b=0.75)
        if self._vocabulary:  # texts of signs alone have none, and every score is 0
            self._bm25.index((ids, dict(self._vocabulary)), show_progress=False)

    def scores(self, query: str) -> NDArray[np.float32]:
        """Score of every text for one query. Shape: -> (N,)."""
        ids = self._ids(query, grow=False)
        if not ids:
            return np.zeros(self.size, np.float32)
        out: NDArray[np.float32] = self._bm25.get_scores(ids)
        return out

    def _ids(self, text: str, grow: bool) -> list[int]:
        table = self._vocabulary
        if grow:
            return [table.setdefault(g, len(table)) for g in character_ngrams(text)]
        return [table[g] for g in character_ngrams(text) if g in table]
