"""Made queries: which rows are their gold (against brute force), which styles there are, and odd tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from m3gal_cli.data.query_styles import MAX_GOLD, NO_PLACE, STYLES, StyledQuery, styled_queries
from m3gal_cli.data.query_styles.table import QueryTable, stem
from m3gal_cli.data.query_styles.words import RELATIONS
from m3gal_cli.geo.distances import haversine_m
from tests.helpers import bruteforce

ADDRESSES = [
    "Kulma, cafe, Main Road 12, Harbour, Springfield",
    "Kulma, bar, Long Lane 3, Old Town, Springfield",
    "Kulma Bar, bar, Main Road 12, Harbour, Springfield",
    "Alepa, convenience, Main Road 14, Harbour, Springfield",
    "Alepa, convenience, Long Lane 5, Old Town, Springfield",
    "Alepa, convenience, Long Lane 5, Old Town, Springfield",
    "Marina Hotel, hotel, Quay 1, Harbour, Springfield",
    "Marine Hotel, hotel, Quay 2, Harbour, Springfield",
    "Small Giant Games, office, Long Lane 7, Old Town, Springfield",
    "Small Paper Games, office, Long Lane 9, Old Town, Springfield",
    "Café Ärlig, cafe, Quay 3, Harbour, Springfield",
    "Star Pharmacy, pharmacy, Main Road 16, Harbour, Springfield",
    "Moon Pharmacy, pharmacy, Main Road 18, Harbour, Springfield",
    "Main Road 12, Harbour, Springfield",
    "Main Road 20, Harbour, Springfield",
    "Hesburger (North), fast food, Long Lane 11, Old Town, Springfield",
    "第一教学楼,科教文化服务,学校,教学楼,学院路12号,西湖区",
    "第二教学楼,科教文化服务,学校,教学楼,学院路14号,西湖区",
    "第三教学楼(东门),通行设施,临街院门,临街院门,学院路16号附近,西湖区",
    "中国银行(学院路支行),金融保险服务,银行,中国银行,学院路18号2楼,西湖区",
    "中国银行,金融保险服务,银行,中国银行,莫干山路7号,拱墅区",
    "农业银行,金融保险服务,银行,农业银行,学院路18号,西湖区",
    "明珠公寓,商务住宅,住宅区,住宅小区,莫干山路9号,拱墅区",
    "名珠公寓,商务住宅,住宅区,住宅小区,莫干山路11号,拱墅区",
    "停车场,交通设施服务,停车场,公共停车场,莫干山路与学院路交叉口东50米,拱墅区",
    "白塔大厦停车场,交通设施服务,停车场,公共停车场,莫干山路13号,拱墅区",
]
LNG = np.array([10.0 + 0.0012 * (i % 16) for i in range(16)] + [120.0 + 0.0012 * i for i in range(10)])
LAT = np.array([60.0 + 0.0001 * i for i in range(16)] + [30.0 + 0.0001 * i for i in range(10)])
OTHER_NAMES = {10: ["Honest Cafe"], 6: ["Hotel zur Marina"], 16: ["First Teaching Building", "Teaching Building 1"]}
TABLE = QueryTable(ADDRESSES, LNG, LAT, OTHER_NAMES)
POIS = [TABLE.poi(row) for row in range(len(ADDRESSES))]


@pytest.fixture(scope="module")
def made() -> list[StyledQuery]:
    return styled_queries(ADDRESSES, LNG, LAT, 9000, 7, OTHER_NAMES)


def of_style(made: list[StyledQuery], *styles: str) -> list[StyledQuery]:
    """Return the queries of styles without a location, whose gold is not narrowed to the nearest rows."""
    found = [query for query in made if query.style in styles and query.lng is None]
    assert len(found) >= 15
    return found


def letters(text: str) -> str:
    """The letters and digits of a text, in lower case and without accents."""
    split = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in split if c.isalnum())


def texts(row: int) -> list[str]:
    """The texts that a user may type for a row: its names, and its street with the house number."""
    street = [POIS[row].street] if any(map(str.isdigit, POIS[row].street)) else []
    return [letters(text) for text in (POIS[row].name, *OTHER_NAMES.get(row, ()), *street)]


def edits(a: str, b: str) -> int:
    """The optimal string alignment distance (Boytsov 2011, restricted Damerau-Levenshtein)."""
    d = {(i, j): i or j for i in range(len(a) + 1) for j in range(len(b) + 1) if not i or not j}
    for i, j in product(range(1, len(a) + 1), range(1, len(b) + 1)):
        d[i, j] = min(d[i - 1, j] + 1, d[i, j - 1] + 1, d[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
        if i > 1 and j > 1 and a[i - 2 : i] == b[j - 2 : j][::-1]:
            d[i, j] = min(d[i, j], d[i - 2, j - 2] + 1)
    return d[len(a), len(b)]


def rows_where(test: object) -> frozenset[int]:
    return frozenset(row for row in range(len(ADDRESSES)) if test(row))  # type: ignore[operator]


def test_every_style_is_made_and_no_other(made: list[StyledQuery]) -> None:
    assert len(made) == 9000
    assert {query.style for query in made} == set(STYLES)


def test_the_queries_depend_on_table_and_seed_only(made: list[StyledQuery]) -> None:
    assert styled_queries(ADDRESSES, LNG, LAT, 500, 7, OTHER_NAMES) == made[:500]
    assert styled_queries(ADDRESSES, LNG, LAT, 500, 8, OTHER_NAMES) != made[:500]


@pytest.mark.parametrize("styles", [("name",), ("lower case",), ("no spaces", "no diacritics"), ("address",)])
def test_all_rows_that_read_like_the_query_are_gold(made: list[StyledQuery], styles: tuple[str, ...]) -> None:
    for query in of_style(made, *styles):
        typed = letters(query.text)
        if same := rows_where(lambda row, typed=typed: typed in texts(row)):
            at_the_door = rows_where(lambda row, typed=typed: "号" in typed and texts(row)[-1].startswith(typed))
            assert query.gold == same | at_the_door


def test_with_a_location_near_the_source_the_gold_are_the_nearest_rows_that_fit(made: list[StyledQuery]) -> None:
    wholes = {(query.style, query.text): query.gold for query in made if query.lng is None}
    narrowed = 0
    for query in made:
        whole = wholes.get((query.style, query.text))
        if whole and query.gold < whole and query.lng is not None and query.lat is not None:
            metres = {row: bruteforce.metres(query.lng, query.lat, LNG[row], LAT[row]) for row in whole}
            assert query.gold == {row for row in whole if metres[row] <= min(metres.values()) + 50.0}
            narrowed += 1
    assert narrowed > 100


def test_the_gold_of_a_prefix_is_every_row_that_starts_with_it(made: list[StyledQuery]) -> None:
    for query in of_style(made, "prefix"):
        typed = letters(query.text)
        assert query.gold == rows_where(lambda row, typed=typed: any(t.startswith(typed) for t in texts(row)))


@pytest.mark.parametrize(("style", "most"), [("one edit", 1), ("two edits", 2)])
def test_the_gold_of_typing_errors_is_every_row_that_needs_no_more(
    made: list[StyledQuery], style: str, most: int
) -> None:
    several = 0
    for query in of_style(made, style):
        typed = letters(query.text)
        digits = [c for c in typed if c.isdigit()]
        near = [
            min([edits(typed, t) for t in texts(row) if [c for c in t if c.isdigit()] == digits], default=99)
            for row in range(len(ADDRESSES))
        ]
        needed = max(near[row] for row in query.gold)
        assert needed <= most
        assert query.gold == rows_where(lambda row, near=near, needed=needed: near[row] <= needed)
        several += len({POIS[row].name for row in query.gold}) > 1
    assert several  # 第教学楼 is the first or the second


def test_a_typing_error_never_makes_the_name_of_another_poi() -> None:
    names = ["Marin", "Marina", "Marines", "Marins"]
    queries = styled_queries(names, np.zeros(4), np.zeros(4), 800, 3)
    typed = [query.text.lower() for query in queries if query.style in ("one edit", "two edits")]
    assert len(typed) > 100
    assert not {text.lower() for text in names} & set(typed)


@pytest.mark.parametrize(
    "style", ["name, street", "street, name", "name, district", "name, category", "category, name"]
)
def test_the_gold_of_a_name_with_a_part_has_both(made: list[StyledQuery], style: str) -> None:
    def typed_for(row: int) -> Iterator[str]:
        poi = POIS[row]
        for part in (poi.street, stem(poi.street), poi.district, *poi.categories, "Springfield"):
            for name in (*texts(row), letters(poi.name)):
                yield letters(part) + name
                yield name + letters(part)

    forms = [set(typed_for(row)) for row in range(len(ADDRESSES))]
    for query in of_style(made, style):
        typed = letters(query.text)
        assert query.gold == rows_where(lambda row, typed=typed: typed in forms[row] or typed in texts(row))


def test_the_gold_of_a_name_without_words_has_the_rest_in_order(made: list[StyledQuery]) -> None:
    shared = [query for query in of_style(made, "words left out") if letters(query.text) == "smallgames"]
    assert {query.gold for query in shared} == {frozenset({8, 9})}
    for query in of_style(made, "words left out"):
        typed = letters(query.text)
        for row in range(len(ADDRESSES)):
            if typed in texts(row)[0]:
                assert row in query.gold


def test_a_wrong_house_number_means_the_pois_of_that_name_on_the_street(made: list[StyledQuery]) -> None:
    for query in of_style(made, "wrong number"):
        names, roads = (
            {letters(f(POIS[row])) for row in query.gold} for f in (lambda p: p.name, lambda p: stem(p.street))
        )
        assert len(names) == len(roads) == 1
        assert letters(query.text).startswith(names.pop() + roads.pop())
        assert not any(letters(query.text) == letters(p.name + p.street) for p in POIS)


def test_a_house_number_may_come_first(made: list[StyledQuery]) -> None:
    found = {query.text.lower().replace(",", ""): query.gold for query in of_style(made, "number first")}
    assert found["12 main road kulma"] == {0}
    assert found["5 long lane alepa"] == {4, 5}


def test_names_with_the_same_reading_are_gold_together(made: list[StyledQuery]) -> None:
    found = {query.text: query.gold for query in of_style(made, "transliterated")}
    assert found["mingzhugongyu"] == {22, 23}


def test_names_in_other_languages_are_queries(made: list[StyledQuery]) -> None:
    found = {query.text: query.gold for query in of_style(made, "other language")}
    names = {name: {row} for row, names in OTHER_NAMES.items() for name in names}
    assert found == names


def test_an_added_category_selects_the_pois_of_that_category() -> None:
    made = styled_queries(ADDRESSES[:3], LNG[:3], LAT[:3], 6000, 1)
    found = {query.text.lower(): query.gold for query in of_style(made, "words added")}
    assert found["kulma shop"] == {0, 1}
    assert found["kulma cafe"] == {0}
    assert found["kulma bar"] == {1, 2}  # one has the category, the other the name


def references(rows: dict[int, set[str]], metres: float) -> dict[str, set[int]]:
    """Every reference that names one of these texts of a row and a neighbour's name, and all rows it fits."""
    out: dict[str, set[int]] = {}
    for (row, names), other in product(rows.items(), range(len(ADDRESSES))):
        near = haversine_m(LNG[row], LAT[row], LNG[other], LAT[other]) <= metres
        if near and POIS[row].name != POIS[other].name:
            for name in names:
                pair = name + POIS[other].name
                wordings = next(wordings for script, wordings in RELATIONS if script.search(pair))
                for wording in wordings:
                    typed = letters(wording.format(x=POIS[other].name, y=name))
                    out.setdefault(typed, set()).add(row)
    return out


