"""Views from templates, and the pairs made of them."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from m3gal_cli.osm.locales import BUNDLED, load_locale
from m3gal_cli.osm.views import (
    POI_KIND,
    Slots,
    View,
    ViewPart,
    ViewRenderer,
    WordingChooser,
    join_texts,
    make_pairs,
    make_part_pair,
    weighted_order,
)
from m3gal_cli.text.normalise import reading_key

GATE = {"name": ("康乐新村(西门)",), "plain": ("康乐新村",), "words": ("通行设施,临街院门",), "street": ("古墩路",)}
GATE |= {"side": ("东侧", "东边"), "crossing_a": ("文一西路",), "crossing_b": ("古墩路",), "district": ("西湖区",)}
GATE |= {"crossing_bearing": ("东北",), "crossing_metres": ("100米",)}
CAFE = {"name": ("Blue Cat",), "words": ("cafe",), "word": ("cafe",), "street": ("Main Street",), "number": ("12",)}
CAFE |= {"district": ("Old Town",), "city": ("Testville",), "landmark": ("City Hall",), "landmark_word": ("cafe",)}


def views(locale: str, fields: Slots, seed: int = 0) -> list[View]:
    renderer = ViewRenderer(load_locale(locale))
    ready = renderer.prepare(fields)
    made = [renderer.view(t, ready, WordingChooser(f"{seed}{t.kind}")) for t in renderer.locale.views]
    return [view for view in made if view is not None]


def texts(locale: str, fields: Slots, seed: int = 0) -> dict[str, str]:
    return {v.kind: v.text for v in views(locale, fields, seed)}


def poi_row(locale: str, fields: Slots) -> View:
    renderer = ViewRenderer(load_locale(locale))
    return renderer.poi_row(renderer.prepare(fields)) or pytest.fail("no row")


def full(locale: str, fields: Slots) -> str:
    return poi_row(locale, fields).text


def test_poi_rows_follow_the_locale() -> None:
    assert full("zh", GATE) == "康乐新村(西门),通行设施,临街院门,文一西路与古墩路交叉口东北100米,西湖区"
    assert full("zh", GATE | {"number": ("123号",)}) == "康乐新村(西门),通行设施,临街院门,古墩路123号,西湖区"
    assert full("en", CAFE) == "Blue Cat, cafe, 12 Main Street, Old Town, Testville"
    assert full("neutral", CAFE) == "Blue Cat, cafe, Main Street 12, Old Town, Testville"
    assert full("neutral", {"street": ("Main Street",), "number": ("3",)}) == "Main Street 3"
    assert full("zh", {"name": ("东单公园",), "words": ("公园",), "street": ("长安街",)}) == "东单公园,公园,长安街附近"


def test_a_row_repeats_no_category_word_of_the_name() -> None:
    names = ("Palace Hotel", "Hotel-Restaurant Sun", "Hotelli Sun", "Sun")
    rows = [full("neutral", {"name": (name,), "words": ("hotel",), "street": ("Quay Street",)}) for name in names]
    words = ["", "", "hotel, ", "hotel, "]  # "hotelli" is another word than "hotel"
    assert rows == [f"{name}, {word}Quay Street" for name, word in zip(names, words, strict=True)]


def test_views_follow_the_chinese_templates() -> None:
    made = {seed: texts("zh", GATE, seed) for seed in range(30)}
    assert {m["road_side_name"] for m in made.values()} == {"古墩路东侧康乐新村(西门)", "古墩路东边康乐新村(西门)"}
    assert {v.content for v in views("zh", GATE) if v.kind == "road_side_name"} == {("古墩路", "康乐新村西门")}
    assert "文一西路与古墩路交叉口东北100米康乐新村(西门)" in {m["corner_far_name"] for m in made.values()}
    assert made[0]["district_name"] == "西湖区康乐新村(西门)"
    assert "door_name" not in made[0]  # there is no house number


@pytest.mark.parametrize("locale", BUNDLED)
def test_no_view_of_kind_and_district_alone(locale: str) -> None:
    assert texts(locale, {"words": ("cafe",), "word": ("cafe",), "district": ("Old Town",), "city": ("X",)}) == {}


def test_no_part_of_a_view_repeats_another() -> None:
    made = texts("neutral", {"name": ("Kamppi Station",), "district": ("Kamppi",), "city": ("Helsinki",)})
    assert "name_district" not in made
    assert made["name_city"] == "Kamppi Station Helsinki"


def test_joining_corrects_commas_and_brackets() -> None:
    assert join_texts(["a", ",", "b", ",", ""], " ") == "a, b"
    assert join_texts(["甲", ",", "乙"], "") == "甲,乙"
    assert join_texts([",", "a", ",", ",", "b"], " ") == "a, b"
    assert join_texts(["a", "(", "b", ")"], " ") == "a (b)"


def simple(kind: str, text: str) -> View:
    return View.of(kind, [ViewPart("name", text, reading_key(text))], "")


ROW = simple(POI_KIND, "Blue Cat, cafe, Main Street")
OTHERS = [simple("name", "Blue Cat"), simple("near", "Blue Cat near Y")]
OTHERS += [simple("road", "Main Street Blue Cat"), simple("word", "cafe near Y")]


def test_views_pair_with_the_row_unless_one_begins_with_the_other() -> None:
    by_kind = {one.kind: two.kind for one, two in make_pairs(ROW, [*OTHERS[1:], OTHERS[0]], 8)}
    assert by_kind == {"near": POI_KIND, "road": POI_KIND, "word": POI_KIND, "name": "word"}
    assert list(make_pairs(simple(POI_KIND, "Blue Cat, cafe"), OTHERS[:1], 8)) == []
    order = iter(OTHERS)
    assert [two.kind for _, two in make_pairs(None, order, 1)] == ["near"]  # "name" begins "near"
    assert [view.kind for view in order] == ["word"]  # no more are consumed than needed


def test_draws_have_the_expected_shares_and_depend_on_the_seed() -> None:
    first = [weighted_order([5.0, 1.0], random.Random(s))[0] for s in range(600)]
    assert 0.78 < first.count(0) / 600 < 0.88  # 5 / 6
    words = ["a", "b", "c", "d", "e"]
    drawn = Counter(WordingChooser(f"2023|n{n}|7")(words) for n in range(5000))
    assert all(900 < drawn[w] < 1100 for w in words)  # 1000 +- 3.5 standard deviations
    one, two = WordingChooser("x"), WordingChooser("x")
    series = [one(words) for _ in range(50)]
    assert series == [two(words) for _ in range(50)]
    assert len(set(series)) == 5


def test_both_sides_of_a_synthetic_part_mean_the_same_part() -> None:
    zh = load_locale("zh")
    fields: Slots = {"name": ("翠苑小区",), "words": ("商务住宅,住宅区",), "street": ("文三路",), "side": ("东侧",)}
    row = poi_row("zh", fields)
    view = next(v for v in views("zh", fields) if v.kind == "road_side_name")
    suffixes = {s.kind: s for s in zh.suffixes}
    for seed in range(40):
        made = make_part_pair(view, row, suffixes["building"], zh.bearings, random.Random(seed))
        assert (made.view.kind, made.view.text[:9]) == ("sub_building", "文三路东侧翠苑小区")
        numbers = [re.findall(r"\d+", text) for text in (made.view.text, made.row.text)]
        assert numbers == [[made.label.split()[1]]] * 2
        gate = make_part_pair(view, row, suffixes["gate"], zh.bearings, random.Random(seed))
        bearing = gate.label.split()[1]
        assert gate.row.text.startswith(f"翠苑小区({bearing}门),通行设施")
        assert f"{bearing}门" in gate.view.text.replace("大门", "门")


@pytest.mark.parametrize(("before", "apart"), [("味千拉面", True), ("何方", True), ("世纪大厦", False), ("KFC", False)])
def test_no_bearing_follows_a_name_with_which_it_could_be_split_in_two_ways(before: str, apart: bool) -> None:
    words = load_locale("zh").bearing_words(180)
    fields = {"name": ("招商银行",), "neighbour": (before,), "neighbour_bearing": words}
    seen = {texts("zh", fields, n)["neighbour_side_name"] for n in range(100)}
    assert seen == {f"{before}{word}招商银行" for word in words if not (apart and word == "向南")}


def test_a_view_without_a_possible_wording_is_left_out() -> None:
    fields = {"name": ("招商银行",), "neighbour": ("味千拉面",), "neighbour_bearing": ("向南",)}
    assert "neighbour_side_name" not in texts("zh", fields)
    assert texts("zh", {"street": ("东方",), "side": ("向南",), "rest": ("分店",)})["road_rest"] == "东方分店"
    row = full("zh", {"name": ("味千拉面",), "street": ("向阳路",), "number": ("3号",)})
    assert row == "味千拉面,向阳路3号"  # a comma separates the texts
