"""Views from templates, which of them tell a place, and the pairs made of them; locales from YAML."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from m3gal_cli.data.locales import BUNDLED, load_locale
from m3gal_cli.data.osm.places import reads
from m3gal_cli.data.views import FULL, Piece, View, ViewMaker, differ, joined, make_pairs, unambiguous
from m3gal_cli.errors import InputError

GATE = {
    "name": ("康乐新村(西门)",),
    "plain": ("康乐新村",),
    "words": ("通行设施,临街院门",),
    "street": ("古墩路",),
    "side": ("东侧", "东边"),
    "crossing_a": ("文一西路",),
    "crossing_b": ("古墩路",),
    "crossing_bearing": ("东北",),
    "crossing_metres": ("100米",),
    "district": ("西湖区",),
}
CAFE = {"name": ("Blue Cat",), "words": ("cafe",), "word": ("cafe",), "street": ("Main Street",), "number": ("12",)}
CAFE |= {"district": ("Old Town",), "city": ("Testville",), "landmark": ("City Hall",), "landmark_word": ("cafe",)}


def texts(locale: str, fields: dict[str, tuple[str, ...]], seed: int = 0) -> dict[str, str]:
    maker = ViewMaker(load_locale(locale), reads)
    return {v.kind: v.text for v in maker.views(fields, random.Random(seed))}


def full(locale: str, fields: dict[str, tuple[str, ...]]) -> str:
    view = ViewMaker(load_locale(locale), reads).full(fields)
    assert view is not None
    return view.text


def test_poi_rows_by_locale() -> None:
    assert full("zh", GATE) == "康乐新村(西门),通行设施,临街院门,文一西路与古墩路交叉口东北100米,西湖区"
    assert full("zh", GATE | {"number": ("123号",)}) == "康乐新村(西门),通行设施,临街院门,古墩路123号,西湖区"
    assert full("en", CAFE) == "Blue Cat, cafe, 12 Main Street, Old Town, Testville"
    assert full("neutral", CAFE) == "Blue Cat, cafe, Main Street 12, Old Town, Testville"


def test_an_address_is_a_row_without_a_name() -> None:
    assert full("neutral", {"street": ("Main Street",), "number": ("3",)}) == "Main Street 3"


def test_chinese_views() -> None:
    made = {seed: texts("zh", GATE, seed) for seed in range(30)}
    assert {m["road_side_name"] for m in made.values()} == {"古墩路东侧康乐新村(西门)", "古墩路东边康乐新村(西门)"}
    assert "文一西路与古墩路交叉口东北100米康乐新村(西门)" in {m["corner_far_name"] for m in made.values()}
    assert made[0]["district_name"] == "西湖区康乐新村(西门)"
    assert "door_name" not in made[0]  # there is no house number


def test_english_views() -> None:
    made = {seed: texts("en", CAFE, seed) for seed in range(30)}
    assert made[0]["name_door"] == "Blue Cat, 12 Main Street"
    assert {"Blue Cat near City Hall", "Blue Cat next to City Hall"} <= {m["name_landmark"] for m in made.values()}
    assert "cafe near City Hall" in {m["landmark_word"] for m in made.values()}
    assert made[0]["door"] == "12 Main Street"


@pytest.mark.parametrize("locale", BUNDLED)
def test_no_view_of_kind_and_district_alone(locale: str) -> None:
    assert texts(locale, {"words": ("cafe",), "word": ("cafe",), "district": ("Old Town",), "city": ("X",)}) == {}


def test_a_view_says_nothing_twice() -> None:
    made = texts("neutral", {"name": ("Kamppi Station",), "district": ("Kamppi",), "city": ("Helsinki",)})
    assert "name_district" not in made
    assert made["name_city"] == "Kamppi Station Helsinki"


def test_joined_puts_commas_right() -> None:
    assert joined(["a", ",", "b", ",", ""], " ") == "a, b"
    assert joined(["甲", ",", "乙"], "") == "甲,乙"
    assert joined([",", "a", ",", ",", "b"], " ") == "a, b"


def simple(kind: str, text: str, key: str | None = None, weight: float = 1.0) -> View:
    return View(kind, (Piece("name", text, reads(text) if key is None else key),), "", weight)


def test_a_text_of_two_places_is_dropped_and_a_row_never() -> None:
    views = [
        [simple(FULL, "Bank, Street 1"), simple("name", "Bank"), simple("door", "Bank Street 1")],
        [simple(FULL, "Bank, Street 2"), simple("name", "BANK"), simple("door", "Bank Street 2")],
    ]
    kept = unambiguous(views, reads)
    assert [[v.kind for v in row] for row in kept] == [[FULL], [FULL]]  # "Bank Street 1" reads like the row itself
    views[0][2] = simple("door", "Street 1 Bank")
    assert [v.kind for v in unambiguous(views, reads)[0]] == [FULL, "door"]


def test_two_places_that_say_the_same_in_other_words_are_told_apart_by_key() -> None:
    here, there = simple("side", "X路东侧银行", "x路|银行"), simple("side", "X路北边银行", "x路|银行")
    assert unambiguous([[here], [there]], reads) == [[], []]


def test_pairs_are_of_different_kinds_and_never_a_prefix() -> None:
    row = [simple(FULL, "Blue Cat, cafe, Main Street"), simple("name", "Blue Cat"), simple("near", "Blue Cat near Y")]
    row += [simple("road", "Main Street Blue Cat"), simple("word", "cafe near Y")]
    for seed in range(50):
        pairs = make_pairs(row, 8, random.Random(seed), reads)
        assert pairs
        for one, two in pairs:
            assert one.kind not in (FULL, two.kind)
            assert differ(reads(one.text), reads(two.text))
        assert len(pairs) <= 8
    assert all(len(make_pairs(row, 2, random.Random(s), reads)) <= 2 for s in range(20))


def test_no_pair_from_one_view_and_its_own_beginning() -> None:
    assert make_pairs([simple(FULL, "Blue Cat, cafe"), simple("name", "Blue Cat")], 8, random.Random(0), reads) == []


def test_heavier_views_come_first_more_often() -> None:
    row = [simple(FULL, "row"), simple("heavy", "h", weight=5.0), simple("light", "l", weight=1.0)]
    first = [make_pairs(row, 1, random.Random(s), reads)[0][0].kind for s in range(600)]
    assert 0.78 < first.count("heavy") / 600 < 0.88  # 5 / 6


def test_bearings_and_categories() -> None:
    zh = load_locale("zh")
    assert [zh.bearing(d) for d in (0, 22.4, 22.6, 90, 180, 270, 337.6, 360)] == ["北", "北", "东北", *"东南西北北"]
    assert zh.category("amenity", "pharmacy").typed == ("药店", "药房")
    assert zh.category("amenity", "school", "育才幼儿园").words[-1] == "幼儿园"
    assert not zh.category("shop", "no such shop").specific
    assert load_locale("neutral").category("tourism", "camp_site").words == ("camp site",)


@pytest.mark.parametrize("name", ["东门", "北2门", "A口", "3号楼", "停车场", "图书馆"])
def test_names_that_need_their_area(name: str) -> None:
    assert load_locale("zh").is_sub(name)
    assert not load_locale("zh").is_sub("清华大学" + name)


def test_a_user_adds_words_and_views_without_code(tmp_path: Path) -> None:
    own = tmp_path / "fi.yaml"
    own.write_text(
        "extends: neutral\nlanguage: fi\nconnectors: {near: [lähellä]}\n"
        "categories: {amenity=pharmacy: apteekki}\nviews:\n  close: {parts: 'name @near landmark', weight: 2}\n",
        encoding="utf-8",
    )
    locale = load_locale(str(own))
    assert locale.category("amenity", "pharmacy").words == ("apteekki",)
    assert locale.category("amenity", "cafe").words == ("cafe",)
    made = {v.kind: v.text for v in ViewMaker(locale, reads).views(CAFE, random.Random(0))}
    assert made["close"] == "Blue Cat lähellä City Hall"
    assert made["name_street"] == "Blue Cat Main Street"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: neutral\nwords: {}\n", "unknown key 'words'"),
        ("extends: neutral\nviews: {x: 'name colour'}\n", "no such field 'colour'"),
        ("extends: neutral\nviews: {x: 'name @under street'}\n", "no such connector '@under'"),
        ("extends: neutral\nsub: ['(']\n", "not a regular expression"),
        ("extends: klingon\n", "no such locale 'klingon'"),
        ("views: [\n", "not YAML"),
        ("- a\n", "expected a mapping"),
        ("join: ' '\n", "no word for N"),
    ],
)
def test_what_is_wrong_in_a_locale_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        load_locale(str(path))


def test_a_circle_of_locales_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: {path}\n", encoding="utf-8")
    with pytest.raises(InputError, match="in a circle"):
        load_locale(str(path))