CATEGORIES = {row: {poi.categories[-1]} for row, poi in enumerate(POIS) if poi.categories} | {
    24: {"停车场", "公共停车场"}
}
NAMES = {row: {poi.name} for row, poi in enumerate(POIS)}
BEGINNINGS = {row: {text[:n] for text in texts(row) for n in range(2, len(text) + 1)} for row in range(len(POIS))}


@pytest.mark.parametrize(
    ("style", "typed_texts", "metres"),
    [("reference", NAMES, 400.0), ("category reference", CATEGORIES, 300.0), ("partial reference", BEGINNINGS, 400.0)],
)
def test_a_reference_means_all_pois_beside_the_other_place(
    made: list[StyledQuery], style: str, typed_texts: dict[int, set[str]], metres: float
) -> None:
    expected = references(typed_texts, metres)
    whole = [query for query in of_style(made, style) if letters(query.text) in expected]
    assert len(whole) > 50  # the others name the beginning of the other place
    assert {query.text: query.gold for query in whole} == {
        query.text: frozenset(expected[letters(query.text)]) for query in whole
    }


def test_a_query_has_gold_and_at_most_thirty() -> None:
    many = [f"Shop, shop, Road {i % 40}, Centre" for i in range(MAX_GOLD + 1)] + ["Solo, shop, Road 1, Centre"]
    queries = styled_queries(many, np.zeros(32), np.zeros(32), 300, 1)
    assert {query.style for query in queries if len(query.gold) > 1 and query.style in ("name", "lower case")} == set()
    assert all(1 <= len(query.gold) <= MAX_GOLD for query in queries)
    assert any(query.text.lower().startswith("shop") for query in queries)  # with its street it is one of few


