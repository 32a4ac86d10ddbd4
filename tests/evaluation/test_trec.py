"""Run and qrels files, evaluated by ir-measures: the same metrics, including ties."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.metrics import mrr_at, recall_at
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.evaluation.trec import document_ids, query_ids, strictly_decreasing, write_qrels, write_run
from tests.helpers.bruteforce import ROWS, poi, records, table
from tests.helpers.toy_models import ToyEncoder

# A tool that breaks ties by these ids, ascending or descending, would favour some gold.
IDS = [f"{'za'[i % 2]} {i * 8 % 21}" for i in range(len(ROWS))]


@pytest.mark.parametrize("golds", [1, None])
def test_metrics_of_other_tools_are_equal(tmp_path: Path, golds: int | None) -> None:
    """Recall@k is success@k: whether any gold is among the first k. Some gold is missing in the table or repeated."""
    queries = [Record(r.query, r.positives[:golds], r.negatives, r.query_id) for r in records(200, seed=4)]
    evaluation = evaluate_retrieval(queries, table(ROWS), ToyEncoder(), RetrievalOptions(depth=100))
    assert evaluation.top is not None
    run, qrels = tmp_path / "a.trec", tmp_path / "a.qrels"
    write_run(run, evaluation.top, query_ids(queries), document_ids(IDS))
    write_qrels(qrels, evaluation.top, query_ids(queries), document_ids(IDS))
    files = ir_measures.read_trec_qrels(str(qrels)), ir_measures.read_trec_run(str(run))
    measures = [m @ k for m in (R, RR, Success) for k in (1, 3, 5, 10, 20)]
    measured = {str(m): v for m, v in ir_measures.calc_aggregate(measures, *files).items()}
    ranks = evaluation.ranks["fused"]
    assert (ranks == MISS).any()
    assert 0 < evaluation.metrics["fused"]["recall@1"] < 1
    for k in (1, 3, 5, 10, 20):
        assert measured[f"Success@{k}"] == pytest.approx(recall_at(ranks, k), abs=1e-12)
        assert measured[f"RR@{k}"] == pytest.approx(mrr_at(ranks, k), abs=1e-12)
        if golds == 1:
            assert measured[f"R@{k}"] == measured[f"Success@{k}"]


def test_written_scores_decrease_strictly_and_change_little() -> None:
    exact = np.array([1.0, 1.0, 1.0, 1.0 - 1e-12, 0.5, 0.5, 0.25, -1.0])
    written = strictly_decreasing(exact)
    assert (np.diff(written) < 0).all()
    np.testing.assert_allclose(written, exact, atol=1e-6)
    assert written[[0, 4, 6, 7]].tolist() == exact[[0, 4, 6, 7]].tolist()
    assert np.array([f"{s:.9g}" for s in written.tolist()], np.float32).tolist() == written.tolist()


def test_ids() -> None:
    documents = document_ids(["a b", "a\t b", "a_b", 7, "not-in-the-table"])
    assert documents == ["a_b", "a_b#1", "a_b#2", "7", "not-in-the-table#4"]
    some = [Record("q", [poi(1)], [], name) for name in ("x 1", "y", "z")]
    assert query_ids(some) == ["x_1", "y", "z"]
    assert query_ids([*some, Record("q", [poi(1)], [], "y")]) == ["1", "2", "3", "4"]
    assert query_ids([*some, Record("q", [poi(1)], [])]) == ["1", "2", "3", "4"]
