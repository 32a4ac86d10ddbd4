"""Coded n-grams against the n-grams of each text written out."""

from __future__ import annotations

import random
from collections import Counter

from m3gal_cli.text.ngrams import Ngrams
from m3gal_cli.text.normalise import normalise
from tests.helpers.ngrams import character_ngrams, code_of

RNG = random.Random(1)
TEXTS = ["".join(RNG.choices("甲乙𠮷ab1 ", k=RNG.randint(0, 15))) for _ in range(100)]
NGRAMS = Ngrams.of([normalise(text) for text in TEXTS])


def pairs_of(ngrams: Ngrams) -> Counter[tuple[int, int]]:
    return Counter(zip(ngrams.rows.tolist(), ngrams.codes.tolist(), strict=True))


def test_ngrams_by_hand() -> None:
    assert character_ngrams("北门3号") == ["北", "门", "3", "号", "北门", "门3", "3号"]
    assert character_ngrams("ＡＢ①") == character_ngrams("ab1"), "NFKC"
    assert character_ngrams("a_b-c") == ["a", "b", "c"]


def test_every_ngram_is_counted_in_its_text() -> None:
    assert pairs_of(NGRAMS) == Counter(
        (row, code_of(g)) for row, text in enumerate(TEXTS) for g in character_ngrams(text)
    )
    assert NGRAMS.size == 100
    assert Ngrams.of([]).codes.tolist() == []


def test_ngrams_with_spaces_are_those_of_the_text_as_it_stands() -> None:
    expected: Counter[tuple[int, int]] = Counter()
    for row, text in enumerate(TEXTS):
        expected.update((row, code_of(g)) for g in [*text, *(text[i : i + 2] for i in range(len(text) - 1))])
    assert pairs_of(Ngrams.of(TEXTS, with_spaces=True)) == expected


def test_distinct_and_without_are_set_operations_per_text() -> None:
    own = {(row, code_of(g)) for row, text in enumerate(TEXTS) for g in character_ngrams(text)}
    removed = {(row, code_of(g)) for row, text in enumerate(TEXTS) for g in character_ngrams(text[:4])}
    assert list(pairs_of(NGRAMS.distinct()).elements()) == sorted(own)
    others = Ngrams.of([normalise(text[:4]) for text in TEXTS])
    assert list(pairs_of(NGRAMS.without(others)).elements()) == sorted(own - removed)
    assert list(pairs_of(NGRAMS.without(Ngrams.of([""] * 100))).elements()) == sorted(own)