def test_half_of_the_queries_have_a_location_mostly_near_a_gold_poi(made: list[StyledQuery]) -> None:
    located = [query for query in made if query.lng is not None and query.lat is not None]
    assert len(located) / len(made) == pytest.approx(0.55, abs=0.03)
    metres = np.array(
        [min(haversine_m(query.lng, query.lat, LNG[row], LAT[row]) for row in query.gold) for query in located]
    )
    # A distance with deviation s to east and north is above t with probability exp(-t²/2s²) (Rayleigh distribution).
    near = np.mean([1 - np.exp(-(1000.0**2) / 2 / s**2) for s in (200.0, 500.0, 1000.0, 2000.0)])
    far = 1 - np.exp(-(1000.0**2) / 2 / 15_000.0**2)
    assert np.mean(metres < 1000) == pytest.approx((0.4 * near + 0.15 * far) / 0.55, abs=0.04)
    assert all((query.lng is None) == (query.lat is None) for query in made)


@pytest.mark.parametrize("addresses", [[], ["!!!"], ["", " ", ",,,"], ["Parking, car park, Quay 1, Harbour"] * 500])
def test_a_table_without_usable_names_gives_no_queries(addresses: list[str]) -> None:
    at = np.zeros(len(addresses))
    assert styled_queries(addresses, at, at, 50, 1) == []


