"""The full-database evaluation against loops: repeated rows, ties, missing gold, reranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.result import Evaluation, TopMatches
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.evaluation.score_stream import BlockSizes
from m3gal_cli.matching.candidates import Depths
from tests.helpers import bruteforce
from tests.helpers.bruteforce import DISTINCT, FIRST_ROWS, ROWS, poi, records, table
from tests.helpers.reranked import rerank
from tests.helpers.sparse import sparse_scores
from tests.helpers.toy_models import ClusteredEncoder, ToyEncoder, reranker_weights

ENCODER = ToyEncoder()
QUERIES = records(47, seed=3)
WEIGHTS = reranker_weights(
    dense_score=-0.002, name_coverage=0.3, neighbour_coverage=0.2, nearness_700m=1.5, nearness_2500m=0.5
)


def evaluate(
    queries: Sequence[Record] = QUERIES, rows: Sequence[Passage] = ROWS, encoder: ToyEncoder = ENCODER, **options: Any
) -> tuple[Evaluation, TopMatches]:
    evaluation = evaluate_retrieval(queries, table(rows), encoder, RetrievalOptions(**options))
    assert evaluation.top is not None
    return evaluation, evaluation.top


def sparse(query: str) -> list[float]:
    """The sparse scores of all rows, equal ones of which are equal in float32; later duplicates do not count."""
    live = [first == row for row, first in enumerate(FIRST_ROWS)]
    return [float(np.float32(score)) for score in sparse_scores([p.text for p in ROWS], query, live)]


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_ranks_and_metrics_equal_those_of_loops(size: int) -> None:
    evaluation, _ = evaluate(sparse=True, sizes=BlockSizes(size, size, max(2, size)))
    assert set(evaluation.metrics) == {*bruteforce.KINDS, "sparse"}
    for kind in bruteforce.KINDS:
        bruteforce.assert_equal(evaluation, kind, bruteforce.results(ENCODER, QUERIES, ROWS, kind))
    expected = [bruteforce.rank_and_error(sparse(r.query), ROWS, r) for r in QUERIES]
    bruteforce.assert_equal(evaluation, "sparse", expected)
    missing = int((evaluation.ranks["fused"] == MISS).sum())
    assert 0 < missing < 47
    assert evaluation.notes == [f"{missing} of 47 queries have no gold in the database: counted as misses"]
    bruteforce.assert_equal_slices(evaluation.slices, QUERIES, evaluation.ranks["fused"].tolist())


def test_the_best_pois_are_reranked_and_the_rest_stay_below() -> None:
    """Duplicates are one candidate, as in an index, and each of them counts for the ranks, unless it is gold."""
    evaluation, top = evaluate(reranker=WEIGHTS, depth=3, depths=Depths(6, 0))
    assert top.reranked_best is not None
    addresses, moved, repeated = [ROWS[row].text for row in DISTINCT], 0, 0
    for i, record in enumerate(QUERIES):
        fused = [bruteforce.scores(ENCODER, record.query, p)["fused"] for p in ROWS]
        gold = [p.key in record.gold for p in ROWS]
        best = sorted(DISTINCT, key=lambda j: (-fused[j], gold[j], j))[:6]
        rows = [ROWS[j] for j in best]
        scores = rerank(WEIGHTS, ENCODER, addresses, record, rows).candidates.tolist()
        by_key = {p.key: score for p, score in zip(rows, scores, strict=True)}
        all_rows = [p for p in ROWS if p.key in by_key]
        rank, _ = bruteforce.rank_and_error([by_key[p.key] for p in all_rows], all_rows, record)
        expected = rank if rank < np.inf else evaluation.ranks["fused"][i]
        assert evaluation.ranks["reranked"][i] == expected
        first = top.reranked_best[i]
        assert first in {j for j, p in enumerate(ROWS) if by_key.get(p.key) == max(scores)}
        assert gold[first] == (expected == 1)
        moved += expected != evaluation.ranks["fused"][i]
        repeated += len(all_rows) > 6
    assert min(moved, repeated) > 5
    assert {len(rows) for rows, _ in top.matches} == {3}


def test_pois_of_the_sparse_search_are_candidates_too() -> None:
    """Every other query is the address of its gold POI, the others are those of another POI."""
    generator = np.random.default_rng(4)
    rows = [
        Passage(f"{name} {i % 7}", 120.0 + i % 5 / 100, 30.0) for i, name in enumerate(["bar", "hôtel", "gate"] * 9)
    ]
    rows += rows[3:9]
    firsts = [[p.key for p in rows].index(p.key) for p in rows]
    golds = [rows[int(row)] for row in generator.integers(0, len(rows), 40)]
    texts = [gold.text if i % 2 else rows[i % 27].text for i, gold in enumerate(golds)]
    queries = [
        Record(f"the {text}", [gold], [], str(i)) for i, (text, gold) in enumerate(zip(texts, golds, strict=True))
    ]
    evaluation, top = evaluate(queries, rows, depth=9, order="reranked", reranker=WEIGHTS, depths=Depths(4, 3))
    addresses, live = (
        [rows[row].text for row in sorted(set(firsts))],
        [first == row for row, first in enumerate(firsts)],
    )
    found: dict[str, list[bool]] = {"dense": [], "sparse": [], "joined": []}
    sunk = 0
    for i, record in enumerate(queries):
        dense = [bruteforce.scores(ENCODER, record.query, p)["fused"] for p in rows]
        lexical = np.float32(sparse_scores([p.text for p in rows], record.query, live)).tolist()
        gold, distinct = [p.key in record.gold for p in rows], sorted(set(firsts))
        best = sorted(distinct, key=lambda j: (-dense[j], gold[j], j))[:4]
        others = sorted((j for j in distinct if lexical[j] > 0), key=lambda j: (-lexical[j], j))[:3]
        for name, chosen in (("dense", best), ("sparse", others), ("joined", best + others)):
            found[name].append(any(gold[j] for j in chosen))
        union = sorted({*best, *others}, key=lambda j: (-dense[j], j))
        scores = rerank(WEIGHTS, ENCODER, addresses, record, [rows[j] for j in union]).candidates
        logits = dict(zip(union, scores.tolist(), strict=True))
        own = [j for j in range(len(rows)) if firsts[j] in logits]
        values = [logits[firsts[j]] for j in own]
        rank, _ = bruteforce.rank_and_error(values, [rows[j] for j in own], record)
        if rank == np.inf:
            score = max(value for value, is_gold in zip(dense, gold, strict=True) if is_gold)
            below = sum(dense[j] < score for j in own)
            rank = evaluation.ranks["fused"][i] + below
            sunk += below > 0
        assert evaluation.ranks["reranked"][i] == rank
        unique = [j for j in own if not gold[j] or firsts[j] == j]
        assert set(top.matches[i][0][: len(unique)].tolist()) <= set(unique)
        assert (np.diff(top.matches[i][1]) <= 0).all()
    assert evaluation.candidates == {name: np.mean(values) for name, values in found.items()}
    assert evaluation.to_json("run")["candidates"] == evaluation.candidates
    assert 0 < evaluation.candidates["dense"] < evaluation.candidates["joined"]
    assert sunk, "some gold POI comes after candidates that only the sparse search found"


@pytest.mark.parametrize("size", [13, 4096])
def test_a_table_with_all_rows_repeated_has_the_same_candidates(size: int) -> None:
    pois = [ROWS[row] for row in DISTINCT]
    best, first = [], []
    for copies in (1, 4):
        evaluation, top = evaluate(
            rows=pois * copies, reranker=WEIGHTS, depths=Depths(6, 0), sizes=BlockSizes(rows=size)
        )
        assert top.reranked_best is not None
        best.append((top.reranked_best % len(pois)).tolist())
        first.append((evaluation.ranks["reranked"] == 1).tolist())
    assert (best[0], first[0]) == (best[1], first[1])
    assert len(set(best[0])) > 5


def test_matches_in_reranked_order_end_with_the_rest_in_fused_order() -> None:
    (fused, before), (reranked, after) = (
        evaluate(reranker=WEIGHTS, depth=11, order=order, depths=Depths(6, 0)) for order in ("fused", "reranked")
    )
    assert after.reranked_best is not None
    moved = 0
    for i, record in enumerate(QUERIES):
        (rows, scores), (fused_rows, fused_scores) = after.matches[i], before.matches[i]
        candidates = list(dict.fromkeys(FIRST_ROWS[row] for row in fused_rows))[:6]
        n = sum(FIRST_ROWS[row] in candidates for row in fused_rows)
        assert set(rows[:n]) == set(fused_rows[:n])
        assert rows[n:].tolist() == fused_rows[n:].tolist()
        assert (np.diff(scores) <= 0).all()
        assert np.diff(scores[n:]) == pytest.approx(np.diff(fused_scores[n:]))
        moved += rows.tolist() != fused_rows.tolist()
        gold = np.array([ROWS[row].key in record.gold for row in rows])
        if gold.any():
            assert reranked.ranks["reranked"][i] == np.flatnonzero(gold)[0] + 1
    assert moved > 20
    bruteforce.assert_equal_slices(reranked.reranked_slices, QUERIES, reranked.ranks["reranked"].tolist())
    assert reranked.to_json("runs/a")["reranked_slices"] == fused.reranked_slices != fused.slices
    assert after.reranked_best.tolist() == [rows[0] for rows, _ in after.matches]


def test_white_space_and_millimetres_make_no_difference() -> None:
    evaluation, _ = evaluate([Record("q", [Passage("gold", 120.0, 30.0)], [])], [Passage(" gold ", 120.0 + 1e-9, 30.0)])
    assert evaluation.ranks["fused"].tolist() == [1]


def test_a_table_of_other_pois_is_refused() -> None:
    with pytest.raises(InputError, match="no positive passage of the records is in the POI table"):
        evaluate([Record("q", [poi(0)], [poi(3)])])


def test_queries_of_the_training_records_are_reported_as_leakage() -> None:
    others = [Record(QUERIES[1].query, [poi(19)], []), Record("another query", QUERIES[0].positives, [])]
    note = evaluate(training_records=[*QUERIES[5:8], *others])[0].notes[-1]
    assert note.startswith("label leakage: 3 of 47 queries are among the training records")
    assert not any("leakage" in note for note in evaluate(training_records=others)[0].notes)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2, "the number of threads is restored"
    torch.set_num_threads(before)


def test_ranks_are_those_of_float64_where_float32_cannot_decide(two_threads: None) -> None:
    """For blocks of any size and any number of threads; hundreds of rows differ by less than the float32 error."""
    draw = np.random.default_rng(5)
    numbers = zip(draw.integers(0, 150, 400), draw.integers(0, 60, 400), strict=True)
    rows = [Passage(f"poi {t}", 120 + p % 9 / 100, 30 + p // 9 / 100) for t, p in numbers]
    queries = [Record(f"typed {i}", [rows[j] for j in draw.integers(0, 400, 1 + i % 2)], []) for i in range(40)]
    encoder = ClusteredEncoder()
    vectors = encoder.encode_queries([r.query for r in queries]).astype(np.float64)
    text = encoder.encode_poi_texts([p.text for p in rows])
    location = encoder.encode_locations([p.lng for p in rows], [p.lat for p in rows])
    # Cumulative sums add in the order of the columns for every row: equal rows have equal scores.
    scores = {
        kind: np.stack([(side.astype(np.float64) * q).cumsum(axis=1)[:, -1] for q in vectors])
        for kind, side in (("text", text), ("location", location))
    }
    scores["fused"] = scores["text"] + scores["location"]
    twelfth = np.sort(scores["fused"], axis=1)[:, -12]
    assert (scores["fused"].max(axis=1) - twelfth < 1e-5).mean() > 0.5, "else the test would show little"
    sizes = [BlockSizes(7, 5, 3), BlockSizes(64, 40, 16), BlockSizes(4096, 256, 8192)]
    evaluations = [evaluate(queries, rows, encoder, depth=20, sizes=size) for size in sizes]
    for kind, by_query in scores.items():
        expected = [bruteforce.rank_and_error(s.tolist(), rows, r) for s, r in zip(by_query, queries, strict=True)]
        for evaluation, _ in evaluations:
            bruteforce.assert_equal(evaluation, kind, expected)
    for matches in zip(*(top.matches for _, top in evaluations), strict=True):
        assert len({(tuple(rows), tuple(s)) for rows, s in matches}) == 1


@pytest.mark.parametrize("depth", [1, 7, 100])
def test_top_matches_are_a_sort_with_gold_last_among_equals(depth: int) -> None:
    _, top = evaluate(depth=depth, sizes=BlockSizes(rows=9, locations=4))
    for number, (record, (rows, scores)) in enumerate(zip(QUERIES, top.matches, strict=True)):
        own = [row for row, p in enumerate(ROWS) if p.key not in record.gold or FIRST_ROWS[row] == row]
        values = {row: bruteforce.scores(ENCODER, record.query, ROWS[row])["fused"] for row in own}
        order = sorted(own, key=lambda row: (-values[row], ROWS[row].key in record.gold, FIRST_ROWS[row], row))[:depth]
        assert rows.tolist() == order
        assert scores.tolist() == [values[row] for row in order]
        gold = top.gold[top.gold[:, 0] == number, 1].tolist()
        assert gold == [row for row in DISTINCT if ROWS[row].key in record.gold]


class PartlyBrokenEncoder(ToyEncoder):
    """An encoder with some vectors that are not finite."""

    BROKEN = frozenset({"query typed 3", "poi poi 5", "poi poi 6", "place (120.01, 30.02)"})

    def vector(self, key: str) -> np.ndarray:
        vector = super().vector(key)
        return np.full_like(vector, np.nan) if key in self.BROKEN else vector


def test_rows_without_a_finite_score_are_last() -> None:
    encoder = PartlyBrokenEncoder()
    evaluation, top = evaluate(encoder=encoder, depth=40, sizes=BlockSizes(rows=6), reranker=WEIGHTS)
    for kind in bruteforce.KINDS:
        expected = []
        for record in QUERIES:
            values = [bruteforce.scores(encoder, record.query, p)[kind] for p in ROWS]
            values = [-np.inf if np.isnan(v) else v for v in values]
            expected.append(bruteforce.rank_and_error(values, ROWS, record))
        bruteforce.assert_equal(evaluation, kind, expected)
    assert not len(top.matches[3][0])
    assert evaluation.ranks["reranked"][3] == evaluation.ranks["fused"][3], "there is nothing to rerank"
    assert top.reranked_best is not None
    assert np.flatnonzero(top.reranked_best < 0).tolist() == [3]
