"""Ranks of changed queries: equal to those of an own evaluation of these queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.text.perturbations import PERTURBATIONS, perturb
from tests.helpers.bruteforce import ROWS, poi, records, table
from tests.helpers.toy_models import ToyEncoder, reranker_weights

QUERIES = [replace(r, query=f"{r.query} Käpy") if i % 3 else r for i, r in enumerate(records(40, seed=3))]
WEIGHTS = reranker_weights(dense_score=0.02, name_coverage=0.3, neighbour_coverage=0.2, nearness_2500m=0.5)


class CountingEncoder(ToyEncoder):
    """An encoder that counts the texts of POIs."""

    texts = 0

    def encode_poi_texts(self, texts: Any, progress: Any = None) -> Any:
        self.texts += len(texts)
        return super().encode_poi_texts(texts, progress)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["fused", "reranked"])
def test_each_kind_has_the_metrics_of_an_evaluation_of_its_queries(weights: Any) -> None:
    encoder = CountingEncoder()
    options = RetrievalOptions(reranker=weights, perturb=True, seed=7)
    evaluation = evaluate_retrieval(QUERIES, table(ROWS), encoder, options)
    plain = evaluate_retrieval(QUERIES, table(ROWS), ToyEncoder(), replace(options, perturb=False))
    assert encoder.texts == len({p.text for p in ROWS}), "POIs are encoded once"
    assert evaluation.metrics == plain.metrics, "the changed queries do not count elsewhere"
    assert evaluation.top is not None
    assert plain.top is not None
    assert evaluation.top.gold.tolist() == plain.top.gold.tolist()
    kind_of_score = "fused" if weights is None else "reranked"
    found = evaluation.robustness
    assert found is not None
    assert list(found) == ["unchanged", *PERTURBATIONS]
    names = ("recall@1", "recall@5", "recall@20", "mrr@5")
    before = {name: plain.metrics[kind_of_score][name] for name in names}
    assert found["unchanged"] == {"n_queries": 40} | before | {"unchanged_recall@1": before["recall@1"]}
    counts = {}
    for kind in PERTURBATIONS:
        changed = [(i, perturb(r.query, kind, 7)) for i, r in enumerate(QUERIES)]
        changed = [(i, text) for i, text in changed if text != QUERIES[i].query]
        own = [replace(QUERIES[i], query=text) for i, text in changed]
        expected = evaluate_retrieval(own, table(ROWS), ToyEncoder(), replace(options, perturb=False))
        row = {name: expected.metrics[kind_of_score][name] for name in names}
        ranks = plain.ranks[kind_of_score][[i for i, _ in changed]]
        assert found[kind] == {"n_queries": len(own)} | row | {"unchanged_recall@1": np.mean(ranks == 1)}
        counts[kind] = len(own)
    assert counts["no diacritics"] == counts["transliterated"] == 26, "queries without diacritics are left out"
    assert counts["one edit"] == 40
    assert evaluation.to_json("run")["robustness"] == found


def test_a_query_whose_gold_is_not_in_the_table_stays_a_miss() -> None:
    nowhere = Record("nowhere", [Passage("nowhere", 1.0, 2.0)], [])
    one = evaluate_retrieval(
        [nowhere, Record("12", [poi(5)], [])], table(ROWS), ToyEncoder(), RetrievalOptions(perturb=True)
    )
    assert one.robustness is not None
    assert one.ranks["fused"][0] == MISS
    row = {"n_queries": 1, "recall@1": 0.0, "recall@5": 0.0, "recall@20": 0.0, "mrr@5": 0.0, "unchanged_recall@1": 0.0}
    assert one.robustness["one edit"] == row, "the query of the other gold has no letters"
    assert one.robustness["swapped words"] == {"n_queries": 0}
