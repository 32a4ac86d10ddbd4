"""Tf-idf neighbours against brute force."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from m3gal_cli.text.tfidf import COMMON_MIN_ROWS, TfidfIndex, common_rows


def cosines(texts: list[str], query: str) -> np.ndarray:
    """Tf-idf cosine over character 1-2-grams, written out."""

    def grams(text: str) -> Counter[str]:
        return Counter(text) + Counter(text[i : i + 2] for i in range(len(text) - 1))

    rows = [grams(t) for t in texts]
    counts = Counter(g for r in rows for g in r)
    idf = {
        g: math.log((1 + len(rows)) / (1 + n)) + 1 if n <= common_rows(len(rows)) else 0.0 for g, n in counts.items()
    }
    own = {g: n * idf[g] for g, n in grams(query).items() if g in idf}

    def cosine(row: Counter[str]) -> float:
        weights = {g: n * idf[g] for g, n in row.items()}
        dot = sum(w * own.get(g, 0.0) for g, w in weights.items())
        length = math.sqrt(sum(w * w for w in weights.values()) * sum(w * w for w in own.values()))
        return dot / length if length else 0.0

    return np.array([cosine(r) for r in rows])


def test_neighbours_are_those_of_brute_force() -> None:
    words = ["harbour", "station", "market", "library"]
    texts = [f"{words[i % 4]} {i // 8}, street {i % 13}, district {i % 3}" for i in range(60)]
    queries = ["market 3 street 5", "libary 2", "district 1 zoo"]
    for query, rows in zip(queries, TfidfIndex(texts).nearest(queries, 10), strict=True):
        scores = cosines(texts, query)
        assert scores[rows] == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)


def test_common_ngrams_have_no_weight() -> None:
    rng = np.random.default_rng(3)
    texts = [f"路{rng.integers(0, 400)}号{'东' if i % 3 else '西'}{rng.integers(0, 9)}" for i in range(1500)]
    assert sum("路" in t for t in texts) > COMMON_MIN_ROWS == common_rows(1500)
    assert [common_rows(n) for n in (10, 60_000, 3_000_000)] == [1000, 1200, 5000]
    queries = ["路17号东3", "399号西", "路", "nothing here"]
    found = TfidfIndex(texts).nearest(queries, 12)
    for query, rows in zip(queries[:2], found[:2], strict=True):
        scores = cosines(texts, query)
        assert scores[rows] == pytest.approx(np.sort(scores)[::-1][:12], abs=1e-5)
    assert [len(rows) for rows in found[2:]] == [0, 0]


def test_ties_are_ordered_by_row_and_spaces_count_once() -> None:
    assert TfidfIndex(["a b", "x", "a  b", "A\tb"]).nearest(["a b"], 2)[0].tolist() == [0, 2]
