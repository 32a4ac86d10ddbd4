"""Ranks, orders and scores of a published checkpoint equal those of the published code, except that ties lose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m3gal_cli.data.records import read_records
from m3gal_cli.evaluation.rerank import rerank_scores
from m3gal_cli.matching.session import open_session
from tests.helpers.cli import done, m3gal
from tests.helpers.published_model import PublishedModel, metrics, rank_bounds, read_pois

NEAR_TIE = 1e-6  # scores with a smaller difference may be in either order
LAST_BIT = 1e-7  # scores that tie on one CPU may differ by this on another
FLOAT32 = "eval.precision=fp32"  # as published; auto is bf16 on a CPU with bf16 instructions


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="module")
def model(golden: Path) -> PublishedModel:
    return PublishedModel(golden / "checkpoint_0000_best.pth.tar", golden / "text_encoder")


@pytest.fixture(scope="module")
def records(golden: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (golden / "candidates.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def rerank(golden: Path) -> Any:
    return json.loads((golden / "rerank.json").read_text(encoding="utf-8"))


def location_of(passage: dict[str, Any]) -> tuple[float, float]:
    lng, lat = passage["gis"][-1].split(",")
    return float(lng), float(lat)


@pytest.fixture(scope="module")
def candidate_scores(model: PublishedModel, records: list[dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """The scores of the reference implementation. Shape: (query, candidate), the positive first."""
    rows: dict[str, list[NDArray[np.float32]]] = {"text": [], "location": [], "fused": []}
    for record in records:
        passages = record["positive_passages"] + record["negative_passages"]
        query = model.texts("encoder_q", [record["query"][:64]])[0]
        lng, lat = zip(*map(location_of, passages), strict=True)
        text = model.texts("encoder_k", [p["text"][:64] for p in passages]) @ query
        # summed row by row, so that equal locations get equal scores
        location = (model.places(list(lng), list(lat)) * query).sum(axis=1)
        for kind, row in (("text", text), ("location", location), ("fused", text + location)):
            rows[kind].append(row)
    return {kind: np.stack(table) for kind, table in rows.items()}


def select(row: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    return {name: row[name] for name in names}


@pytest.fixture(scope="module")
def own_scores(golden: Path) -> dict[str, NDArray[np.float32]]:
    """The scores of eval-rerank. Shape: (query, candidate)."""
    settings = {"model.text_encoder": str(golden / "text_encoder")}
    session = open_session(golden / "checkpoint_0000_best.pth.tar", settings, (FLOAT32,))
    return rerank_scores(read_records(golden / "candidates.jsonl"), session.encoder, session.config.data.max_chars)


def test_published_location_ranks_differ_only_by_ties(
    golden: Path, rerank: dict[str, Any], records: list[dict[str, Any]], own_scores: dict[str, NDArray[np.float32]]
) -> None:
    """Our rank loses all ties. A published rank may win some, because the published code sorts tied candidates."""
    exact = own_scores["location"]
    table = [np.where(np.abs(row - row[0]) <= LAST_BIT, row[0], row) for row in exact]
    best, worst = map(list, zip(*(rank_bounds(row, [0]) for row in table), strict=True))
    published = [order.index(1) + 1 for order in rerank["order_location"]]
    assert metrics(published) == pytest.approx(rerank["location"], abs=1e-12)
    assert all(low <= published_rank <= high for low, published_rank, high in zip(best, published, worst, strict=True))
    assert published != worst, "without a tie in the golden files this test shows nothing"
    answer = m3gal(
        *("eval-rerank", "--checkpoint", golden / "checkpoint_0000_best.pth.tar", "--set", FLOAT32, "--json"),
        *("--text-encoder", golden / "text_encoder", "--test-dataset-filepath", golden / "candidates.jsonl"),
    )
    wanted = metrics([rank_bounds(row, [0])[1] for row in exact])
    assert select(done(answer).json()["metrics"]["location"], list(wanted)) == pytest.approx(wanted, abs=1e-12)
    for record, low, high in zip(records, best, worst, strict=True):
        gold = location_of(record["positive_passages"][0])
        ties = sum(location_of(p) == gold for p in record["negative_passages"])
        assert high - low >= ties, "equal locations have equal scores"


@pytest.mark.parametrize("kind", ["text", "location", "fused"])
def test_candidates_are_in_the_published_order(
    rerank: dict[str, Any],
    own_scores: dict[str, NDArray[np.float32]],
    candidate_scores: dict[str, NDArray[np.float32]],
    kind: str,
) -> None:
    np.testing.assert_allclose(own_scores[kind], candidate_scores[kind], atol=2e-6, rtol=0)
    for scores, order in zip(own_scores[kind], rerank[f"order_{kind}"], strict=True):
        assert sorted(order) == list(range(1, len(scores) + 1))
        published = scores[np.array(order) - 1]
        assert (np.diff(published) <= NEAR_TIE).all(), "our scores fall along the published order, except near ties"


def test_predict_gives_the_published_top_20_and_scores(golden: Path, model: PublishedModel, tmp_path: Path) -> None:
    retrieval = json.loads((golden / "retrieval.json").read_text(encoding="utf-8"))
    answer = m3gal(
        *("predict", "-", "--checkpoint", golden / "checkpoint_0000_best.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--poi-database-filepath", golden / "poi_database.csv"),
        *("--top-k", 400, "--index-dir", tmp_path / "index"),
        stdin="".join(q + "\n" for q in retrieval["queries"]),
    )
    answers = done(answer).lines()
    assert [a["query"] for a in answers] == retrieval["queries"]
    texts, lng, lat = read_pois(golden / "poi_database.csv")
    pois = model.texts("encoder_k", texts) + model.places(lng, lat)
    queries = model.texts("encoder_q", retrieval["queries"])
    np.testing.assert_allclose(queries[0], retrieval["query_embedding_0"], atol=1e-6)
    np.testing.assert_allclose(queries[0] @ pois.T, retrieval["fused_scores_query_0"], atol=1e-5)
    for query, result, wanted in zip(queries, answers, retrieval["top20_fused"], strict=True):
        scores = pois @ query
        own = [match["poi_id"] for match in result["matches"]]
        assert [m["rank"] for m in result["matches"]] == list(range(1, 401))
        for row, published_row in zip(own[:20], wanted, strict=True):
            assert row == published_row or abs(scores[row] - scores[published_row]) <= NEAR_TIE
        assert [m["score"] for m in result["matches"]] == pytest.approx(scores[own], abs=1e-5)
        for row, match in zip(own, result["matches"], strict=True):
            assert (match["address"], match["lng"], match["lat"]) == (texts[row], lng[row], lat[row])
    first = {match["poi_id"]: match["score"] for match in answers[0]["matches"]}
    assert [first[row] for row in range(400)] == pytest.approx(retrieval["fused_scores_query_0"], abs=1e-5)


def test_retrieval_metrics_equal_those_of_the_full_score_matrix(
    golden: Path, records: list[dict[str, Any]], model: PublishedModel
) -> None:
    answer = m3gal(
        *("eval-retrieval", "--checkpoint", golden / "checkpoint_0000_best.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--poi-database-filepath", golden / "poi_database.csv"),
        *("--test-dataset-filepath", golden / "candidates.jsonl", "--json"),
    )
    result = done(answer).json()
    texts, lng, lat = read_pois(golden / "poi_database.csv")
    assert (result["n_queries"], result["n_pois"]) == (len(records), len(texts))
    key_text, key_place = model.texts("encoder_k", texts), model.places(lng, lat)
    ranks: dict[str, list[int]] = {"text": [], "location": [], "fused": []}
    missing = 2**62
    for record in records:
        query = model.texts("encoder_q", [record["query"]])[0]
        passage = record["positive_passages"][0]
        own = (passage["text"], *location_of(passage))
        gold = [i for i, row in enumerate(zip(texts, lng, lat, strict=True)) if row == own]
        text, location = (key_text * query).sum(axis=1), (key_place * query).sum(axis=1)
        for kind, row in (("text", text), ("location", location), ("fused", text + location)):
            ranks[kind].append(rank_bounds(row, gold)[1] if gold else missing)
    assert any(r < missing for r in ranks["fused"])
    for kind, row in ranks.items():
        wanted = metrics(row)
        assert select(result["metrics"][kind], list(wanted)) == pytest.approx(wanted, abs=1e-12)
