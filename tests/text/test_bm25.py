"""BM25 against the formula written out."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from m3gal_cli.text.bm25 import LexicalIndex, character_ngrams

POIS = [
    "North gate, Harbour Mall",
    "harbour street 3",
    "莫干山路东村43幢",
    "Castle Hill library",
    "北门 停车场",
    "...",
    "北门",
]
POIS += ["harbour harbour harbour", "北门"]


def test_grams_by_hand() -> None:
    assert character_ngrams("Ab, c") == ["a", "b", "ab", "c"]
    assert character_ngrams("北门3号") == ["北", "门", "3", "号", "北门", "门3", "3号"]
    assert character_ngrams("ＡＢ①") == character_ngrams("ab1"), "NFKC"
    assert character_ngrams("a_b-c") == ["a", "b", "c"]
    assert character_ngrams(" ,;☃ ") == []


def bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """sum over the query's grams of idf * tf / (tf + k1 (1 - b + b length / mean length))."""
    rows = [Counter(character_ngrams(t)) for t in texts]
    lengths = [sum(row.values()) for row in rows]
    mean = sum(lengths) / len(lengths)
    scores = []
    for row, length in zip(rows, lengths, strict=True):
        score = 0.0
        for gram in character_ngrams(query):
            df = sum(gram in r for r in rows)
            idf = math.log(1 + (len(rows) - df + 0.5) / (df + 0.5))
            score += idf * row[gram] / (row[gram] + k1 * (1 - b + b * length / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize(
    "query", ["harbour", "HARBOUR mall", "北门", "东村 43", "harbour harbour", "a", "zebra 北", "librarry 3", "q☃"]
)
def test_scores_against_the_formula(query: str) -> None:
    found = LexicalIndex(POIS).scores(query)
    assert found.shape == (len(POIS),)
    assert found.tolist() == pytest.approx(bm25(POIS, query), abs=1e-5)
    assert found[6] == found[8], "texts that read the same score the same, to the bit"


def test_what_shares_no_gram_scores_nothing() -> None:
    for texts, query in ((POIS, "☃"), (POIS, "ф"), (["-", "..."], "harbour"), (["-"], "")):
        assert LexicalIndex(texts).scores(query).tolist() == [0.0] * len(texts)
