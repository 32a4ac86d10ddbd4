"""Answers of the matcher against loops: order, filters, distances, reranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Passage
from m3gal_cli.errors import InputError
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.matching.candidates import Depths
from m3gal_cli.matching.matcher import Matcher
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.reranker import Logits
from m3gal_cli.text.terms import Terms
from tests.helpers import bruteforce
from tests.helpers.bruteforce import metres
from tests.helpers.indexes import index_of, only_segment
from tests.helpers.toy_models import ToyEncoder, reranker_weights

# Rows 0 and 3 are equal; row 1 has their text and row 2 their coordinates.
POIS = pd.DataFrame(
    {
        "poi_id": ["first", "far", "other", "again", "last"],
        "address": ["pharmacy", "pharmacy", "bakery", "pharmacy", "北门"],
        "lng": [24.94, 25.10, 24.94, 24.94, 24.90],
        "lat": [60.17, 60.17, 60.17, 60.17, 60.20],
    }
)
BOXES = [None, (24.0, 60.0, 25.0, 60.18), (25.0, 60.0, 24.92, 61.0)]
Box = tuple[float, float, float, float]


def queries(count: int, text: str = "typed") -> list[Query]:
    """Queries of which every other has a location."""
    return [Query(i, f"{text} {i}", *((24.95, 60.16) if i % 2 else (None, None))) for i in range(count)]


@pytest.mark.parametrize("top_k", [1, 3, 10**9])
@pytest.mark.parametrize("within_km", [None, 0.5, 5.0])
@pytest.mark.parametrize("box", BOXES)
def test_matches_equal_those_of_loops(tmp_path: Path, top_k: int, within_km: float | None, box: Box | None) -> None:
    encoder = ToyEncoder(reach=5)
    index = index_of(tmp_path / "index", POIS, encoder, 3)
    answers = Matcher(index, encoder, ExactSearcher(only_segment(index))).answer(queries(8), top_k, within_km, box)
    assert [(a["id"], a["query"]) for a in answers] == [(q.id, q.text) for q in queries(8)]
    distinct = POIS.drop(index=3)
    west, south, east, north = box or (-180, -90, 180, 90)
    for query, answer in zip(queries(8), answers, strict=True):
        rows = []
        for number, row in enumerate(distinct.itertuples(index=False)):
            limited = query.lng is not None and within_km is not None
            if limited and metres(query.lng, query.lat, row.lng, row.lat) > 1000 * within_km:
                continue
            across = west <= row.lng <= east if west <= east else row.lng >= west or row.lng <= east
            if across and south <= row.lat <= north:
                score = bruteforce.scores(encoder, query.text, Passage(row.address, row.lng, row.lat))["fused"]
                rows.append((-score, number, row))
        assert [m["rank"] for m in answer["matches"]] == list(range(1, min(top_k, len(rows)) + 1))
        for match, (negative, _, row) in zip(answer["matches"], sorted(rows)[:top_k], strict=True):
            assert {k: match[k] for k in ("poi_id", "address", "lng", "lat")} == row._asdict()
            assert match["score"] == -negative
            assert {type(v) for v in match.values()} <= {int, float, str}, "JSON types"
            if query.lng is None:
                assert "distance_m" not in match
            else:
                assert match["distance_m"] == pytest.approx(metres(query.lng, query.lat, row.lng, row.lat), abs=0.06)


@pytest.mark.parametrize("top_k", [1, 10])
@pytest.mark.parametrize("box", BOXES[:2])
def test_the_reranker_orders_the_candidates_by_probability(tmp_path: Path, top_k: int, box: Box | None) -> None:
    encoder = ToyEncoder(reach=5)
    index = index_of(tmp_path / "index", POIS, encoder, 3)
    own = {"dense_score": 0.001, "query_coverage": 0.5, "name_coverage": 2.0, "neighbour_coverage": 1.0}
    weights = reranker_weights(**own, nearness_700m=3.0, nearness_2500m=1.0)
    weights.arrays["no_match.2.bias"][0] = 1.5
    reranker, search = weights.reranker(open_frequencies(index)), ExactSearcher(only_segment(index))
    matcher = Matcher(index, encoder, search, weights.reranker, Depths(4, 0))
    first_stage = Matcher(index, encoder, search)
    asked = queries(6, "bakery typed")
    answers = matcher.answer(asked, top_k, box=box)
    for query, answer, dense in zip(asked, answers, first_stage.answer(asked, max(4, top_k), box=box), strict=True):
        found = pd.DataFrame(dense["matches"])
        scores, lng, lat = (found[name].to_numpy() for name in ("score", "lng", "lat"))
        terms = Terms.of(found["address"].tolist())
        logits = reranker.score(query, Candidates(scores, np.zeros(len(scores)), terms, lng, lat))
        found["score"] = np.exp(logits.candidates) / (np.exp(logits.candidates).sum() + np.exp(logits.no_match))
        expected = found.sort_values("score", ascending=False, kind="stable")[:top_k]
        assert [m["poi_id"] for m in answer["matches"]] == expected["poi_id"].tolist()
        assert [m["score"] for m in answer["matches"]] == pytest.approx(expected["score"].tolist(), rel=1e-5)
        assert [m["rank"] for m in answer["matches"]] == list(range(1, len(expected) + 1))
    best = matcher.answer([Query(0, "bakery")], 1)[0]["matches"][0]
    assert best["address"] == "bakery", "the query has its name"


class ConstantReranker:
    """A reranker whose candidates have the probabilities 1/2, 1/4, 1/8 …, by descending dense score."""

    def score(self, query: Query, candidates: Candidates) -> Logits:
        halves = np.arange(1.0, len(candidates) + 1)
        return Logits(-np.log(2.0) * halves, float(-np.log(2.0) * halves[-1]))


def test_matches_below_the_least_score_are_left_out(tmp_path: Path) -> None:
    encoder = ToyEncoder(reach=5)
    index = index_of(tmp_path / "index", POIS, encoder, 3)
    matcher = Matcher(index, encoder, ExactSearcher(only_segment(index)), lambda frequencies: ConstantReranker())
    for least, expected in [(None, [0.5, 0.25, 0.125, 0.0625]), (0.2, [0.5, 0.25]), (0.5, [0.5]), (0.51, [])]:
        (answer,) = matcher.answer([Query(0, "bakery")], 5, min_score=least)
        assert [match["score"] for match in answer["matches"]] == pytest.approx(expected, rel=1e-6)
        assert [match["rank"] for match in answer["matches"]] == list(range(1, len(expected) + 1))


def test_matches_carry_columns_of_the_table_and_answers_those_of_the_query(tmp_path: Path) -> None:
    encoder = ToyEncoder(reach=5)
    own = POIS.assign(name=list("abcde"), phone=["1", "2", "", "4", "5"], rank=range(5), score=0.5)
    index = index_of(tmp_path / "index", own, encoder, 3)
    matcher = Matcher(index, encoder, ExactSearcher(only_segment(index)))
    query = Query(7, "typed", extra={"order_no": "A17", "matches": "none", "query": "x"})
    (answer,) = matcher.answer([query], 5, columns=matcher.check_columns(["all"]))
    assert list(answer) == ["id", "query", "order_no", "query_matches", "query_query", "matches"]
    by_id = {match["poi_id"]: match for match in answer["matches"]}
    assert set(by_id) == {"first", "far", "other", "last"}
    for row in own.drop(index=3).to_dict("records"):
        match = dict(by_id[row["poi_id"]])
        assert (match["name"], match["phone"], match["poi_rank"]) == (row["name"], row["phone"], row["rank"])
        assert match["poi_score"] == 0.5
    fields = ["rank", "poi_id", "name", "address", "lng", "lat", "score", "phone", "poi_rank", "poi_score"]
    assert list(answer["matches"][0]) == fields
    assert matcher.check_columns(["phone", "name", "phone"]) == ["phone"]
    with pytest.raises(InputError, match="has no column 'fax'") as caught:
        matcher.check_columns(["fax"])
    assert caught.value.hint == "Its columns are: phone, rank, score."
