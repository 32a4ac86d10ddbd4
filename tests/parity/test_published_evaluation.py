"""Ranks, orders and scores of a published checkpoint are the published code's own; where ties decide, ours lose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from m3gal_cli.cli.evaluation import open_session
from m3gal_cli.data.records import read_records
from m3gal_cli.evaluation.rerank import rerank_scores
from tests.helpers.cli import m3gal
from tests.helpers.published_model import PublishedModel, kindest_rank, metrics, read_pois, worst_rank

NEAR = 1e-6  # scores nearer than this may stand in either order


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
def rerank(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "rerank.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def retrieval(golden: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((golden / "retrieval.json").read_text(encoding="utf-8"))
    return found


def place_of(passage: dict[str, Any]) -> tuple[float, float]:
    lng, lat = passage["gis"][-1].split(",")
    return float(lng), float(lat)


@pytest.fixture(scope="module")
def candidate_scores(model: PublishedModel, records: list[dict[str, Any]]) -> dict[str, NDArray[np.float32]]:
    """The reference's scores, (query, candidate), the positive first."""
    rows: dict[str, list[NDArray[np.float32]]] = {"text": [], "location": [], "fused": []}
    for record in records:
        passages = record["positive_passages"] + record["negative_passages"]
        query = model.texts("encoder_q", [record["query"][:64]])[0]
        lng, lat = zip(*map(place_of, passages), strict=True)
        text = model.texts("encoder_k", [p["text"][:64] for p in passages]) @ query
        # summed row by row: equal places must get equal scores
        location = (model.places(list(lng), list(lat)) * query).sum(axis=1)
        for kind, row in (("text", text), ("location", location), ("fused", text + location)):
            rows[kind].append(row)
    return {kind: np.stack(table) for kind, table in rows.items()}


LAST_BIT = 1e-7  # scores that tie on one CPU differ by so much on another
FLOAT32 = "eval.precision=fp32"  # as published; auto is bf16 on a CPU that has it


def evaluate(golden: Path, dataset: str, checkpoint: str = "checkpoint_0000_best.pth.tar") -> dict[str, Any]:
    answer = m3gal(
        *("eval-rerank", "--checkpoint", golden / checkpoint, "--text-encoder", golden / "text_encoder"),
        *("--test-dataset-filepath", golden / dataset, "--json", "--set", FLOAT32),
    )
    assert answer.code == 0, answer.err
    return answer.json()


def some(row: dict[str, float], names: Sequence[str]) -> dict[str, float]:
    return {name: row[name] for name in names}


@pytest.mark.parametrize("kind", ["text", "fused"])
def test_rerank_metrics(golden: Path, rerank: dict[str, Any], kind: str) -> None:
    found = evaluate(golden, "candidates.jsonl")
    assert found["n_queries"] == 24
    assert found["n_candidates"] == 10
    assert some(found["metrics"][kind], list(rerank[kind])) == pytest.approx(rerank[kind], abs=1e-12)


@pytest.fixture(scope="module")
def own_scores(golden: Path) -> dict[str, NDArray[np.float32]]:
    """What eval-rerank ranks by, (query, candidate)."""
    values: dict[str, Any] = {
        "set_": (FLOAT32,),
        "config": None,
        "gpu": None,
        "text_encoder": str(golden / "text_encoder"),
    }
    session = open_session(values | {"checkpoint": golden / "checkpoint_0000_best.pth.tar"})
    return rerank_scores(read_records(golden / "candidates.jsonl"), session.encoder, session.config.data.max_chars)


def test_rerank_location_differs_by_ties_alone(
    golden: Path,
    rerank: dict[str, Any],
    records: list[dict[str, Any]],
    own_scores: dict[str, NDArray[np.float32]],
) -> None:
    """Every query's published rank lies between all ties won and all ties lost; ours is the latter.

    The published code sorts: which end of a tie the gold gets, the first candidate, is up to the sort.
    """
    exact = own_scores["location"]
    table = [np.where(np.abs(row - row[0]) <= LAST_BIT, row[0], row) for row in exact]
    kindest, worst = [kindest_rank(row, [0]) for row in table], [worst_rank(row, [0]) for row in table]
    published = [order.index(1) + 1 for order in rerank["order_location"]]
    assert metrics(published) == pytest.approx(rerank["location"], abs=1e-12)
    assert all(low <= theirs <= high for low, theirs, high in zip(kindest, published, worst, strict=True))
    differing = [i for i, (theirs, high) in enumerate(zip(published, worst, strict=True)) if theirs != high]
    assert differing, "no tie among the golden files: this test would show nothing"
    own = evaluate(golden, "candidates.jsonl")["metrics"]["location"]
    assert some(own, list(rerank["location"])) == pytest.approx(
        metrics([worst_rank(row, [0]) for row in exact]), abs=1e-12
    )
    for record, low, high in zip(records, worst, kindest, strict=True):
        gold = place_of(record["positive_passages"][0])
        assert low - high >= sum(place_of(p) == gold for p in record["negative_passages"]), "one place, one score"


