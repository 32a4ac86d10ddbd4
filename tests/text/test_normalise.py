"""Normal forms of texts."""

from __future__ import annotations

import pytest

from m3gal_cli.text.normalise import collapse_spaces, has_han, normalise, reading_key, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café-Bar, 2nd", "café bar 2ND"),
        ("ＡＢＣ１２３（东门）", "abc123东门"),
        ("翠苑(东门)", "翠苑 东门"),
        ("Straße_5", "STRASSE 5"),
        ("Cafe\u0301", "Café"),  # combining and precomposed accent
        ("①号线", "1号线"),
    ],
)
def test_texts_that_differ_in_punctuation_width_and_case_have_one_key(one: str, other: str) -> None:
    assert reading_key(one) == reading_key(other)


@pytest.mark.parametrize(("one", "other"), [("Café", "Cafe"), ("3号楼", "三号楼"), ("5 A", "5 B"), ("苑", "園")])
def test_texts_that_differ_in_letters_have_different_keys(one: str, other: str) -> None:
    assert reading_key(one) != reading_key(other)


def test_a_key_is_letters_and_digits_and_its_own_key() -> None:
    assert reading_key("A, b (3): 东-门!") == "ab3东门"
    assert reading_key("·—()") == ""
    for text in ("ＡＢＣ１２３（东门）", "Straße", "İstanbul", "ﬁsh & chips", "Ⅻ号"):
        assert reading_key(reading_key(text)) == reading_key(text)


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words("Ｃafé_Bar, 3号（东门）  x") == ["café", "bar", "3号", "东门", "x"]
    assert normalise("Ｃafé_Bar, 3号（东门）  x") == "café bar 3号 东门 x"
    assert normalise("-- ") == ""
    assert collapse_spaces("A,  b\t\nStraße ") == "a, b strasse "


def test_has_han_finds_chinese_characters() -> None:
    assert [has_han(text) for text in ("KFC 肯德基", "㐀")] == [True, True]
    assert [has_han(text) for text in ("Helsinki", "カフェ", "１２", "")] == [False] * 4
