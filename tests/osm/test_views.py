"""Views from templates, and the pairs made of them."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from m3gal_cli.osm.locales import BUNDLED, load_locale
from m3gal_cli.osm.views import (
    FULL,
    Fields,
    Picker,
    Piece,
    View,
    ViewMaker,
    differ,
    joined,
    make_pairs,
    suffix_pair,
    weighted_order,
)
from m3gal_cli.text.normalise import reads

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


def views(locale: str, fields: Fields, seed: int = 0) -> list[View]:
    maker = ViewMaker(load_locale(locale), reads)
    ready = maker.ready(fields)
    made = [maker.view(t, ready, Picker(f"{seed}{t.kind}")) for t in maker.locale.views]
    return [view for view in made if view is not None]


def texts(locale: str, fields: Fields, seed: int = 0) -> dict[str, str]:
    return {v.kind: v.text for v in views(locale, fields, seed)}


def full(locale: str, fields: Fields) -> str:
    maker = ViewMaker(load_locale(locale), reads)
    view = maker.full(maker.ready(fields))
    assert view is not None
    return view.text


def test_poi_rows_by_locale() -> None:
    assert full("zh", GATE) == "康乐新村(西门),通行设施,临街院门,文一西路与古墩路交叉口东北100米,西湖区"
    assert full("zh", GATE | {"number": ("123号",)}) == "康乐新村(西门),通行设施,临街院门,古墩路123号,西湖区"
    assert full("en", CAFE) == "Blue Cat, cafe, 12 Main Street, Old Town, Testville"
    assert full("neutral", CAFE) == "Blue Cat, cafe, Main Street 12, Old Town, Testville"


def test_an_address_is_a_row_without_a_name() -> None:
    assert full("neutral", {"street": ("Main Street",), "number": ("3",)}) == "Main Street 3"


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("Palace Hotel", "Palace Hotel, Quay Street"),
        ("Hotel-Restaurant Sun", "Hotel-Restaurant Sun, Quay Street"),
        ("Hotelli Sun", "Hotelli Sun, hotel, Quay Street"),  # another word than "hotel"
        ("Sun", "Sun, hotel, Quay Street"),
    ],
)
def test_a_row_names_the_kind_once(name: str, row: str) -> None:
    assert full("neutral", {"name": (name,), "words": ("hotel",), "street": ("Quay Street",)}) == row


def test_a_chinese_row_keeps_its_kind_whatever_the_name_says() -> None:
    assert full("zh", {"name": ("东单公园",), "words": ("公园",), "street": ("长安街",)}) == "东单公园,公园,长安街附近"


def test_chinese_views() -> None:
    made = {seed: texts("zh", GATE, seed) for seed in range(30)}
    assert {m["road_side_name"] for m in made.values()} == {"古墩路东侧康乐新村(西门)", "古墩路东边康乐新村(西门)"}
    assert {v.key for v in views("zh", GATE) if v.kind == "road_side_name"} == {("古墩路", "康乐新村西门")}
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
    assert joined(["a", "(", "b", ")"], " ") == "a (b)"


def simple(kind: str, text: str, key: str | None = None, weight: float = 1.0) -> View:
    return View.of(kind, [Piece("name", text, reads(text) if key is None else key)], "", weight)


ROW = simple(FULL, "Blue Cat, cafe, Main Street")
OTHERS = [
    simple("name", "Blue Cat"),
    simple("near", "Blue Cat near Y"),
    simple("road", "Main Street Blue Cat"),
    simple("word", "cafe near Y"),
]


def test_pairs_are_of_different_kinds_and_never_a_prefix() -> None:
    for seed in range(50):
        order = random.Random(seed).sample(OTHERS, len(OTHERS))
        pairs = list(make_pairs(ROW, order, 8, reads))
        assert {one.kind for one, _ in pairs} >= {"near", "road", "word"}
        for one, two in pairs:
            assert one.kind not in (FULL, two.kind)
            assert differ(reads(one.text), reads(two.text))
        assert len(list(make_pairs(ROW, order, 2, reads))) == 2


def test_pairs_lead_to_the_row_unless_it_says_no_more() -> None:
    by_kind = {one.kind: two.kind for one, two in make_pairs(ROW, [*OTHERS[1:], OTHERS[0]], 8, reads)}
    assert by_kind == {"near": FULL, "road": FULL, "word": FULL, "name": "word"}
    assert [two.kind for _, two in make_pairs(None, OTHERS, 8, reads)] == ["near", "road"]  # "name" begins "near"


def test_no_more_views_are_asked_for_than_it_takes() -> None:
    asked = []

    def order() -> object:
        for view in OTHERS[1:]:
            asked.append(view.kind)
            yield view

    assert len(list(make_pairs(ROW, order(), 1, reads))) == 1  # type: ignore[arg-type]
    assert asked == ["near"]


def test_no_pair_from_one_view_and_its_own_beginning() -> None:
    assert list(make_pairs(simple(FULL, "Blue Cat, cafe"), [simple("name", "Blue Cat")], 8, reads)) == []


def test_heavier_views_come_first_more_often() -> None:
    first = [weighted_order([5.0, 1.0], random.Random(s))[0] for s in range(600)]
    assert 0.78 < first.count(0) / 600 < 0.88  # 5 / 6


def test_draws_of_wordings_are_even_and_follow_from_the_seed() -> None:
    words = ["a", "b", "c", "d", "e"]
    drawn = Counter(Picker(f"2023|n{n}|7")(words) for n in range(5000))
    assert all(900 < drawn[w] < 1100 for w in words)  # 1000 +- 3.5 standard deviations
    one, two = Picker("x"), Picker("x")
    series = [one(words) for _ in range(50)]
    assert series == [two(words) for _ in range(50)]
    assert len(set(series)) == 5


def test_a_made_up_part_reads_alike_on_both_sides() -> None:
    zh = load_locale("zh")
    fields: Fields = {"name": ("翠苑小区",), "words": ("商务住宅,住宅区",), "street": ("文三路",), "side": ("东侧",)}
    maker = ViewMaker(zh, reads)
    row = maker.full(maker.ready(fields))
    assert row is not None
    view = next(v for v in views("zh", fields) if v.kind == "road_side_name")
    suffixes = {s.kind: s for s in zh.suffixes}
    for seed in range(40):
        made = suffix_pair(view, row, suffixes["building"], zh.bearings, random.Random(seed))
        number = made.part.split()[1]
        assert made.view.kind == "sub_building"
        assert made.view.text.startswith("文三路东侧翠苑小区")
        assert re.findall(r"\d+", made.view.text) == re.findall(r"\d+", made.full.text) == [number]
        assert ",地名地址信息,门牌信息,楼栋号," in made.full.text
        gate = suffix_pair(view, row, suffixes["gate"], zh.bearings, random.Random(seed))
        bearing = gate.part.split()[1]
        assert gate.full.text.startswith(f"翠苑小区({bearing}门),通行设施")
        assert f"{bearing}门" in gate.view.text.replace("大门", "门")


@pytest.mark.parametrize(("before", "apart"), [("味千拉面", True), ("何方", True), ("世纪大厦", False), ("KFC", False)])
def test_no_bearing_stands_where_it_would_read_two_ways(before: str, apart: bool) -> None:
    zh = load_locale("zh")
    maker = ViewMaker(zh, reads)
    template = next(t for t in zh.views if t.kind == "neighbour_side_name")
    ready = maker.ready(
        {"name": ("招商银行",), "neighbour": (before,), "neighbour_bearing": zh.bearing_words(180)},
    )
    views = [maker.view(template, ready, Picker(f"{n}")) for n in range(300)]
    seen = {view.pieces[1].text for view in views if view is not None}
    assert None not in views
    assert seen == set(zh.bearing_words(180)) - ({"向南"} if apart else set())


def test_what_has_no_other_wording_is_left_out() -> None:
    zh = load_locale("zh")
    maker = ViewMaker(zh, reads)
    sides = next(t for t in zh.views if t.kind == "neighbour_side_name")
    fields = {"name": ("招商银行",), "neighbour": ("味千拉面",), "neighbour_bearing": ("向南",)}
    assert maker.view(sides, maker.ready(fields), Picker("x")) is None
    road = next(t for t in zh.views if t.kind == "road_rest")  # "street side? rest"
    view = maker.view(road, maker.ready({"street": ("东方",), "side": ("向南",), "rest": ("分店",)}), Picker("x"))
    assert view is not None
    assert view.text == "东方分店"
    row = maker.full(maker.ready({"name": ("味千拉面",), "street": ("向阳路",), "number": ("3号",)}))
    assert row is not None
    assert row.text == "味千拉面,向阳路3号"  # a comma keeps them apart
