"""BM25 against the formula."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from quality.bm25 import Bm25Index

from tests.helpers.ngrams import character_ngrams

POIS = ["North gate, Harbour Mall", "harbour street 3", "莫干山路东村43幢", "Castle Hill library", "北门 停车场"]
POIS += ["...", "北门", "harbour harbour harbour", "北门"]


def bm25(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """sum over the query's n-grams of idf * tf / (tf + k1 (1 - b + b length / mean length))."""
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
    "query", ["HARBOUR mall", "北门", "东村 43", "harbour harbour", "a", "zebra 北", "librarry 3", "q☃"]
)
def test_scores_are_those_of_the_formula(query: str) -> None:
    scores = Bm25Index(POIS).scores(query)
    assert scores.shape == (len(POIS),)
    assert scores.tolist() == pytest.approx(bm25(POIS, query), abs=1e-5)
    assert scores[6] == scores[8], "equal texts have equal scores, to the bit"


def test_texts_without_a_common_ngram_score_0() -> None:
    for texts, query in ((POIS, "☃"), (POIS, "ф"), (["-", "..."], "harbour"), (["-"], ""), ([], "a")):
        assert Bm25Index(texts).scores(query).tolist() == [0.0] * len(texts)
