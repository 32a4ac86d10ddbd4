"""Kinds of miss by rule, and the collected misses against loops over the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data.duplicates import place_key
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.evaluation.error_report import write_misses
from m3gal_cli.evaluation.misses import KINDS, Miss, miss_kind
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.matching.candidate_table import query_of
from m3gal_cli.matching.candidates import Depths
from m3gal_cli.rerank.examples import network_inputs
from m3gal_cli.rerank.features import FEATURE_NAMES
from tests.helpers.bruteforce import DISTINCT, FIRST_ROWS, ROWS, metres, records, scores, table
from tests.helpers.reranked import candidates_of, rerank
from tests.helpers.toy_models import ToyEncoder, reranker_weights

ENCODER = ToyEncoder()
QUERIES = records(60, seed=3)
WEIGHTS = reranker_weights(dense_score=0.02, name_coverage=0.3, neighbour_coverage=0.2, nearness_2500m=0.5)


@pytest.mark.parametrize(
    ("kind", "query", "gold", "first", "distance_m"),
    [
        ("number differs", "东村43幢", "莫干山路东村43幢,住宅区", "莫干山路东村42幢,住宅区", 30.0),
        ("number differs", "bay 12a", "Bay 12a, parking", "Bay 12b, parking", 900.0),
        ("number differs", "alepa 5", "Alepa, shop, Katu 5", "Alepa, shop, Katu 7", 900.0),
        ("same name elsewhere", "alepa", "Alepa, shop, Katu 5", "ALEPA, shop, Tie 5", 101.0),
        ("same place, another entry", "alepa", "Alepa, shop, Katu 5", "Alepa, shop, Tie 5", 100.0),
        ("same place, another entry", "alfa mall", "Alfa, mall", "Alfa north gate, entrance", 40.0),
        ("other", "alfa mall", "Alfa, mall", "Alfa north gate, entrance", 140.0),
        ("other", "alfa mall", "Alfa, mall", "Alfazone, entrance", 40.0),  # not a whole word
        (
            "typing error",
            "hesburgr kasarmikatu",
            "Hesburger, food, Kasarmikatu",
            "Burger King, food, Kasarmikatu",
            50.0,
        ),
        ("typing error", "northgate pharmacy", "Star, North Gate pharmacy", "Star Bar", 500.0),
        ("other", "kasarmi 3", "Bar, Kasarmikatu 3", "Hotel", 500.0),  # a part of a word is no typing error
        ("typing error", "莫甘山路", "莫干山路,道路", "甘肃路,道路", 500.0),  # the same reading
        ("typing error", "莫干路东村 5幢", "莫干山路东村,住宅", "东村,住宅", 500.0),  # a character is missing
        ("another place in the query", "art Hauki", "Zetterberg Gallery, art", "Hauki, restaurant", 57.0),
        ("another place in the query", "西湖银泰旁边药店", "老百姓药房,药店", "西湖银泰,商场", 57.0),
        ("other", "railway 4000", "Depot, railway 4001", "Bar", 57.0),  # another number is no typing error
        ("another place in the query", "boknäs antilooppi", "Boknäs, shop", "Antilooppi, Mikonkatu", 14.0),
        ("another place in the query", "老王停车厂对面", "香港城,商场", "老王停车场(文三西路),停车场", 268.0),
        ("same name elsewhere", "海王星辰", "海王星辰药房(清水店),药房", "海王星辰药房(湖墅店),药房", 1263.0),
        ("number differs", "东部厂区南2门", "东部厂区(南2门),院门", "东部厂区(南3门),院门", 123.0),
        ("same name elsewhere", "光大能源淳安公司", "光大能源淳安公司,公司", "光大能源(淳安)公司,公司", 13080.0),
        ("other", "the young elk", "Nuori hirvi, artwork", "Young nails, shop", 1000.0),
    ],
)
def test_the_kind_is_that_of_the_first_rule_that_applies(
    kind: str, query: str, gold: str, first: str, distance_m: float
) -> None:
    assert kind in KINDS
    assert miss_kind(query, gold, first, distance_m) == kind


def evaluate(queries: list[Record] = QUERIES, **options: object) -> Evaluation:
    return evaluate_retrieval(queries, table(ROWS), ENCODER, RetrievalOptions(misses=True, **options))  # type: ignore[arg-type]


def test_misses_are_the_queries_whose_gold_is_not_first() -> None:
    evaluation = evaluate(reranker=WEIGHTS)
    missed = np.flatnonzero(evaluation.ranks["reranked"] != 1).tolist()
    assert [miss.query for miss in evaluation.misses] == [QUERIES[i].query for i in missed]
    assert 10 < len(missed) < 60
    seen: set[str] = set()
    for i, miss in zip(missed, evaluation.misses, strict=True):
        record, rank = QUERIES[i], int(evaluation.ranks["reranked"][i])
        assert (miss.lng, miss.lat, miss.query_id) == (record.lng, record.lat, record.query_id)
        assert miss.rank == (None if rank == MISS else rank)
        assert (miss.kind == "not among the candidates") is (rank == MISS)
        assert miss.gold.is_gold
        assert (miss.gold.poi_id is None) is (rank == MISS)
        assert (miss.gold.address, miss.gold.lng, miss.gold.lat) in record.gold
        rows = [int(answer.poi_id) for answer in miss.answers]  # type: ignore[arg-type]
        assert len(set(rows)) == 5
        assert all(FIRST_ROWS[row] == row for row in rows), "duplicates are one answer"
        assert [a.address for a in miss.answers] == [ROWS[row].text for row in rows]
        assert [a.is_gold for a in miss.answers] == [ROWS[row].key in record.gold for row in rows]
        assert not miss.answers[0].is_gold
        chances = [a.probability for a in miss.answers]
        assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
        assert miss.answers[0].probability == max(chances)  # type: ignore[type-var]
        first = ROWS[rows[0]]
        assert miss.distance_m == pytest.approx(metres(miss.gold.lng, miss.gold.lat, first.lng, first.lat), abs=1e-3)
        seen.add(miss.kind)
    assert len(seen) > 1


def expected_features(miss: Miss, record: Record, pois: list[Passage]) -> list[tuple[str, float, float]]:
    """Return name, gold and first answer of each feature; as in the inputs of the network, with these candidates."""
    candidates, frequencies = candidates_of(ENCODER, [ROWS[row].text for row in DISTINCT], record, pois)
    values = network_inputs(query_of(record), candidates, frequencies).features
    keys = [poi.key for poi in pois]
    gold, first = (keys.index(place_key(one.address, one.lng, one.lat)) for one in (miss.gold, miss.answers[0]))
    return list(zip(FEATURE_NAMES, values[gold].tolist(), values[first].tolist(), strict=True))


def test_features_are_the_inputs_of_the_network_with_the_largest_difference_first() -> None:
    """So the weighted differences of a linear network explain the ratio of the probabilities."""
    weights = dict(zip(FEATURE_NAMES, WEIGHTS.arrays["linear.weight"][0].tolist(), strict=True))
    known = 0
    for miss in evaluate(reranker=WEIGHTS).misses:
        record = next(r for r in QUERIES if r.query == miss.query)
        if miss.rank is None:
            assert {one.gold for one in miss.features} == {None}
            assert len(miss.features) == len(FEATURE_NAMES)
            continue
        known += 1
        found = {one.name: (one.gold, one.first) for one in miss.features}
        for name, gold, first in expected_features(miss, record, [ROWS[row] for row in DISTINCT]):
            assert found[name] == pytest.approx((gold, first)), name
        gap = sum(weights[one.name] * (one.first - one.gold) for one in miss.features)  # type: ignore[operator]
        ratio = miss.answers[0].probability / miss.gold.probability  # type: ignore[operator]
        assert gap == pytest.approx(np.log(ratio), abs=1e-6)
        gaps = [abs(one.first - one.gold) for one in miss.features]  # type: ignore[operator]
        assert gaps == sorted(gaps, reverse=True)
    assert known > 10


def test_a_gold_outside_the_shortlist_has_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of a longer shortlist, because all addresses have the same words but for numbers."""
    whole = {miss.query: miss for miss in evaluate(reranker=WEIGHTS).misses}
    monkeypatch.setattr("m3gal_cli.rerank.shortlist.SIZE", 2)
    outside = [miss for miss in evaluate(reranker=WEIGHTS).misses if (miss.gold.probability or 1.0) < 1e-5]
    outside = [miss for miss in outside if miss.query in whole and whole[miss.query].gold.poi_id == miss.gold.poi_id]
    assert len(outside) > 5
    for miss in outside:
        one, other = ({f.name: f.gold for f in m.features} for m in (miss, whole[miss.query]))
        assert one == pytest.approx(other)


