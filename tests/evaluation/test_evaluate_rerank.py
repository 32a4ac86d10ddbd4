"""Candidate sets against loops: ragged lists, ties, gold among the negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.evaluation.rerank import evaluate_rerank, rerank_scores
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import LinearReranker
from m3gal_cli.text.bm25 import LexicalIndex
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers import bruteforce
from tests.helpers.bruteforce import poi, records
from tests.helpers.toy_models import ToyEncoder, toy_checkpoint, weights_of

EMBEDDER = ToyEncoder()


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    return records(60)


@pytest.fixture(scope="module")
def evaluation(rows: list[Record]) -> Evaluation:
    return evaluate_rerank(rows, EMBEDDER, bm25=True)


def wanted(rows: list[Record], kind: str) -> list[tuple[float, float]]:
    out = []
    for record in rows:
        values = [bruteforce.scores(EMBEDDER, record.query, p)[kind] for p in record.passages]
        out.append(bruteforce.rank_and_error(values, record.passages, record))
    return out


@pytest.mark.parametrize("kind", bruteforce.KINDS)
def test_metrics_against_loops(rows: list[Record], evaluation: Evaluation, kind: str) -> None:
    by_loops = wanted(rows, kind)
    assert evaluation.ranks[kind].tolist() == [rank for rank, _ in by_loops]
    figures = bruteforce.figures(by_loops)
    found = evaluation.metrics[kind]
    assert {name: found[name] for name in figures} == pytest.approx(figures, rel=1e-9, abs=1e-6)
    assert 0 < found["recall@1"] < 1


def test_bm25_over_the_distinct_candidates(rows: list[Record], evaluation: Evaluation) -> None:
    texts = sorted({p.text for r in rows for p in r.passages})
    lexical, by_loops = LexicalIndex(texts), []
    for record in rows:
        table = dict(zip(texts, lexical.scores(record.query).tolist(), strict=True))
        by_loops.append(bruteforce.rank_and_error([table[p.text] for p in record.passages], record.passages, record))
    assert evaluation.ranks["bm25"].tolist() == [rank for rank, _ in by_loops]
    assert "bm25" not in evaluate_rerank(rows, EMBEDDER).metrics


def test_the_hybrid_row_takes_a_place_that_a_set_repeats_for_one(rows: list[Record]) -> None:
    """Nearness counts for less where many places are as near: a place is one of them, however often it is there."""
    rows = [replace(record, negatives=record.negatives * 6) for record in rows]
    weights = weights_of(dense=0.02, near_2500m=1.0)
    reranker = LinearReranker(
        weights, DocumentFrequencies.of([text for text, _, _ in {p.key for r in rows for p in r.passages}])
    )
    by_loops = []
    for record in rows:
        places = {p.key: p for p in record.passages}
        dense = [bruteforce.scores(EMBEDDER, record.query, p)["fused"] for p in places.values()]
        texts, lng, lat = zip(*places, strict=True)
        found = Candidates(list(texts), np.array(dense), np.array(lng), np.array(lat))
        query = Query(record.query_id, record.query, record.lng, record.lat)
        table = dict(zip(places, reranker.scores(query, found).tolist(), strict=True))
        by_loops.append(bruteforce.rank_and_error([table[p.key] for p in record.passages], record.passages, record))
    evaluation = evaluate_rerank(rows, EMBEDDER, reranker=weights)
    assert evaluation.ranks["reranked"].tolist() == [rank for rank, _ in by_loops]
    assert evaluation.metrics["reranked"]["median_error_m"] == pytest.approx(
        np.median([m for _, m in by_loops]), rel=1e-9
    )


def test_slices_and_the_form_that_is_printed(rows: list[Record], evaluation: Evaluation) -> None:
    by_loops = bruteforce.slices(rows, evaluation.ranks["fused"].tolist())
    assert len(by_loops) == 2
    for name, values in by_loops.items():
        assert {k: evaluation.slices[name][k] for k in values} == pytest.approx(values)
    printed = evaluation.to_json("runs/a")
    widest = max(len(r.passages) for r in rows)
    assert (printed["checkpoint"], printed["n_queries"], printed["n_candidates"]) == ("runs/a", 60, widest)
    assert printed["metrics"] == evaluation.metrics
    assert "n_pois" not in printed
    for kind, row in printed["intervals"].items():
        for name, (low, high) in row.items():
            mean = evaluation.metrics[kind].get(name)
            assert low <= high
            assert mean is None or low <= mean <= high


def test_queries_of_unknown_place_are_in_no_slice(rows: list[Record]) -> None:
    assert evaluate_rerank([replace(r, lng=None, lat=None) for r in rows], EMBEDDER).slices == {}


def test_a_negative_equal_to_the_gold_is_gold_and_any_other_tie_loses() -> None:
    gold = Passage("gold", 120.0, 30.0)
    equal, same_text, same_place = replace(gold, docid="9"), replace(gold, lng=120.1), replace(gold, text="else")
    for others, ranks in (
        ([equal, equal], {"text": 1, "location": 1, "fused": 1}),
        ([same_text, equal], {"text": 2}),
        ([same_place, same_place], {"location": 3}),
    ):
        found = evaluate_rerank([Record("q", [gold], others)], EMBEDDER).ranks
        assert {kind: found[kind].tolist() for kind in ranks} == {kind: [rank] for kind, rank in ranks.items()}


def test_a_model_without_scores_is_last_not_first() -> None:
    class Silent(ToyEncoder):
        """Its training ran away: every vector is nan."""

        def vector(self, what: str) -> np.ndarray:
            return np.full(3, np.nan, np.float32)

    gold, others = poi(1), [poi(n) for n in range(2, 12)]
    found = evaluate_rerank([Record("q", [gold], others), Record("q", [gold], others[:4])], Silent())
    assert found.ranks["fused"].tolist() == [11, 5], "the empty end of a shorter list is no candidate"
    away = [bruteforce.metres(p.lng, p.lat, gold.lng, gold.lat) for p in others]
    assert found.metrics["fused"]["median_error_m"] == pytest.approx((max(away) + max(away[:4])) / 2, rel=1e-9)


def test_texts_are_cut_for_the_scores_and_whole_for_the_gold() -> None:
    """As published: candidates that read the same up to the cut tie, but are not gold for that."""
    gold, twin = Passage("abcd north", 120.0, 30.0), Passage("abcd south", 120.0, 30.0)
    record = Record("some query", [gold], [twin])
    cut = rerank_scores([record], EMBEDDER, max_chars=4)["fused"][0]
    short = bruteforce.scores(EMBEDDER, "some", Passage("abcd", 120.0, 30.0))["fused"]
    assert cut.tolist() == [short, short]
    assert evaluate_rerank([record], EMBEDDER, max_chars=4).ranks["fused"].tolist() == [2]


def test_scores_by_a_real_model_are_row_products_and_bit_equal_for_equal_candidates(rows: list[Record]) -> None:
    encoder = TorchEncoder(toy_checkpoint(), batch_tokens=40)
    found = rerank_scores(rows[:8], encoder)
    seen: dict[tuple, list[float]] = {}
    for i, record in enumerate(rows[:8]):
        query = encoder.queries([record.query])[0].astype(np.float64)
        for j, p in enumerate(record.passages):
            text = query @ encoder.poi_texts([p.text])[0]
            place = query @ encoder.locations([p.lng], [p.lat])[0]
            values = [found[kind][i, j] for kind in bruteforce.KINDS]
            assert values == pytest.approx([text, place, text + place], abs=1e-5)
            assert seen.setdefault((i, p.key), values) == values
        assert (found["fused"][i, len(record.passages) :] == -np.inf).all()
