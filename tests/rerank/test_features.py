"""Evidence on candidates against what its words say, worked out one by one."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.coordinates import haversine_m
from m3gal_cli.rerank.features import FEATURES, REFERENCES, SCALE, WORDS, Candidates, features
from m3gal_cli.text.bm25 import character_ngrams
from m3gal_cli.text.document_frequencies import DocumentFrequencies, code_of

TEXTS = [
    "星光广场,商场,文三路1号",
    "药房，医疗,文三路9号",
    "药房，医疗,文三路9号",
    "药房北店12,医疗,学院路2号",
    "停车场",
    "!!",
]
LNG = np.array([120.0, 120.001, 120.001, 120.3, 179.9999, 120.0])
LAT = np.array([30.0, 30.0, 30.0, 30.2, 30.0, 30.0])
DENSE = np.array([0.5, 0.25, 0.25, 0.75, -0.5, 0.0])
FOUND = Candidates(TEXTS, DENSE, LNG, LAT)
ALL = [*TEXTS, "文三路", "别的"]
LEXICON = DocumentFrequencies.of(ALL)
QUERY = Query(1, "星光广场1号对面药房2", 120.01, 30.0)


def column(name: str, query: Query = QUERY, found: Candidates = FOUND) -> np.ndarray:
    place = FEATURES.index(name)
    return features(query, found, LEXICON)[:, place] / SCALE[place]


def idf(gram: str) -> float:
    return float(LEXICON.idf(np.array([code_of(gram)], np.uint64))[0])


def said(text: str, query: str) -> float:
    """Share of the idf of a query that a text says."""
    grams, own = character_ngrams(query), set(character_ngrams(text))
    return sum(idf(g) for g in grams if g in own) / max(sum(idf(g) for g in grams), 1e-9)


def head(text: str) -> str:
    return re.split("[,，]", text)[0]


def test_dense_is_the_score_of_the_search() -> None:
    np.testing.assert_allclose(column("dense"), DENSE)


def test_coverage_is_what_the_address_says_of_the_query() -> None:
    wanted = [said(text, QUERY.text) for text in TEXTS]
    np.testing.assert_allclose(column("coverage"), wanted)
    assert 0 < wanted[3] < wanted[0] < 1


def test_name_counts_only_what_it_says_beyond_its_kind() -> None:
    texts = [
        "停车场,交通设施,停车场,文三路1号,东区",
        "星光停车场,交通设施，停车场,文三路1号,东区",
        "停车场,商场,文三路,东区",
    ]
    beyond = {"星", "光", "星光", "光停"}
    typed = sum(idf(g) for g in ("光", "光停")) / sum(idf(g) for g in beyond)
    found = Candidates(texts, *np.zeros((3, 3)))
    np.testing.assert_allclose(column("name", Query(1, "月光停车场"), found), [0, typed, 1])
    np.testing.assert_allclose(column("ending", Query(1, "停车场"), found), [1, 1, 1])


def test_name_is_the_share_of_the_head_that_is_typed() -> None:
    wanted = []
    for text in TEXTS:
        grams = set(character_ngrams(head(text)))
        typed = set(character_ngrams(QUERY.text))
        wanted.append(sum(idf(g) for g in grams & typed) / max(sum(idf(g) for g in grams), 1e-9))
    np.testing.assert_allclose(column("name"), wanted)
    assert wanted[1] == pytest.approx(1)
    assert 0 < wanted[3] < 1
    assert wanted[5] == 0


@pytest.mark.parametrize(("text", "first"), [(QUERY.text, "星光广场1"), ("药房12", "药房"), ("药", "")])
def test_opening_is_what_the_name_says_of_the_first_half(text: str, first: str) -> None:
    assert len(first) == len(text) // 2
    np.testing.assert_allclose(column("opening", Query(1, text)), [said(head(t), first) for t in TEXTS])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("星光广场1号对面药房", [0, 0.4, 0.4, 0]),  # of 号对面药房; 号 is no kind
        ("文三路医疗站", [0, 2 / 3, 2 / 3, 0]),  # of 医疗站
        ("药房12", [0, 0.5, 1, 0]),  # of 房 and 12
        ("药房1", [0, 0.5, 0.5, 0]),  # 12 is another number
        ("药", [0, 1, 1, 0]),
        ("?", [0, 0, 0, 0]),
    ],
)
def test_ending_is_what_name_and_kind_say_of_the_second_half(text: str, wanted: list[float]) -> None:
    texts = [
        "星光广场,商场,文三路1号,东区",
        "药房，医疗,文三路1号,东区",
        "药房北店12,保健,医疗,文三路1号,东区",
        "路,药,房",
    ]
    np.testing.assert_allclose(column("ending", Query(1, text), Candidates(texts, *np.zeros((3, 4)))), wanted)


def test_units_are_words_where_words_are_apart() -> None:
    found = Candidates(
        ["Star Café, cafe, Main Street 1, North", "Bar 24, kebab bar, Main Street", "ローソン,店,x,y", "โรงแรม"],
        *np.zeros((3, 4)),
    )
    ending = column("ending", Query(1, "main street star café kebab 24"), found)
    np.testing.assert_allclose(ending, [1 / 3, 2 / 3 - 1 / 3, 0, 0])
    np.testing.assert_allclose(column("tail", Query(1, "by the star café"), found), [2 * 2 / 6, 0, 0, 0])
    np.testing.assert_allclose(column("tail", Query(1, "駅前ローソン"), found), [0, 0, 1, 0])
    np.testing.assert_allclose(column("ending", Query(1, "xxx โรงแรม"), found)[3], 1)


def test_tail_is_how_alike_the_last_four_units_are() -> None:
    found = Candidates(["阳光小区(北门)", "阳光小区(西门)", "门", "北北门", "!!"], *np.zeros((3, 5)))
    wanted = [2 * 2 / 8, 2 * 1 / 8, 2 * 1 / 5, 2 * 2 / 7, 0]
    np.testing.assert_allclose(column("tail", Query(1, "小区旁的北大门"), found), wanted)
    wanted = [2 * 2 / 8, 2 * 1 / 8, 2 * 1 / 5, 2 * 3 / 7, 0]
    np.testing.assert_allclose(column("tail", Query(1, "一北北门"), found), wanted, err_msg="as often as it is there")
    assert not column("tail", Query(1, "?"), found).any()


@pytest.mark.parametrize(
    ("text", "numbers", "untyped"),
    [
        ("星光广场1号对面药房2", [0.5, 0, 0, 0.5, 0, 0], [0, 0, 0, -1, 0, 0]),
        ("药房12", [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]),
        ("药房１２", [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]),
        ("药房", [0] * 6, [0, 0, 0, -1, 0, 0]),
        ("药房9 99 9", [0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, -1, 0, 0]),
    ],
)
def test_numbers_are_whole_ones(text: str, numbers: list[float], untyped: list[float]) -> None:
    assert column("numbers", Query(1, text)).tolist() == numbers
    assert column("untyped", Query(1, text)).tolist() == untyped


def test_a_number_of_the_name_that_is_typed_is_no_other_one() -> None:
    found = Candidates(["3栋2单元", "3栋", "12栋"], *np.zeros((3, 3)))
    assert column("untyped", Query(1, "3栋"), found).tolist() == [-0.5, 0.0, -1.0]


def reference(query: str, found: Candidates, reach: float = 1500.0) -> list[float]:
    out = []
    grams = character_ngrams(query)
    whole = max(sum(idf(g) for g in grams), 1e-9)
    for i, text in enumerate(found.texts):
        best = 0.0
        for j, other in enumerate(found.texts):
            beyond = set(character_ngrams(other)) - set(character_ngrams(text))
            metres = float(haversine_m(found.lng[i], found.lat[i], found.lng[j], found.lat[j]))
            best = max(best, sum(idf(g) for g in grams if g in beyond) / whole * math.exp(-metres / reach))
        out.append(best)
    return out


def test_reference_is_the_most_that_one_neighbour_says_beyond_the_candidate() -> None:
    wanted = reference(QUERY.text, FOUND)
    np.testing.assert_allclose(column("reference"), wanted, rtol=2e-3, atol=2e-3)
    assert wanted[1] > 0.3, "the pharmacy stands by the square"
    assert wanted[3] < 1e-6


@pytest.mark.parametrize("text", [QUERY.text, "药房文三路", "药"])
def test_reference_of_the_halves_is_nearer(text: str) -> None:
    query, half = Query(1, text), len(text) // 2
    first, second = (reference(part, FOUND, 500.0) for part in (text[:half], text[half:]))
    np.testing.assert_allclose(column("reference_opening", query), first, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(column("reference_ending", query), second, rtol=2e-3, atol=2e-3)


def test_reference_of_many_across_the_date_line_and_by_the_pole() -> None:
    """More candidates than are looked at together; steps of 1 / 4096 a gram bound what rounding costs."""
    draw = np.random.default_rng(0)
    texts = ["".join(draw.choice(list("星光广场药房文三路"), 4)) for _ in range(200)]
    for lng, lat in [
        ((179.99 + draw.uniform(0, 0.02, 200) + 180) % 360 - 180, draw.uniform(0, 0.02, 200)),
        (draw.uniform(-180, 180, 200), 90 - draw.uniform(0, 0.01, 200)),
    ]:
        found = Candidates(texts, np.zeros(200), lng, lat)
        np.testing.assert_allclose(column("reference", found=found), reference(QUERY.text, found), atol=4e-3)


def test_near_is_a_mixture_of_typed_beside_it_and_typed_anywhere() -> None:
    metres = haversine_m(120.01, 30.0, LNG, LAT)
    for name, reach in (("near_700m", 700.0), ("near_2500m", 2500.0)):
        beside = [math.exp(-((d / reach) ** 2) / 2) for d in metres.tolist()]
        wanted = [math.log(1 + 100 * k / (1 + sum(beside))) for k in beside]
        np.testing.assert_allclose(column(name), wanted, atol=1e-12)
        assert wanted[1] > 1 > wanted[3]
        assert not column(name, Query(1, QUERY.text)).any()


def test_near_counts_for_more_where_fewer_are_near() -> None:
    """One of two places within 100 m, and one of fifty, among a hundred; the nearest of places far away for nothing."""

    def near(lng: list[float]) -> float:
        found = Candidates(["文三路"] * len(lng), np.zeros(len(lng)), np.array(lng), np.full(len(lng), 30.0))
        return float(column("near_700m", found=found)[0])

    alone, crowd = near([120.0105] * 2 + [121.0] * 98), near([120.0105] * 50 + [121.0] * 50)
    assert alone > crowd + 1.0 > 1.0
    assert near([120.0105] * 2 + [121.0] * 9) == pytest.approx(alone), "however many are elsewhere"
    assert near([120.1] + [121.0] * 99) == pytest.approx(0.0, abs=1e-6)


def test_equal_candidates_have_equal_evidence_wherever_they_stand() -> None:
    draw = np.random.default_rng(1)
    some = draw.integers(0, 40, 300)
    texts = np.array(["".join(draw.choice(list("星光广场药房文三路 12,"), 9)) for _ in range(40)])
    place = draw.uniform(0, 0.05, (40, 2))
    found = Candidates(texts[some].tolist(), draw.uniform(size=40)[some], 120 + place[some, 0], 30 + place[some, 1])
    table = features(QUERY, found, LEXICON)
    for row in range(40):
        own = table[some == row]
        assert (own == own[:1]).all()


def test_names_are_what_stands_before_the_first_comma_of_either_kind() -> None:
    found = Candidates(["药房,x", "药房，x"], *np.zeros((3, 2)))
    assert column("name", Query(1, "药房"), found).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("text", ["?!", ""])
def test_a_query_of_signs_alone_says_nothing(text: str) -> None:
    found = features(Query(1, text), FOUND, LEXICON)
    words = [FEATURES.index(name) for name in (*WORDS[:-1], *REFERENCES)]
    assert not found[:, words].any()
    assert np.isfinite(found).all()
    assert features(QUERY, Candidates([], *np.zeros((3, 0))), LEXICON).shape == (0, len(FEATURES))