def test_the_probability_of_no_match_is_the_rest_to_one() -> None:
    weights = reranker_weights(dense_score=0.02, nearness_2500m=0.5)
    weights.arrays["no_match.2.bias"][0] = 2.0
    addresses = [ROWS[row].text for row in DISTINCT]
    for miss in evaluate(reranker=weights).misses:
        record = next(r for r in QUERIES if r.query == miss.query)
        logits, no_match = rerank(weights, ENCODER, addresses, record, [ROWS[row] for row in DISTINCT])
        assert miss.no_match == pytest.approx(np.exp(no_match) / (np.exp(logits).sum() + np.exp(no_match)))


def test_a_gold_that_no_search_finds_has_features_as_if_it_were_a_candidate() -> None:
    evaluation = evaluate(reranker=WEIGHTS, depths=Depths(2, 1))
    absent = [miss for miss in evaluation.misses if miss.kind == "not among the candidates" and miss.rank is not None]
    assert absent
    for miss in absent:
        assert not any(answer.is_gold for answer in miss.answers)
        assert miss.gold.probability is None
        assert miss.gold.poi_id is not None
        record = next(r for r in QUERIES if r.query == miss.query)
        pois = [ROWS[int(one.poi_id)] for one in (*miss.answers, miss.gold)]  # type: ignore[arg-type]
        found = {one.name: (one.gold, one.first) for one in miss.features}
        for name, gold, first in expected_features(miss, record, pois):
            assert found[name] == pytest.approx((gold, first)), name