@pytest.mark.parametrize("kind", ["text", "location", "fused"])
def test_candidate_orders(
    rerank: dict[str, Any],
    own_scores: dict[str, NDArray[np.float32]],
    candidate_scores: dict[str, NDArray[np.float32]],
    kind: str,
) -> None:
    np.testing.assert_allclose(own_scores[kind], candidate_scores[kind], atol=2e-6, rtol=0)
    for scores, order in zip(own_scores[kind], rerank[f"order_{kind}"], strict=True):
        assert sorted(order) == list(range(1, len(scores) + 1))
        published = scores[np.array(order) - 1]
        assert (np.diff(published) <= NEAR).all(), "the published order falls in our scores too, but for near ties"


def test_the_pickled_dataset_gives_the_same(golden: Path) -> None:
    from_json, from_pickle = (evaluate(golden, name) for name in ("candidates.jsonl", "candidates_use_gis.pth"))
    assert from_pickle["metrics"] == from_json["metrics"]
    assert from_pickle["n_queries"] == from_json["n_queries"]


def test_weights_decide(golden: Path) -> None:
    """The checkpoint before training ranks otherwise: the numbers above come from the weights, not the defaults."""
    before, after = (
        evaluate(golden, "candidates.jsonl", n) for n in ("initial.pth.tar", "checkpoint_0000_best.pth.tar")
    )
    assert before["metrics"]["fused"] != after["metrics"]["fused"]


def test_predict_top_20(golden: Path, retrieval: dict[str, Any], model: PublishedModel, tmp_path: Path) -> None:
    answer = m3gal(
        *("predict", "-", "--checkpoint", golden / "checkpoint_0000_best.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--poi-database-filepath", golden / "poi_database.csv"),
        *("--top-k", 20, "--index-dir", tmp_path / "index"),
        stdin="".join(q + "\n" for q in retrieval["queries"]),
    )
    assert answer.code == 0, answer.err
    answers = answer.lines()
    assert [a["query"] for a in answers] == retrieval["queries"]
    texts, lng, lat = read_pois(golden / "poi_database.csv")
    pois = model.texts("encoder_k", texts) + model.places(lng, lat)
    queries = model.texts("encoder_q", retrieval["queries"])
    np.testing.assert_allclose(queries[0], retrieval["query_embedding_0"], atol=1e-6)
    np.testing.assert_allclose(queries[0] @ pois.T, retrieval["fused_scores_query_0"], atol=1e-5)
    for query, found, wanted in zip(queries, answers, retrieval["top20_fused"], strict=True):
        scores = pois @ query
        own = [match["poi_id"] for match in found["matches"]]
        assert len(set(own)) == 20
        assert [m["rank"] for m in found["matches"]] == list(range(1, 21))
        for place, (mine, theirs) in enumerate(zip(own, wanted, strict=True)):
            assert mine == theirs or abs(scores[mine] - scores[theirs]) <= NEAR, f"rank {place + 1}"
        assert [m["score"] for m in found["matches"]] == pytest.approx(scores[own], abs=1e-5)
        for match in found["matches"]:
            row = match["poi_id"]
            assert (match["address"], match["lng"], match["lat"]) == (texts[row], lng[row], lat[row])


def test_predict_scores_of_the_first_query_are_the_files(
    golden: Path, retrieval: dict[str, Any], tmp_path: Path
) -> None:
    answer = m3gal(
        *("predict", "-", "--checkpoint", golden / "checkpoint_0000_best.pth.tar", "--top-k", 400),
        *("--index-dir", tmp_path / "index"),
        *("--text-encoder", golden / "text_encoder", "--poi-database-filepath", golden / "poi_database.csv"),
        stdin=retrieval["queries"][0],
    )
    matches = answer.lines()[0]["matches"]
    rows = [m["poi_id"] for m in matches]
    wanted = np.array(retrieval["fused_scores_query_0"])
    assert [m["score"] for m in matches] == pytest.approx(wanted[rows], abs=1e-5)


def test_eval_retrieval_against_the_full_matrix(
    golden: Path, records: list[dict[str, Any]], model: PublishedModel
) -> None:
    answer = m3gal(
        *("eval-retrieval", "--checkpoint", golden / "checkpoint_0000_best.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--poi-database-filepath", golden / "poi_database.csv"),
        *("--test-dataset-filepath", golden / "candidates.jsonl", "--json"),
    )
    assert answer.code == 0, answer.err
    found = answer.json()
    texts, lng, lat = read_pois(golden / "poi_database.csv")
    assert (found["n_queries"], found["n_pois"]) == (len(records), len(texts))
    key_text, key_place = model.texts("encoder_k", texts), model.places(lng, lat)
    ranks: dict[str, list[int]] = {"text": [], "location": [], "fused": []}
    missing = 2**62
    for record in records:
        query = model.texts("encoder_q", [record["query"]])[0]
        passage = record["positive_passages"][0]
        gold = [
            i for i, row in enumerate(zip(texts, lng, lat, strict=True)) if row == (passage["text"], *place_of(passage))
        ]
        text, location = (key_text * query).sum(axis=1), (key_place * query).sum(axis=1)
        for kind, row in (("text", text), ("location", location), ("fused", text + location)):
            ranks[kind].append(worst_rank(row, gold) if gold else missing)
    assert any(r < missing for r in ranks["fused"])
    for kind, row in ranks.items():
        wanted = metrics(row)
        assert some(found["metrics"][kind], list(wanted)) == pytest.approx(wanted, abs=1e-12)
