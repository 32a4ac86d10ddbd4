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
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.evaluation.trec import document_ids, query_ids, strictly_decreasing, write_qrels, write_run
from tests.helpers.bruteforce import ROWS, poi, records, table
from tests.helpers.toy_models import ToyEncoder

# A tool that breaks ties by these ids, ascending or descending, would favour some gold.
IDS = [f"{'za'[i % 2]} {i * 8 % 21}" for i in range(len(ROWS))]


def evaluated(queries: list[Record], folder: Path) -> tuple[Evaluation, dict[str, float]]:
    """Return the evaluation, and the metrics that ir-measures computes from its files."""
    evaluation = evaluate_retrieval(queries, table(ROWS), ToyEncoder(), RetrievalOptions(depth=100))
    assert evaluation.top is not None
    names, documents = query_ids(queries), document_ids(IDS)
    write_run(folder / "a.trec", evaluation.top, names, documents)
    write_qrels(folder / "a.qrels", evaluation.top, names, documents)
    measures = [m @ k for m in (R, RR, Success) for k in (1, 3, 5, 10, 20)]
    qrels, run = ir_measures.read_trec_qrels(str(folder / "a.qrels")), ir_measures.read_trec_run(str(folder / "a.trec"))
    return evaluation, {str(m): v for m, v in ir_measures.calc_aggregate(measures, qrels, run).items()}


@pytest.mark.parametrize("golds", [1, None])
def test_metrics_of_other_tools_are_equal(tmp_path: Path, golds: int | None) -> None:
    """Recall@k is success@k: whether any gold is among the first k. Some gold is missing in the table or repeated."""
    queries = [Record(r.query, r.positives[:golds], r.negatives, r.query_id) for r in records(200, seed=4)]
    evaluation, measured = evaluated(queries, tmp_path)
    ranks = evaluation.ranks["fused"]
    assert (ranks == MISS).any()
    assert 0 < evaluation.metrics["fused"]["recall@1"] < 1
    for k in (1, 3, 5, 10, 20):
        assert measured[f"Success@{k}"] == pytest.approx(recall_at(ranks, k), abs=1e-12)
        assert measured[f"RR@{k}"] == pytest.approx(mrr_at(ranks, k), abs=1e-12)
        if golds == 1:
            assert measured[f"R@{k}"] == measured[f"Success@{k}"]


def test_lines(tmp_path: Path) -> None:
    evaluation, _ = evaluated(records(3, seed=6), tmp_path)
    lines = [line.split(" ") for line in (tmp_path / "a.trec").read_text().splitlines()]
    assert evaluation.top is not None
    assert len(lines) == sum(len(rows) for rows, _ in evaluation.top.matches)
    for number, (rows, _) in enumerate(evaluation.top.matches):
        own = [line for line in lines if line[0] == str(number)]
        assert [line[2] for line in own] == [IDS[row].replace(" ", "_") for row in rows]
        assert [int(line[3]) for line in own] == list(range(1, len(rows) + 1))
        assert (np.diff([float(line[4]) for line in own]) < 0).all()
        assert {(line[1], line[5]) for line in own} == {("Q0", "m3gal")}
    for line in (tmp_path / "a.qrels").read_text().splitlines():
        _query, zero, name, one = line.split(" ")
        assert (zero, one) == ("0", "1")
        assert name in {i.replace(" ", "_") for i in IDS} | {"not-in-the-table"}


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
