"""The whole POI table against loops: repeated rows, ties, gold that is not there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation import reranked as evaluation_hybrid
from m3gal_cli.evaluation import retrieval
from m3gal_cli.evaluation import score_stream as stream
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.retrieval import Options, evaluate_retrieval
from m3gal_cli.rerank import linear as hybrid_module
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import LinearReranker
from m3gal_cli.text.bm25 import LexicalIndex
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers import bruteforce
from tests.helpers.bruteforce import poi, records
from tests.helpers.toy_models import CrowdedEncoder, ToyEncoder, weights_of

EMBEDDER = ToyEncoder()
ROWS = [poi(n) for n in [*range(3, 20), 5, 5, 9, 17]]  # repeated rows; 0, 1 and 2 are missing
FIRST = [[p.key for p in ROWS].index(p.key) for p in ROWS]  # of each row, the first that is the same place
PLACES = sorted(set(FIRST))


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


@pytest.mark.parametrize("at_once", [1, 3, 4096])
def test_metrics_against_loops(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    for name in ("ROWS_AT_ONCE", "QUERIES_AT_ONCE"):
        monkeypatch.setattr(stream, name, {"cpu": at_once})
    monkeypatch.setattr(stream, "PLACES_AT_ONCE", max(2, at_once))
    queries = records(47, seed=3)  # the last run of queries is a short one
    found = evaluate_retrieval(queries, table(ROWS), EMBEDDER, Options(bm25=True))
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


def test_the_hybrid_row_scores_the_best_candidates_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first 6 places by fused scores the order is by the hybrid, the rest stay behind.

    Rows of one place are one candidate, as in an index, and count for the ranks, unless they are gold.
    """
    for module in (retrieval, hybrid_module, evaluation_hybrid):
        monkeypatch.setattr(module, "DEPTH", 6)
    weights = weights_of(dense=0.002, name=0.3, reference=0.2, near_700m=1.5, near_2500m=0.5)
    queries, frame = records(47, seed=3), table(ROWS)
    found = evaluate_retrieval(queries, frame, EMBEDDER, Options(reranker=weights, depth=3))
    assert found.found is not None
    assert found.found.reranker is not None
    document_frequencies = DocumentFrequencies.of(frame.drop_duplicates()["address"])
    moved = repeated = 0
    for i, record in enumerate(queries):
        fused = [bruteforce.scores(EMBEDDER, record.query, p)["fused"] for p in ROWS]
        gold = [p.key in record.gold for p in ROWS]
        best = sorted(PLACES, key=lambda j: (-fused[j], gold[j], j))[:6]
        rows = [ROWS[j] for j in best]
        place = np.array([(p.lng, p.lat) for p in rows])
        own = Candidates([p.text for p in rows], np.array([fused[j] for j in best]), *place.T)
        scores = (
            LinearReranker(weights, document_frequencies)
            .scores(Query(i, record.query, record.lng, record.lat), own)
            .tolist()
        )
        by_key = {p.key: score for p, score in zip(rows, scores, strict=True)}
        every = [p for p in ROWS if p.key in by_key]
        rank, _ = bruteforce.rank_and_error([by_key[p.key] for p in every], every, record)
        wanted = rank if rank < np.inf else found.ranks["fused"][i]
        assert found.ranks["reranked"][i] == wanted
        top = {j for j, p in enumerate(ROWS) if by_key.get(p.key) == max(scores)}
        assert found.found.reranker[i] in top
        assert (found.found.reranker[i] in {j for j, g in enumerate(gold) if g}) == (wanted == 1)
        moved += wanted != found.ranks["fused"][i]
        repeated += len(every) > 6
    assert moved > 5
    assert repeated > 5
    assert "reranked" in found.metrics
    assert found.found is not None
    assert {len(rows) for rows, _ in found.found.matches} == {3}, "the run file asks for fewer"
    plain = evaluate_retrieval(queries, frame, EMBEDDER, Options(depth=3))
    assert (plain.ranks["fused"] == found.ranks["fused"]).all()
    assert "reranked" not in plain.metrics


