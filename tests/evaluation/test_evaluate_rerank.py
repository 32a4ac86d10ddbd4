"""The candidate-set evaluation against loops: lists of different lengths, ties, gold among the negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.rerank import evaluate_rerank, require_negatives, rerank_scores
from m3gal_cli.evaluation.result import Evaluation
from tests.helpers import bruteforce
from tests.helpers.bruteforce import poi, records
from tests.helpers.reranked import rerank
from tests.helpers.sparse import sparse_scores
from tests.helpers.toy_models import ToyEncoder, reranker_weights, toy_checkpoint

ENCODER = ToyEncoder()


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    return records(60)


@pytest.fixture(scope="module")
def evaluation(rows: list[Record]) -> Evaluation:
    return evaluate_rerank(rows, ENCODER, sparse=True)


@pytest.mark.parametrize("kind", bruteforce.KINDS)
def test_ranks_and_metrics_equal_those_of_loops(rows: list[Record], evaluation: Evaluation, kind: str) -> None:
    bruteforce.assert_equal(evaluation, kind, bruteforce.results(ENCODER, rows, (), kind))
    assert 0 < evaluation.metrics[kind]["recall@1"] < 1


def test_document_frequencies_of_the_sparse_score_count_each_distinct_candidate_once(
    rows: list[Record], evaluation: Evaluation
) -> None:
    texts, expected = [text for text, _, _ in {p.key for r in rows for p in r.passages}], []
    for record in rows:
        table = dict(zip(texts, np.float32(sparse_scores(texts, record.query)).tolist(), strict=True))
        expected.append(bruteforce.rank_and_error([table[p.text] for p in record.passages], record.passages, record))
    bruteforce.assert_equal(evaluation, "sparse", expected)


def test_repeated_candidates_are_reranked_as_one(rows: list[Record]) -> None:
    """Nearness is smaller where many POIs are near: a repeated POI must count once."""
    rows = [replace(record, negatives=record.negatives * 6) for record in rows]
    weights = reranker_weights(dense_score=0.02, nearness_2500m=1.0)
    addresses, expected = [text for text, _, _ in {p.key for r in rows for p in r.passages}], []
    for record in rows:
        places = {p.key: p for p in record.passages}
        logits = rerank(weights, ENCODER, addresses, record, list(places.values())).candidates
        table = dict(zip(places, logits.tolist(), strict=True))
        expected.append(bruteforce.rank_and_error([table[p.key] for p in record.passages], record.passages, record))
    bruteforce.assert_equal(evaluate_rerank(rows, ENCODER, reranker=weights), "reranked", expected)


def test_slices_and_json(rows: list[Record], evaluation: Evaluation) -> None:
    bruteforce.assert_equal_slices(evaluation.slices, rows, evaluation.ranks["fused"].tolist())
    assert evaluate_rerank([replace(r, lng=None, lat=None) for r in rows], ENCODER).slices == {}
    printed = evaluation.to_json("runs/a")
    assert (printed["n_queries"], printed["n_candidates"]) == (60, max(len(r.passages) for r in rows))
    for kind, intervals in printed["intervals"].items():
        means = evaluation.metrics[kind]
        assert all(low <= means.get(name, low) <= high for name, (low, high) in intervals.items())


def test_records_without_negatives_are_refused_or_counted(rows: list[Record]) -> None:
    gold = poi(1)
    without = [Record("a", [gold], []), Record("b", [gold], [replace(gold, docid="7")])]
    with pytest.raises(InputError, match="no record has a negative passage"):
        require_negatives(without)
    require_negatives([*without, rows[0]])
    notes = evaluate_rerank([*without, Record("c", [gold], [poi(2)])], ENCODER).notes
    assert notes == ["2 of 3 records have no negative passage: their ranks are always 1"]
    leaked = evaluate_rerank(rows[:9], ENCODER, training_records=rows[4:6]).notes[-1]
    assert leaked.startswith("label leakage: 2 of 9 queries")


def test_with_vectors_of_nan_the_gold_is_last() -> None:
    class DivergedEncoder(ToyEncoder):
        def vector(self, key: str) -> np.ndarray:
            return np.full(3, np.nan, np.float32)

    gold, others = poi(1), [poi(n) for n in range(2, 12)]
    evaluation = evaluate_rerank([Record("q", [gold], others), Record("q", [gold], others[:4])], DivergedEncoder())
    assert evaluation.ranks["fused"].tolist() == [11, 5], "padding is no candidate"
    metres = [bruteforce.metres(p.lng, p.lat, gold.lng, gold.lat) for p in others]
    assert evaluation.metrics["fused"]["median_error_m"] == pytest.approx((max(metres) + max(metres[:4])) / 2, rel=1e-9)


def test_texts_are_cut_for_the_scores_but_not_for_the_gold() -> None:
    """As published: candidates with equal text up to the cut tie, but are not gold."""
    gold, twin = Passage("abcd north", 120.0, 30.0), Passage("abcd south", 120.0, 30.0)
    record = Record("some query", [gold], [twin])
    cut = rerank_scores([record], ENCODER, max_chars=4)["fused"][0]
    short = bruteforce.scores(ENCODER, "some", Passage("abcd", 120.0, 30.0))["fused"]
    assert cut.tolist() == [short, short]
    assert evaluate_rerank([record], ENCODER, max_chars=4).ranks["fused"].tolist() == [2]


def test_scores_of_a_real_model_are_row_products_and_bit_equal_for_equal_candidates(rows: list[Record]) -> None:
    encoder = TorchEncoder(toy_checkpoint(), batch_tokens=40)
    scores = rerank_scores(rows[:8], encoder)
    seen: dict[tuple, list[float]] = {}
    for i, record in enumerate(rows[:8]):
        query = encoder.encode_queries([record.query])[0].astype(np.float64)
        for j, p in enumerate(record.passages):
            text = query @ encoder.encode_poi_texts([p.text])[0]
            location = query @ encoder.encode_locations([p.lng], [p.lat])[0]
            values = [scores[kind][i, j] for kind in bruteforce.KINDS]
            assert values == pytest.approx([text, location, text + location], abs=1e-5)
            assert seen.setdefault((i, p.key), values) == values
        assert (scores["fused"][i, len(record.passages) :] == -np.inf).all()
