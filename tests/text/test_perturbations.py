"""Perturbations of queries: distances by a plain edit distance, seeds, and texts of many scripts."""

from __future__ import annotations

import random
import re

import pytest

from m3gal_cli.text import perturbations as p
from m3gal_cli.text.romanise import romanise

TEXTS = [
    "Hotel Kämp, Pohjoisesplanadi 29",
    "莫干山路东村43幢",
    "Москва улица Ленина 5",
    "서울 시청",
    "R-kioski",
    "الرياض",
]
TEXTS += ["Şişli  Meydanı", "東京タワー", "aaaa", "Öö Ä", "a1b2c3", "Straße 7"]


def distance(one: str, other: str) -> int:
    """Return the number of insertions, deletions, replacements and swaps of neighbours (optimal string alignment)."""
    table = [[max(i, j) if min(i, j) == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            best = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (one[i - 1] != other[j - 1]))
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                best = min(best, table[i - 2][j - 2] + 1)
            table[i][j] = best
    return table[-1][-1]


def results(change: object, text: str, count: int = 300) -> set[str]:
    return {change(text, random.Random(seed)) for seed in range(count)}  # type: ignore[operator]


@pytest.mark.parametrize("text", TEXTS)
def test_edits_have_their_distance_and_keep_digits_and_spaces(text: str) -> None:
    assert {distance(text, made) for made in results(p.one_edit, text)} == {1}
    two = sorted(results(p.two_edits, text))
    distances = [distance(text, made) for made in two]
    if sum(c.isalpha() for c in text) <= 3:
        assert distances == [0]
    else:  # two errors at one letter may be one error, and this distance counts a letter between two swapped ones as 3
        assert set(distances) <= {1, 2, 3}
        assert distances.count(2) > len(distances) / 2
    for made in (*results(p.one_edit, text), *two):
        assert re.sub(r"[^\d\s]", "", made) == re.sub(r"[^\d\s]", "", text)


def test_all_kinds_of_typing_error_occur() -> None:
    made = results(p.one_edit, "abc", 1000)
    dropped, swapped = {"bc", "ac", "ab"}, {"bac", "acb"}
    replaced = {"sbc", "avc", "anc", "abx", "abv"}
    inserted = {"aabc", "asbc", "abbc", "abvc", "abnc", "abcc", "abcx", "abcv"}
    assert made == dropped | swapped | replaced | inserted
    assert "SBC" in results(p.one_edit, "ABC", 1000), "a neighbour has the case of the letter"
    assert p.similar_letters("ä") == "s", "the key of the base letter"


def test_chinese_characters_are_dropped_or_replaced_by_one_of_the_same_sound() -> None:
    text = "文三路"
    made = results(p.one_edit, text, 2000)
    assert {"三路", "文路", "文三"} <= made
    for other in made - {"三路", "文路", "文三"}:
        assert romanise(other) == romanise(text)
        assert sum(a != b for a, b in zip(other, text, strict=True)) == 1
    assert "闻三路" in made
    assert sum(len(p.similar_letters(letter)) > 0 for letter in "莫干山东村幢北京市海淀区") == 12
    assert p.similar_letters("嗯") == "", "a rare character without common homophones can only be dropped"
    assert results(p.one_edit, "嗯嗯嗯") == {"嗯嗯"}


@pytest.mark.parametrize("text", ["", "ab", "12345", "3号楼", "4 A-2"])
def test_texts_of_few_letters_have_no_typing_error(text: str) -> None:
    assert results(p.one_edit, text, 20) == results(p.two_edits, text, 20) == {text}


def test_two_edits_never_give_the_text_itself() -> None:
    for text in ("abab", "aaaa", "嗯嗯嗯嗯"):
        assert text not in results(p.two_edits, text, 2000)


@pytest.mark.parametrize(
    ("change", "text", "expected"),
    [
        (p.prefix, "Kasarmikatu", "Kasarmi"),  # 0.6 * 11 = 6.6
        (p.prefix, "ab cd", "ab"),
        (p.prefix, "a", "a"),
        (p.prefix, " b", " b"),
        (p.no_spaces, "Star  Square\u3000广场", "StarSquare广场"),
        (p.no_diacritics, "Käpylä Straße Ærø й 北京 가", "Kapyla Straße Ærø и 北京 가"),
        (p.transliterate, "Kämp", "kamp"),
        (p.transliterate, "王府井", "wangfujing"),
        (p.transliterate, "Москва", "moskva"),
        (p.transliterate, "R-Kioski 2", "R-Kioski 2"),  # nothing but the case would change
    ],
)
def test_other_spellings(change: object, text: str, expected: str) -> None:
    assert change(text) == expected  # type: ignore[operator]


def test_two_different_words_are_exchanged_and_white_space_stays() -> None:
    assert results(p.swap_words, "a  b a") == {"b  a a", "a  a b"}
    assert results(p.swap_words, "bar bar") == {"bar bar"}
    assert results(p.swap_words, "东村") == {"东村"}


@pytest.mark.parametrize("kind", p.PERTURBATIONS)
def test_a_perturbation_depends_on_text_kind_and_seed_only(kind: str) -> None:
    texts = [p.perturb(text, kind, 7) for text in TEXTS]
    random.seed(1)
    assert [p.perturb(text, kind, 7) for text in reversed(TEXTS)] == texts[::-1]
    seeds = {p.perturb("Hotel Kämp Helsinki", kind, seed) for seed in range(20)}
    assert (len(seeds) > 1) is (kind in ("one edit", "two edits", "swapped words"))
    assert all(texts)
