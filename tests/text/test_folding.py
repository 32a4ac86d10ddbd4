"""Folded texts: one form of words, abbreviations and scripts."""

from __future__ import annotations

import pytest

from m3gal_cli.text.folding import fold, has_units, reading
from m3gal_cli.text.romanise import romanise


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Hesburger, Kasarmikatu 12A", "hesburger kasarmikatu 12a"),
        ("Töölönkatu 3", "toolonkatu 3"),
        ("Main Street", "main st"),
        ("Marks & Spencer's", "marks and spencers"),
        ("12-14", "12 14"),
        ("浙江省182號A座3幢", "浙江省 182 号 a 座 3 栋"),
        ("Ул. Ленина 5", "ul lenina 5"),
        ("王府井 Mall", "王府井 mall"),
        ("ガソリン", "ガソリン"),
        ("…", ""),
        ("", ""),
    ],
)
def test_a_text_has_its_folded_form(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert fold(folded) == folded


def test_units_are_letters_of_scripts_without_spaces() -> None:
    assert [has_units(text) for text in ("王府井", "abc 井", "ガソリン", "München", "Ленина", "")] == [1, 1, 1, 0, 0, 0]


def test_the_reading_of_a_folded_text_is_ascii() -> None:
    assert reading("王府井 mall") == "wangfujing mall"
    assert reading("plain 12") == "plain 12"
    assert romanise("Ångström, 5") == "angstrom, 5"
