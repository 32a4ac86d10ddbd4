"""Typed-query noise: every slip by itself, and what it must never do."""

from __future__ import annotations

import random

import pytest

from m3gal_cli.osm import noise
from m3gal_cli.osm.locales import load_locale
from m3gal_cli.osm.views import Piece, View

ZH, EN = load_locale("zh"), load_locale("en")


def view(*pieces: tuple[str, str, bool], join: str = "", swap: bool = False) -> View:
    return View.of("test", [Piece(f, t, t, o) for f, t, o in pieces], join, swap=swap)


def test_no_strength_no_noise() -> None:
    told = view(("street", "文三路", True), ("name", "(老)康乐新村2号楼", False))
    assert noise.typed(told, ZH, random.Random(1), strength=0.0) == told.text


def test_equal_seeds_give_equal_texts_and_different_ones_differ() -> None:
    told = view(("street", "Main Street", True), ("name", "Blue Cat Café (East)", False), join=" ", swap=True)
    texts = [noise.typed(told, EN, random.Random(seed), strength=1.0) for seed in range(40)]
    assert texts == [noise.typed(told, EN, random.Random(seed), strength=1.0) for seed in range(40)]
    assert len(set(texts)) > 10


def test_only_optional_parts_are_dropped_and_only_of_a_name_of_its_own() -> None:
    told = view(("street", "文三路", True), ("name", "康乐新村", False))
    sure = {noise.typed(told, ZH, random.Random(s), strength=1.0) for s in range(60)}
    assert any("文三路" not in text for text in sure)
    assert all("村" in text or "小区" in text for text in sure if len(text) >= 7)
    unsure = {noise.typed(told, ZH, random.Random(s), strength=1.0, sure=False) for s in range(60)}
    assert all(len(text) >= 6 for text in unsure)  # 7 letters, at most one slipped


def test_parts_swap_only_where_the_template_says_so() -> None:
    parts = [("name", "Alpha", False), ("street", "Beta", False)]
    fixed = {noise.typed(view(*parts, join=" "), EN, random.Random(s), strength=0.6).lower() for s in range(60)}
    free = {
        noise.typed(view(*parts, join=" ", swap=True), EN, random.Random(s), strength=0.6).lower() for s in range(60)
    }
    assert "beta alpha" in free
    assert "alpha beta" in free
    assert "beta alpha" not in fixed


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("紫荆5号楼", {"紫荆5幢", "紫荆5栋", "紫荆5座"}),
        ("紫荆公寓5幢", {"紫荆公寓楼5幢", "紫荆公寓5号楼", "紫荆公寓5栋", "紫荆公寓5座"}),
        ("西溪银座", {"西溪银座"}),  # 座 follows no number: it is no building number
        ("地下停车场", {"地下停车库", "地下停车点", "地下停车处"}),
        ("康乐(南门)", {"康乐南门", "康乐南大门"}),
    ],
)
def test_chinese_variants(text: str, others: set[str]) -> None:
    assert {noise.vary(text, ZH, random.Random(s)) for s in range(40)} == others


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("Main Street", {"Main St"}),
        ("Stockmann", {"Stockmann"}),  # "St" is no word of its own here
        ("Bahnhofstrasse 5", {"Bahnhofstr. 5", "Bahnhofstraße 5"}),
        ("Aleksanterinkatu", {"Aleksanterink."}),
    ],
)
def test_alphabetic_variants_respect_words(text: str, others: set[str]) -> None:
    assert {noise.vary(text, EN, random.Random(s)) for s in range(40)} == others


def test_punctuation_brackets_accents_numerals() -> None:
    assert noise.drop_brackets("中国银行(文三路支行)") == "中国银行文三路支行"
    assert noise.drop_punctuation("Name, Street 12-14", " ").split() == ["Name", "Street", "12-14"]
    assert noise.plain_letters("Käpylä Straße 北京") == "Kapyla Straße 北京"
    assert noise.chinese_numerals("3号楼12单元", ZH.numerals) == "三号楼12单元"


def test_a_slip_changes_one_place_and_no_digit() -> None:
    for seed in range(100):
        text = noise.slip("Mannerheimintie 12 B 345", random.Random(seed))
        assert [c for c in text if c.isdigit()] == list("12345")
        assert abs(len(text) - len("Mannerheimintie 12 B 345")) <= 1


def test_dropped_affixes() -> None:
    rng = random.Random(0)
    assert noise.drop_affix("杭州新塘驾驶培训有限公司", ZH, rng) == "杭州新塘驾驶培训"
    assert noise.drop_affix("超级市场", ZH, rng) == "超级市场"
    assert noise.drop_affix("杭州市西湖区政府", ZH, rng) == "西湖区政府"


def test_long_names_lose_letters_but_no_digit_and_no_end() -> None:
    name = "杭州市3区实验小学12号"
    made = {noise.shorten(name, random.Random(s)) for s in range(200)}
    assert len(made) > 50
    for text in made:
        assert text[0] == "杭"
        assert text[-2:] == "2号"
        assert [c for c in text if c.isdigit()] == ["3", "1", "2"]
        letters = iter(name)
        assert all(c in letters for c in text)  # what is left stands in its order
        assert len(name) - len(name) // 3 <= len(text) < len(name)


def test_words_in_ascii_keep_their_letters() -> None:
    assert {noise.shorten("Hua Hai Electronic Company", random.Random(s)) for s in range(50)} == {
        "Hua Hai Electronic Company"
    }
    mixed = {noise.shorten("INNO未来城创业大厦A座", random.Random(s)) for s in range(200)}
    assert len(mixed) > 5
    assert all(text.startswith("INNO") and text.endswith("A座") for text in mixed)


def test_a_slip_stays_within_one_part() -> None:
    told = view(("street", "文三文三文三", False), ("name", "乐新乐新乐新", False))
    for seed in range(300):
        text = noise.typed(told, ZH, random.Random(seed), strength=1.0, sure=False)
        cut = len(text.rstrip("乐新"))
        assert set(text[:cut]) <= set("文三"), text
        assert set(text[cut:]) <= set("乐新"), text