@pytest.mark.parametrize("at_once", [13, 4096])
def test_a_table_that_repeats_all_its_rows_has_the_same_candidates(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """As many places are looked at, however many rows they fill: the best one stays the best."""
    monkeypatch.setattr(stream, "ROWS_AT_ONCE", {"cpu": at_once})
    for module in (retrieval, hybrid_module, evaluation_hybrid):
        monkeypatch.setattr(module, "DEPTH", 6)
    queries, places = records(47, seed=3), [ROWS[row] for row in PLACES]
    options = Options(reranker=weights_of(dense=0.002, name=0.3, reference=0.2, near_700m=1.5, near_2500m=0.5))
    once, often = (evaluate_retrieval(queries, table(places * n), EMBEDDER, options) for n in (1, 4))
    assert ((once.ranks["reranked"] == 1) == (often.ranks["reranked"] == 1)).all()
    best = [[found.found.reranker[i] % len(places) for i in range(47)] for found in (once, often) if found.found]
    assert best[0] == best[1]
    assert len(set(best[0])) > 5


def test_matches_in_the_order_of_the_hybrid_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its candidates first, as its ranks say; behind them what the vectors found next, in their order."""
    for module in (retrieval, hybrid_module, evaluation_hybrid):
        monkeypatch.setattr(module, "DEPTH", 6)
    weights = weights_of(dense=0.002, name=0.3, reference=0.2, near_700m=1.5, near_2500m=0.5)
    queries, frame = records(47, seed=3), table(ROWS)
    by = {
        order: evaluate_retrieval(queries, frame, EMBEDDER, Options(reranker=weights, depth=11, order=order))
        for order in ("fused", "reranked")
    }
    fused, found = by["fused"].found, by["reranked"].found
    assert fused is not None
    assert found is not None
    moved = 0
    for i, record in enumerate(queries):
        (rows, scores), (before, as_fused) = found.matches[i], fused.matches[i]
        places = list(dict.fromkeys(FIRST[row] for row in before))[:6]
        own = sum(FIRST[row] in places for row in before)  # rows of the candidates
        assert set(rows[:own]) == set(before[:own])
        assert rows[own:].tolist() == before[own:].tolist()
        assert (np.diff(scores) <= 0).all()
        assert np.diff(scores[own - 1 :]) == pytest.approx(np.diff(as_fused[own - 1 :]))
        moved += rows.tolist() != before.tolist()
        gold = np.array([ROWS[row].key in record.gold for row in rows])
        if gold.any():
            assert by["reranked"].ranks["reranked"][i] == np.flatnonzero(gold)[0] + 1
    assert moved > 20
    wanted = bruteforce.slices(queries, by["reranked"].ranks["reranked"].tolist())
    for name, values in wanted.items():
        assert {k: by["reranked"].reranked_slices[name][k] for k in values} == pytest.approx(values)
    assert by["reranked"].to_json("runs/a")["reranked_slices"] == by["fused"].reranked_slices != by["fused"].slices
    assert found.reranker is not None
    assert found.reranker.tolist() == [rows[0] for rows, _ in found.matches]


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


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2, "what the workers set is theirs"
    torch.set_num_threads(before)


def crowd(seed: int = 5) -> tuple[list[Record], list[Passage]]:
    """Queries, and a table of rows of which hundreds differ by less than float32 products can tell."""
    draw = np.random.default_rng(seed)
    rows = [
        Passage(f"poi {t}", 120 + p % 9 / 100, 30 + p // 9 / 100)
        for t, p in zip(draw.integers(0, 150, 400), draw.integers(0, 60, 400), strict=True)
    ]
    queries = [Record(f"typed {i}", [rows[j] for j in draw.integers(0, 400, 1 + i % 2)], []) for i in range(40)]
    return queries, rows


def test_where_float32_cannot_tell(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    """Whatever the blocks are, and with any number of threads, ranks are those of float64."""
    queries, rows = crowd()
    encoder = CrowdedEncoder()
    text = encoder.poi_texts([p.text for p in rows]).astype(np.float64)
    place = encoder.locations([p.lng for p in rows], [p.lat for p in rows]).astype(np.float64)
    asked = encoder.queries([r.query for r in queries]).astype(np.float64)
    # By cumulative sums, which add in the order of the columns for every row: equal rows are equal.
    scores = {
        kind: np.stack([(v * q).cumsum(axis=1)[:, -1] for q in asked])
        for kind, v in (("text", text), ("location", place))
    }
    scores["fused"] = scores["text"] + scores["location"]
    narrow = np.sort(scores["fused"], axis=1)[:, -12]
    assert (scores["fused"].max(axis=1) - narrow < 1e-5).mean() > 0.5, "too far apart: this test would show little"
    found = []
    for block, run, places in ((7, 5, 3), (64, 40, 16), (4096, 256, 8192)):
        monkeypatch.setattr(stream, "ROWS_AT_ONCE", {"cpu": block})
        monkeypatch.setattr(stream, "QUERIES_AT_ONCE", {"cpu": run})
        monkeypatch.setattr(stream, "PLACES_AT_ONCE", places)
        found.append(evaluate_retrieval(queries, table(rows), encoder, Options(depth=20)))
    for kind, every in scores.items():
        by_loops = [
            bruteforce.rank_and_error(line.tolist(), rows, record) for line, record in zip(every, queries, strict=True)
        ]
        for one in found:
            assert one.ranks[kind].tolist() == [rank for rank, _ in by_loops]
            figures = bruteforce.figures(by_loops)
            assert {n: one.metrics[kind][n] for n in figures} == pytest.approx(figures, rel=1e-9, abs=1e-6)
    for one in found[1:]:
        for (rows_a, scores_a), (rows_b, scores_b) in zip(one.found.matches, found[0].found.matches, strict=True):
            assert rows_a.tolist() == rows_b.tolist()
            assert scores_a.tolist() == scores_b.tolist()


@pytest.mark.parametrize("depth", [1, 7, 100])
def test_the_first_matches_are_a_sort_with_gold_last_among_equals(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(stream, "ROWS_AT_ONCE", {"cpu": 9})
    monkeypatch.setattr(stream, "PLACES_AT_ONCE", 4)
    queries = records(47, seed=3)
    found = evaluate_retrieval(queries, table(ROWS), EMBEDDER, Options(depth=depth)).found
    for number, (record, (rows, scores)) in enumerate(zip(queries, found.matches, strict=True)):
        own = [row for row, p in enumerate(ROWS) if p.key not in record.gold or FIRST[row] == row]
        values = {row: bruteforce.scores(EMBEDDER, record.query, ROWS[row])["fused"] for row in own}
        wanted = sorted(own, key=lambda row: (-values[row], ROWS[row].key in record.gold, FIRST[row], row))[:depth]
        assert rows.tolist() == wanted
        assert scores.tolist() == [values[row] for row in wanted]
        gold = found.gold[found.gold[:, 0] == number, 1].tolist()
        assert gold == [row for row in PLACES if ROWS[row].key in record.gold]


class Partly(ToyEncoder):
    """A model of which some vectors are none."""

    def vector(self, what: str) -> np.ndarray:
        found = super().vector(what)
        return np.full_like(found, np.nan) if what in BROKEN else found


BROKEN = {"query typed 3", "poi poi 5", "poi poi 6", "place (120.01, 30.02)"}


def test_what_has_no_score_is_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ROWS_AT_ONCE", {"cpu": 6})
    queries, encoder = records(20, seed=3), Partly()
    found = evaluate_retrieval(queries, table(ROWS), encoder, Options(depth=40))
    for kind in bruteforce.KINDS:
        by_loops = []
        for record in queries:
            values = [bruteforce.scores(encoder, record.query, p)[kind] for p in ROWS]
            values = [-np.inf if np.isnan(v) else v for v in values]
            by_loops.append(bruteforce.rank_and_error(values, ROWS, record))
        assert [np.inf if r == MISS else r for r in found.ranks[kind].tolist()] == [rank for rank, _ in by_loops]
        figures = bruteforce.figures(by_loops)
        assert {n: found.metrics[kind][n] for n in figures} == pytest.approx(figures, rel=1e-9, abs=1e-6)
    assert not len(found.found.matches[3][0])


def test_stages_are_told_to_their_ends() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    queries = records(12, seed=3)
    evaluate_retrieval(
        queries,
        table(ROWS),
        EMBEDDER,
        Options(bm25=True),
        lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    assert told["counting"][-1] == (len(ROWS), len(ROWS))
    assert told["BM25"] == [(i, 12) for i in range(1, 13)]
