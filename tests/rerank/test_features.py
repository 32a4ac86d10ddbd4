"""Every feature against its formula, computed for one candidate at a time."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.features import FEATURE_NAMES, FEATURES, FeatureContext, FeatureExtractor
from m3gal_cli.rerank.features.address_terms import AddressTermsCache
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers.ngrams import character_ngrams, code_of

ADDRESSES = [
    "星光广场,商场,文三路1号",
    "药房，医疗,文三路9号",
    "药房，医疗,文三路9号",
    "药房北店12,医疗,学院路2号",
    "停车场",
    "!!",
]
LNG = np.array([120.0, 120.001, 120.001, 120.3, 179.9999, 120.0])
LAT = np.array([30.0, 30.0, 30.0, 30.2, 30.0, 30.0])
CANDIDATES = Candidates(ADDRESSES, np.array([0.5, 0.25, 0.25, 0.75, -0.5, 0.0]), LNG, LAT)
FREQUENCIES = DocumentFrequencies.of([*ADDRESSES, "文三路", "别的"])
QUERY = Query(1, "星光广场1号对面药房2", 120.01, 30.0)


def at_one_place(*addresses: str) -> Candidates:
    return Candidates(addresses, *np.zeros((3, len(addresses))))


def value(name: str, query: Query | str = QUERY, candidates: Candidates = CANDIDATES) -> NDArray[np.float64]:
    """The unscaled feature of the candidates."""
    query = Query(1, query) if isinstance(query, str) else query
    return FEATURES[name].compute(FeatureContext(query, candidates, AddressTermsCache(FREQUENCIES)))


def idf(gram: str) -> float:
    return float(FREQUENCIES.idf(np.array([code_of(gram)], np.uint64))[0])


def coverage(text: str, query: str) -> float:
    """Share of the idf of a query that lies on n-grams of a text."""
    grams, own = character_ngrams(query), set(character_ngrams(text))
    return sum(idf(g) for g in grams if g in own) / max(sum(idf(g) for g in grams), 1e-9)


def name_of(address: str) -> str:
    return re.split("[,，]", address)[0]


def test_values_are_those_that_were_recorded() -> None:
    """Weights of older checkpoints need the same values."""
    recorded = json.loads(Path(__file__).with_name("recorded_features.json").read_text(encoding="utf-8"))
    draw = np.random.default_rng(7)
    words = ["星光", "广场", "药房", "文三路", "Star", "Café", "cafe", "main street"]
    words += ["12", "3", "9号", "北门", "(东区)"]

    def part() -> str:
        return "".join(draw.choice(words, draw.integers(1, 4)))

    addresses = [",".join(part() for _ in range(draw.integers(1, 5))) for _ in range(70)]
    scores = draw.uniform(-1, 1, 70).astype(np.float32)
    candidates = Candidates(addresses, scores, 24.9 + draw.uniform(0, 0.03, 70), 60.1 + draw.uniform(0, 0.03, 70))
    extractor = FeatureExtractor(DocumentFrequencies.of(addresses))
    for query in (Query(1, "星光广场对面 药房12", 24.91, 60.11), Query(2, "Star Café, main street 3 北门")):
        features = extractor.features(query, candidates)
        for name, column in recorded[query.text].items():
            np.testing.assert_allclose(features[:, FEATURE_NAMES.index(name)], column, rtol=1e-6, err_msg=name)


def test_coverage_is_the_share_of_the_query_in_the_address() -> None:
    np.testing.assert_allclose(value("dense_score"), CANDIDATES.scores)
    expected = [coverage(address, QUERY.text) for address in ADDRESSES]
    np.testing.assert_allclose(value("query_coverage"), expected)
    assert 0 < expected[3] < expected[0] < 1


def test_name_coverage_counts_only_ngrams_that_the_categories_do_not_have() -> None:
    candidates = at_one_place(
        "停车场,交通设施,停车场,文三路1号,东区",
        "星光停车场,交通设施，停车场,文三路1号,东区",
        "停车场,商场,文三路,东区",
    )
    share = sum(idf(g) for g in ("光", "光停")) / sum(idf(g) for g in ("星", "光", "星光", "光停"))
    np.testing.assert_allclose(value("name_coverage", "月光停车场", candidates), [0, share, 1])
    np.testing.assert_allclose(value("second_half_match", "停车场", candidates), [1, 1, 1])


def test_name_coverage_is_the_share_of_the_name_in_the_query() -> None:
    expected, query = [], set(character_ngrams(QUERY.text))
    for address in ADDRESSES:
        name = set(character_ngrams(name_of(address)))
        expected.append(sum(idf(g) for g in name & query) / max(sum(idf(g) for g in name), 1e-9))
    np.testing.assert_allclose(value("name_coverage"), expected)
    assert expected[5] == 0 < expected[3] < 1
    assert value("name_coverage", "药房", at_one_place("药房,x", "药房，x")).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("text", "first"), [(QUERY.text, "星光广场1"), ("药", "")])
def test_first_half_match_is_the_share_of_the_first_half_in_the_name(text: str, first: str) -> None:
    np.testing.assert_allclose(value("first_half_match", text), [coverage(name_of(a), first) for a in ADDRESSES])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("星光广场1号对面药房", [0, 0.4, 0.4, 0]),  # of 号对面药房; 号 is in no category
        ("文三路医疗站", [0, 2 / 3, 2 / 3, 0]),  # of 医疗站
        ("药房12", [0, 0.5, 1, 0]),  # of 房 and 12
        ("店药药", [0, 1, 1, 0]),  # of 药 and 药
        ("?", [0, 0, 0, 0]),
    ],
)
def test_second_half_match_is_the_share_of_units_in_name_and_categories(text: str, expected: list[float]) -> None:
    addresses = ["星光广场,商场,文三路1号,东区", "药房，医疗,文三路1号,东区", "药房北店12,保健,医疗,文三路1号,东区"]
    candidates = at_one_place(*addresses, "路,药,房")
    np.testing.assert_allclose(value("second_half_match", text, candidates), expected)


def test_units_are_words_in_scripts_with_spaces() -> None:
    candidates = at_one_place(
        "Star Café, cafe, Main Street 1, North", "Bar 24, kebab bar, Main Street", "ローソン,店,x,y", "โรงแรม"
    )
    match = value("second_half_match", "main street star café kebab 24", candidates)
    np.testing.assert_allclose(match, [1 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(value("suffix_similarity", "by the star café", candidates), [2 * 2 / 6, 0, 0, 0])
    np.testing.assert_allclose(value("suffix_similarity", "駅前ローソン", candidates), [0, 0, 1, 0])
    np.testing.assert_allclose(value("second_half_match", "xxx โรงแรม", candidates)[3], 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("小区旁的北大门", [2 * 2 / 8, 2 * 1 / 8, 2 * 1 / 5, 2 * 2 / 7, 0]),
        ("一北北门", [2 * 2 / 8, 2 * 1 / 8, 2 * 1 / 5, 2 * 3 / 7, 0]),  # a repeated unit counts as often as in both
        ("?", [0, 0, 0, 0, 0]),
    ],
)
def test_suffix_similarity_compares_the_last_four_units(text: str, expected: list[float]) -> None:
    candidates = at_one_place("阳光小区(北门)", "阳光小区(西门)", "门", "北北门", "!!")
    np.testing.assert_allclose(value("suffix_similarity", text, candidates), expected)


@pytest.mark.parametrize(
    ("text", "matched", "unmatched"),
    [
        ("星光广场1号对面药房2", [0.5, 0, 0, 0.5, 0, 0], [0, 0, 0, -1, 0, 0]),
        ("药房１２", [0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]),
        ("药房", [0] * 6, [0, 0, 0, -1, 0, 0]),
        ("药房9 99 9", [0, 0.5, 0.5, 0, 0, 0], [0, 0, 0, -1, 0, 0]),
    ],
)
def test_numbers_match_as_a_whole(text: str, matched: list[float], unmatched: list[float]) -> None:
    assert value("number_match", text).tolist() == matched
    assert value("unmatched_numbers", text).tolist() == unmatched
    assert value("unmatched_numbers", "3栋", at_one_place("3栋2单元", "3栋", "12栋")).tolist() == [-0.5, 0.0, -1.0]


def best_neighbour(query: str, candidates: Candidates, reach_m: float) -> list[float]:
    out, grams = [], character_ngrams(query)
    total = max(sum(idf(g) for g in grams), 1e-9)
    for i, address in enumerate(candidates.addresses):
        best = 0.0
        for j, other in enumerate(candidates.addresses):
            gained = set(character_ngrams(other)) - set(character_ngrams(address))
            metres = float(haversine_m(*(x[k] for k in (i, j) for x in (candidates.lng, candidates.lat))))
            best = max(best, sum(idf(g) for g in grams if g in gained) / total * math.exp(-metres / reach_m))
        out.append(best)
    return out


@pytest.mark.parametrize("text", [QUERY.text, "药"])
def test_neighbour_features_are_those_of_the_best_neighbour(text: str) -> None:
    half = len(text) // 2
    for name, part, reach_m in (
        ("neighbour_coverage", text, 1500.0),
        ("neighbour_first_half", text[:half], 500.0),
        ("neighbour_second_half", text[half:], 500.0),
    ):
        expected = best_neighbour(part, CANDIDATES, reach_m)
        np.testing.assert_allclose(value(name, text), expected, rtol=2e-3, atol=2e-3, err_msg=name)
        assert expected[3] < 1e-6, "its neighbours are too far"


@pytest.mark.parametrize("where", ["date line", "pole"])
def test_neighbours_of_many_candidates_across_the_date_line_and_at_the_pole(where: str) -> None:
    """More candidates than one block; rounding to steps of 1/4096 per n-gram bounds the error."""
    draw, n = np.random.default_rng(0), 150
    addresses = ["".join(draw.choice(list("星光广场药房文三路"), 4)) for _ in range(n)]
    lng, lat = (179.99 + draw.uniform(0, 0.02, n) + 180) % 360 - 180, draw.uniform(0, 0.02, n)
    if where == "pole":
        lng, lat = draw.uniform(-180, 180, n), 90 - draw.uniform(0, 0.01, n)
    candidates = Candidates(addresses, np.zeros(n), lng, lat)
    expected = best_neighbour(QUERY.text, candidates, 1500.0)
    np.testing.assert_allclose(value("neighbour_coverage", candidates=candidates), expected, atol=4e-3)


@pytest.mark.parametrize(("name", "sigma_m"), [("nearness_700m", 700.0), ("nearness_2500m", 2500.0)])
def test_nearness_is_a_mixture_of_a_near_poi_and_any_poi(name: str, sigma_m: float) -> None:
    kernel = [math.exp(-((d / sigma_m) ** 2) / 2) for d in haversine_m(120.01, 30.0, LNG, LAT).tolist()]
    expected = [math.log(1 + 100 * k / (1 + sum(kernel))) for k in kernel]
    np.testing.assert_allclose(value(name), expected, atol=1e-12)
    assert expected[1] > 1 > expected[3]
    assert not value(name, QUERY.text).any(), "without a query location"


def test_equal_candidates_have_equal_features() -> None:
    draw = np.random.default_rng(1)
    kind = draw.integers(0, 40, 300)
    addresses = np.array(["".join(draw.choice(list("星光广场药房文三路 12,"), 9)) for _ in range(40)])
    degrees, scores = draw.uniform(0, 0.05, (40, 2)), draw.uniform(size=40)
    candidates = Candidates(addresses[kind].tolist(), scores[kind], 120 + degrees[kind, 0], 30 + degrees[kind, 1])
    features = FeatureExtractor(FREQUENCIES).features(QUERY, candidates)
    for i in range(40):
        own = features[kind == i]
        assert (own == own[:1]).all()


@pytest.mark.parametrize("capacity", [0, 5])
def test_earlier_queries_do_not_change_the_features(capacity: int) -> None:
    extractor = FeatureExtractor(FREQUENCIES, capacity)
    queries = [QUERY, Query(2, "药房12"), Query(3, "Main Street")]
    some = [Candidates(ADDRESSES[i:j], np.zeros(j - i), LNG[i:j], LAT[i:j]) for i, j in ((0, 3), (2, 6), (0, 6))]
    for query in queries:
        for candidates in some:
            fresh = FeatureExtractor(FREQUENCIES).features(query, candidates)
            np.testing.assert_array_equal(extractor.features(query, candidates), fresh)


@pytest.mark.parametrize("text", ["?!", ""])
def test_a_query_without_letters_matches_nothing(text: str) -> None:
    features = FeatureExtractor(FREQUENCIES).features(Query(1, text), CANDIDATES)
    matching = [name not in ("dense_score", "unmatched_numbers") for name in FEATURE_NAMES]
    assert not features[:, matching].any()
    assert np.isfinite(features).all()


def test_features_that_are_not_named_are_0() -> None:
    extractor, column = FeatureExtractor(FREQUENCIES), FEATURE_NAMES.index("query_coverage")
    some = extractor.features(QUERY, CANDIDATES, ("query_coverage",))
    assert some[:, column].tolist() == extractor.features(QUERY, CANDIDATES)[:, column].tolist()
    assert not np.delete(some, column, axis=1).any()
