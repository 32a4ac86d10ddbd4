"""Features of words against loops over all pairs of words."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.text.folding import fold, is_unit
from m3gal_cli.text.romanise import romanise
from tests.helpers.plain_terms import QUERIES, PlainTable, edit_distance, plain_words, value

TABLE = PlainTable()


def similarity(one: str, other: str) -> float:
    if is_unit(one[0]) or is_unit(other[0]):
        alike = is_unit(one[0]) and is_unit(other[0]) and romanise(one) == romanise(other)
        return 1.0 if one == other else 0.7 * alike
    found = 1 - edit_distance(one, other) / max(len(one), len(other))
    return found if found >= 0.55 else 0.0


def weight(word: str, of_candidates: list[str]) -> float:
    """The idf of a word of a query; of an unknown one that of the first of the most similar words of the candidates."""
    best = max(of_candidates, key=lambda other: similarity(word, other))
    is_known = TABLE.count(word if is_unit(word[0]) else f"word {word}") > 0
    return TABLE.word_idf(word if is_known or not similarity(word, best) else best)


@pytest.mark.parametrize("text", QUERIES)
def test_words_are_compared_in_pairs(text: str) -> None:
    query = list(dict.fromkeys(plain_words(fold(text))))
    names = [plain_words(row.name) for row in TABLE.rows]
    addresses = [own + plain_words(row.others) for own, row in zip(names, TABLE.rows, strict=True)]
    of_candidates = [word for words in addresses for word in words]
    weights = {word: weight(word, of_candidates) for word in query}

    def coverage(words: list[str]) -> float:
        best = {w: max((similarity(w, v) ** 2 for v in words), default=0.0) for w in query}
        return sum(weights[w] * best[w] for w in query) / max(sum(weights.values()), 1e-9)

    def of_name(words: list[str]) -> float:
        best = [max((similarity(w, v) ** 2 for w in query), default=0.0) * TABLE.word_idf(v) for v in words]
        return sum(best) / max(sum(map(TABLE.word_idf, words)), 1e-9)

    np.testing.assert_allclose(value("word_coverage", text), list(map(coverage, addresses)), atol=1e-6)
    np.testing.assert_allclose(value("words_in_name", text), list(map(coverage, names)), atol=1e-6)
    np.testing.assert_allclose(value("name_word_coverage", text), list(map(of_name, names)), atol=1e-6)


def test_typing_errors_and_letters_with_the_same_reading_count_less() -> None:
    exact, swapped, other = (
        value("words_in_name", text, ["Pharmacy", "Library"])[0] for text in ("pharmacy", "phramacy", "x")
    )
    assert (exact, swapped, other) == pytest.approx((1.0, (7 / 8) ** 2, 0.0))
    assert value("words_in_name", "方", ["房", "方", "门", "fang"]) == pytest.approx([0.49, 1.0, 0.0, 0.0])