def test_small_tables_give_what_they_can() -> None:
    nan = float("nan")
    assert {query.style for query in styled_queries(["12"], [1.0], [2.0], 20, 1)} == {"name"}
    unlocated = styled_queries(ADDRESSES, [nan] * len(ADDRESSES), [nan] * len(ADDRESSES), 500, 1)
    assert len(unlocated) == 500
    assert all(query.lng is None for query in unlocated)
    assert {query.style for query in unlocated if "reference" in query.style} == {"street reference"}
    names = styled_queries(["Kulma", "Moon Pharmacy", "五道口"], [1.0, 1.001, 1.002], [2.0] * 3, 300, 1)
    assert len(names) == 300
    assert {"name", "one edit", "prefix", "transliterated", "reference"} <= {query.style for query in names}


def test_neighbours_are_found_across_the_180th_meridian() -> None:
    table = QueryTable(["A house", "B house", "C house"], [179.999, -179.999, 179.9], [0.0] * 3, {})
    assert table.neighbours(0) == [1]
    assert table.around({1}, 300.0) == {0, 1}


@pytest.mark.parametrize(
    ("row", "address", "parts"),
    [
        (0, ADDRESSES[0], (("cafe",), "Main Road 12", "Harbour")),  # the city of most rows
        (0, "Al Dente, Easter Road, 139", ((), "Easter Road 139", "")),
        (0, "Costa, Quay, 5, 7, Harbour", ((), "Quay 5 7", "Harbour")),
        (
            0,
            "五道口,交通设施服务,地铁站,成府路与荷清路交叉口东100米",
            (("交通设施服务", "地铁站"), "成府路与荷清路交叉口", ""),
        ),
        (
            0,
            "酒店,公共设施,公共厕所,公共厕所,莲花峰路37号(右转200米),西湖区",
            (("公共设施", "公共厕所", "公共厕所"), "莲花峰路37号", "西湖区"),
        ),
        (0, "工会,政府机构,[],-,[],西湖区", (("政府机构",), "", "西湖区")),
    ],
)
def test_the_parts_of_addresses_of_several_sources_are_found(row: int, address: str, parts: tuple[object, ...]) -> None:
    table = QueryTable([address, *ADDRESSES], np.zeros(27), np.zeros(27), {})
    assert table.poi(row)[1:] == parts


@pytest.mark.parametrize(
    ("street", "road"),
    [
        ("Main Road 12", "Main Road"),
        ("12 Main Road", "Main Road"),
        ("Bulevardi 2-4", "Bulevardi"),
        ("Simonkatu 6 B", "Simonkatu"),
        ("5th Avenue", "5th Avenue"),
        ("101 1st Street", "1st Street"),
        ("学院路12号3楼", "学院路"),
        ("12号", "12号"),
    ],
)
def test_a_street_without_its_number(street: str, road: str) -> None:
    assert stem(street) == road


def test_texts_that_mean_no_place_are_many_and_distinct() -> None:
    assert 50 <= len(NO_PLACE) == len(set(NO_PLACE)) <= 100
    assert {"SELECT * FROM users", "12345"} <= set(NO_PLACE)
