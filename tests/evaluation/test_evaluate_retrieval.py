"""The whole POI table against loops: repeated rows, ties, gold that is not there."""

from __future__ import annotations

import bruteforce
import numpy as np
import pandas as pd
import pytest
from bruteforce import poi, records
from toy import ToyEmbedder

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.retrieval import evaluate_retrieval
from m3gal_cli.retrieval import database
from m3gal_cli.retrieval.lexical import LexicalIndex

EMBEDDER = ToyEmbedder()
ROWS = [poi(n) for n in [*range(3, 20), 5, 5, 9, 17]]  # repeated rows; 0, 1 and 2 are missing


def table(rows: list[Passage]) -> pd.DataFrame:
    return pd.DataFrame([(p.text, p.lng, p.lat) for p in rows], columns=["address", "lng", "lat"])


def wanted(queries: list[Record], kind: str) -> list[tuple[float, float]]:
    out = []
    for record in queries:
        if kind == "bm25":
            values = LexicalIndex([p.text for p in ROWS]).scores(record.query).tolist()
        else:
            values = [bruteforce.scores(EMBEDDER, record.query, p)[kind] for p in ROWS]
        out.append(bruteforce.rank_and_error(values, ROWS, record))
    return out


@pytest.mark.parametrize("at_once", [1, 70, 30_000_000])
def test_metrics_against_loops(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(database, "SCORES_AT_ONCE", at_once)
    queries = records(47, seed=3)  # the last run of queries is a short one
    found = evaluate_retrieval(queries, table(ROWS), EMBEDDER, bm25=True)
    assert set(found.metrics) == {*bruteforce.KINDS, "bm25"}
    for kind, metrics in found.metrics.items():
        by_loops = wanted(queries, kind)
        assert [np.inf if r == MISS else r for r in found.ranks[kind].tolist()] == [rank for rank, _ in by_loops]
        figures = bruteforce.figures(by_loops)
        assert {name: metrics[name] for name in figures} == pytest.approx(figures, rel=1e-9, abs=1e-6)
    missing = int((found.ranks["fused"] == MISS).sum())
    assert 0 < missing < 47
    assert found.notes == [f"{missing} of 47 queries have no gold in the database: counted as misses"]
    for name, values in bruteforce.slices(queries, found.ranks["fused"].tolist()).items():
        assert {k: found.slices[name][k] for k in values} == pytest.approx(values)
    printed = found.to_json("runs/a")
    assert (printed["n_queries"], printed["n_pois"]) == (47, len(ROWS))
    assert "n_candidates" not in printed


def test_rows_equal_to_the_gold_are_gold_and_any_other_tie_loses() -> None:
    gold = Passage("gold", 120.0, 30.0)
    record = Record("q", [gold], [])
    for rows, ranks in (
        ([gold, gold, gold], {"text": 1, "location": 1, "fused": 1}),
        ([gold, gold, Passage("gold", 120.1, 30.0)], {"text": 2}),
        ([Passage("else", 120.0, 30.0), gold, Passage("more", 120.0, 30.0)], {"location": 3}),
    ):
        found = evaluate_retrieval([record], table(rows), EMBEDDER).ranks
        assert {kind: found[kind].tolist() for kind in ranks} == {kind: [rank] for kind, rank in ranks.items()}


def test_blanks_and_millimetres_do_not_hide_the_gold() -> None:
    row = Passage(" gold ", 120.0 + 1e-9, 30.0)
    found = evaluate_retrieval([Record("q", [Passage("gold", 120.0, 30.0)], [])], table([row]), EMBEDDER)
    assert found.ranks["fused"].tolist() == [1]
    assert found.notes == []


def test_a_table_of_other_pois_is_refused() -> None:
    with pytest.raises(InputError, match="no positive passage of the records is in the POI table"):
        evaluate_retrieval([Record("q", [poi(0)], [poi(3)])], table(ROWS), EMBEDDER)
