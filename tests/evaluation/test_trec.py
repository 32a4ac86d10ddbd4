"""Run and qrels files, judged by ir-measures: the figures of our own table, ties and all."""

from __future__ import annotations

from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest
from ir_measures import RR, R, Success

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.evaluation.retrieval import Options, evaluate_retrieval
from m3gal_cli.evaluation.trec import document_ids, falling, query_ids, write_qrels, write_run
from tests.helpers.bruteforce import poi, records
from tests.helpers.toy_models import ToyEncoder

ROWS = [poi(n) for n in [*range(3, 20), 5, 5, 9, 17]]  # repeated rows; 0, 1 and 2 are missing
# Ids that a tool which breaks ties by them, either way, would order in favour of some gold.
IDS = [f"{'za'[i % 2]} {i * 8 % 21}" for i in range(len(ROWS))]


def judged(queries: list[Record], folder: Path) -> tuple[Evaluation, dict]:
    frame = pd.DataFrame([(p.text, p.lng, p.lat) for p in ROWS], columns=["address", "lng", "lat"])
    found = evaluate_retrieval(queries, frame, ToyEncoder(), Options(depth=100))
    assert found.found is not None
    names, documents = query_ids(queries), document_ids(IDS)
    write_run(folder / "a.trec", found.found, names, documents)
    write_qrels(folder / "a.qrels", found.found, names, documents)
    measures = [m @ k for m in (R, RR, Success) for k in (1, 3, 5, 10, 20)]
    qrels, run = ir_measures.read_trec_qrels(str(folder / "a.qrels")), ir_measures.read_trec_run(str(folder / "a.trec"))
    return found, {str(m): v for m, v in ir_measures.calc_aggregate(measures, qrels, run).items()}


def test_one_gold_place_a_query(tmp_path: Path) -> None:
    """Recall@k is ours, and so is RR@k; with gold that the table does not have, and gold that it has twice."""
    queries = [Record(r.query, r.positives[:1], r.negatives, r.query_id) for r in records(200, seed=4)]
    found, told = judged(queries, tmp_path)
    ranks = found.ranks["fused"]
    assert (ranks == MISS).any()
    for k in (1, 3, 5, 10, 20):
        assert told[f"R@{k}"] == pytest.approx((ranks <= k).mean(), abs=1e-12)
        assert told[f"RR@{k}"] == pytest.approx(np.where(ranks <= k, 1 / ranks, 0).mean(), abs=1e-12)
    metrics = found.metrics["fused"]
    assert told["R@1"] == pytest.approx(metrics["recall@1"])
    assert told["R@5"] == pytest.approx(metrics["recall@5"])
    assert told["R@10"] == pytest.approx(metrics["recall@10"])
    assert told["RR@5"] == pytest.approx(metrics["mrr@5"])
    assert 0 < metrics["recall@1"] < metrics["recall@5"] < 1


def test_several_gold_places_a_query(tmp_path: Path) -> None:
    """Ours tells whether any is found: success@k, and RR@k."""
    found, told = judged(records(200, seed=5), tmp_path)
    for k in (1, 3, 5):
        assert told[f"Success@{k}"] == pytest.approx(found.metrics["fused"][f"recall@{k}"])
        assert told[f"RR@{k}"] == pytest.approx(found.metrics["fused"][f"mrr@{k}"])


def test_lines(tmp_path: Path) -> None:
    found, _ = judged(records(3, seed=6), tmp_path)
    lines = [line.split(" ") for line in (tmp_path / "a.trec").read_text().splitlines()]
    assert found.found is not None
    assert len(lines) == sum(len(rows) for rows, _ in found.found.matches)
    for number, (rows, _) in enumerate(found.found.matches):
        own = [line for line in lines if line[0] == str(number)]
        assert [line[2] for line in own] == [IDS[row].replace(" ", "_") for row in rows]
        assert [int(line[3]) for line in own] == list(range(1, len(rows) + 1))
        assert (np.diff([float(line[4]) for line in own]) < 0).all()
        assert {(line[1], line[5]) for line in own} == {("Q0", "m3gal")}
    for line in (tmp_path / "a.qrels").read_text().splitlines():
        _query, zero, name, one = line.split(" ")
        assert (zero, one) == ("0", "1")
        assert name in {i.replace(" ", "_") for i in IDS} | {"not-in-the-table"}


def test_scores_fall_strictly_and_stay_where_they_are() -> None:
    exact = np.array([1.0, 1.0, 1.0, 1.0 - 1e-12, 0.5, 0.5, 0.25, -1.0])
    found = falling(exact)
    assert (np.diff(found) < 0).all()
    np.testing.assert_allclose(found, exact, atol=1e-6)
    assert found[[0, 4, 6, 7]].tolist() == exact[[0, 4, 6, 7]].tolist()
    assert [float(f"{s:.9g}") for s in found.tolist()] == pytest.approx(found.tolist(), rel=1e-9)
    assert np.array([f"{s:.9g}" for s in found.tolist()], np.float32).tolist() == found.tolist()


def test_ids() -> None:
    assert document_ids(["a b", "a\t b", "a_b", 7, "not-in-the-table"]) == [
        "a_b",
        "a_b#1",
        "a_b#2",
        "7",
        "not-in-the-table#4",
    ]
    some = [Record("q", [poi(1)], [], name) for name in ("x 1", "y", "z")]
    assert query_ids(some) == ["x_1", "y", "z"]
    assert query_ids([*some, Record("q", [poi(1)], [], "y")]) == ["1", "2", "3", "4"]
    assert query_ids([*some, Record("q", [poi(1)], [])]) == ["1", "2", "3", "4"]