def test_a_gold_without_a_finite_vector_has_no_features() -> None:
    class BrokenEncoder(ToyEncoder):
        def vector(self, key: str) -> np.ndarray:
            vector = super().vector(key)
            return np.full_like(vector, np.nan) if key == "poi poi 5" else vector

    evaluation = evaluate_retrieval(
        QUERIES, table(ROWS), BrokenEncoder(), RetrievalOptions(misses=True, reranker=WEIGHTS)
    )
    broken = [miss for miss in evaluation.misses if miss.gold.address == "poi 5" and miss.rank is not None]
    assert broken
    assert {one.gold for miss in broken for one in miss.features} == {None}
    json.dumps([miss.to_json() for miss in evaluation.misses], allow_nan=False)


def test_without_a_reranker_answers_have_the_order_of_the_fused_score_and_no_probability() -> None:
    for miss in evaluate().misses:
        record = next(r for r in QUERIES if r.query == miss.query)
        rows = [int(answer.poi_id) for answer in miss.answers]  # type: ignore[arg-type]
        fused = {row: scores(ENCODER, miss.query, ROWS[row])["fused"] for row in set(FIRST_ROWS)}
        order = sorted(fused, key=lambda row: (-fused[row], ROWS[row].key in record.gold, row))
        assert rows == order[:5]
        assert {a.probability for a in miss.answers} == {None}
        assert miss.features == []
        assert (miss.kind == "not among the candidates") is (miss.rank is None)


def test_json_lines_have_one_object_per_miss(tmp_path: Path) -> None:
    evaluation = evaluate(reranker=WEIGHTS)
    write_misses(evaluation, tmp_path / "new" / "errors.jsonl", "title")
    lines = [json.loads(line) for line in (tmp_path / "new" / "errors.jsonl").read_text("utf-8").splitlines()]
    assert lines == [miss.to_json() for miss in evaluation.misses]
    assert list(lines[0]) == [
        "query",
        "query_id",
        "lng",
        "lat",
        "kind",
        "rank",
        "distance_m",
        "gold",
        "answers",
        "no_match",
        "features",
    ]
    write_misses(evaluation, tmp_path / "errors.html", "a </title><b>")
    page = (tmp_path / "errors.html").read_text("utf-8")
    assert "<title>a &lt;/title&gt;&lt;b&gt;</title>" in page
    assert not any(f"{{{{{slot}}}}}" in page for slot in ("title", "style", "script", "data", "calibration"))


def test_a_page_without_misses_or_reranker_can_be_written(tmp_path: Path) -> None:
    row = ROWS[0]
    evaluation = evaluate_retrieval([Record("q", [row], [])], table([row]), ENCODER, RetrievalOptions(misses=True))
    write_misses(evaluation, tmp_path / "a.html", "t")
    assert evaluation.misses == []
    assert "0 of 1 queries" in (tmp_path / "a.html").read_text("utf-8")
    evaluation.misses = evaluate([Record("q", [Passage("x", 1.0, 1.0)], []), *QUERIES]).misses
    write_misses(evaluation, tmp_path / "b.html", "t")
    assert 'id="calibration"' not in (tmp_path / "b.html").read_text("utf-8")
