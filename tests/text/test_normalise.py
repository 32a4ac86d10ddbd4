"""How texts read: what differs only in marks, width and case is one reading."""

from __future__ import annotations

import pytest

from m3gal_cli.text.normalise import has_han, reads


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café-Bar, 2nd", "café bar 2ND"),
        ("ＡＢＣ１２３（东门）", "abc123东门"),
        ("翠苑(东门)", "翠苑 东门"),
        ("Mannerheimintie_5", "MANNERHEIMINTIE 5"),
        ("Straße", "STRASSE"),
        ("Cafe\u0301", "Café"),  # an accent of its own, and one of the letter
        ("①号线", "1号线"),
        (" \t", "--"),
    ],
)
def test_what_reads_the_same(one: str, other: str) -> None:
    assert reads(one) == reads(other)


@pytest.mark.parametrize(("one", "other"), [("Café", "Cafe"), ("3号楼", "三号楼"), ("5 A", "5 B"), ("苑", "園")])
def test_what_does_not(one: str, other: str) -> None:
    assert reads(one) != reads(other)


def test_a_reading_is_letters_and_digits_and_reads_as_itself() -> None:
    assert reads("A, b (3): 东-门!") == "ab3东门"
    assert reads("·—()") == ""
    for text in ("ＡＢＣ１２３（东门）", "Straße", "İstanbul", "ﬁsh & chips", "Ⅻ号"):
        assert reads(reads(text)) == reads(text)


@pytest.mark.parametrize(
    ("text", "han"),
    [
        ("东", True),
        ("KFC 肯德基", True),
        ("㐀", True),
        ("Helsinki", False),
        ("カフェ", False),
        ("１２", False),
        ("", False),
    ],
)
def test_whether_a_text_holds_a_chinese_character(text: str, han: bool) -> None:
    assert has_han(text) is han
