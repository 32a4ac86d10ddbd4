"""Weights of the hybrid score: the minimum of its loss, and what they are learned from."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.rerank.features import FEATURES
from m3gal_cli.training import reranker_fit as balance
from m3gal_cli.training.reranker_fit import EITHER_SIGN, PULL, Example, fit, learn, pool_of
from tests.helpers.toy_models import ToyEncoder, weights_of

E = len(FEATURES)
TRUE = np.array(weights_of(dense=2.0, name=1.0, opening=-0.7, ending=0.5, near_2500m=1.5).values)


def examples(count: int, seed: int = 0, true: np.ndarray = TRUE) -> list[Example]:
    """Gold is drawn by a softmax with known weights."""
    draw, out = np.random.default_rng(seed), []
    for _ in range(count):
        table = draw.standard_normal((int(draw.integers(3, 12)), E))
        share = np.exp(table @ true)
        out.append(Example(table, np.arange(len(table)) == draw.choice(len(table), p=share / share.sum())))
    return out


def loss(weights: np.ndarray, given: list[Example], ridge: float) -> float:
    total = 0.0
    for e in given:
        share = np.exp(e.features @ weights)
        total -= np.log(share[e.gold].sum() / share.sum())
    return total / len(given) + ridge * float(weights @ weights)


def test_the_weights_that_the_gold_was_drawn_by_come_back() -> None:
    np.testing.assert_allclose(fit(examples(4000), ridge=0.0), TRUE, atol=0.15)


def test_no_step_in_any_direction_is_better() -> None:
    given = [*examples(60, 3), Example(np.eye(E)[:4], np.array([True, False, True, False]))]
    weights = fit(given, ridge=0.01)
    least = loss(weights, given, 0.01)
    for i, name in enumerate(FEATURES):
        assert weights[i] >= 0 or name in EITHER_SIGN
        for step in (-1e-3, 1e-3):
            moved = weights.copy()
            moved[i] += step
            if name not in EITHER_SIGN:
                moved[i] = max(0.0, moved[i])
            assert loss(moved, given, 0.01) >= least - 1e-7


def test_near_what_was_known_before_no_step_is_better_either() -> None:
    given, before = examples(60, 3), np.linspace(0.2, 1.4, E)
    weights = fit(given, ridge=0.01, before=before)

    def penalised(at: np.ndarray) -> float:
        return loss(at, given, 0.0) + PULL * ((at - before) ** 2).sum()

    least = penalised(weights)
    for i, name in enumerate(FEATURES):
        for step in (-1e-3, 1e-3):
            moved = weights.copy()
            moved[i] += step
            if name not in EITHER_SIGN:
                moved[i] = max(0.0, moved[i])
            assert penalised(moved) >= least - 1e-7


def test_few_queries_come_nearer_to_the_truth_from_what_many_taught_before() -> None:
    few, many = examples(30, 5), examples(600, 6)
    alone, after = fit(few), fit(few, before=fit(many))
    test = examples(500, 7)
    assert np.linalg.norm(after - TRUE) < 0.7 * np.linalg.norm(alone - TRUE)
    assert loss(after, test, 0.0) < loss(alone, test, 0.0)


def test_all_evidence_speaks_for_a_candidate_but_that_of_the_halves() -> None:
    weights = fit(examples(2000, 1, -np.ones(E)), ridge=0.0)
    either = [name in EITHER_SIGN for name in FEATURES]
    assert (weights[either] < -0.3).all()
    assert (weights[np.logical_not(either)] == 0).all()


def record(i: int) -> Record:
    gold = Passage(f"cafe {i},street {i % 7}", 24.9 + i / 1000, 60.1)
    others = [Passage(f"shop {j},street {j}", 24.9 + j / 1000, 60.2) for j in range(5)]
    return Record(f"cafe {i}", [gold], others, lng=24.9 + i / 1000, lat=60.1)


def test_learned_on_records_with_and_without_a_table() -> None:
    records = [record(i) for i in range(30)]
    told: list[tuple[int, int]] = []
    table = pd.DataFrame(
        [(p.text, p.lng, p.lat) for r in records for p in r.passages], columns=["address", "lng", "lat"]
    )
    encoder = ToyEncoder(width=8, reach=2)
    with_table = learn(records, table, encoder, 0, lambda *both: told.append(both))  # type: ignore[arg-type]
    without = learn(records, None, encoder, 0, lambda *both: None)  # type: ignore[arg-type]
    assert with_table is not None
    assert without is not None
    assert with_table.queries == without.queries == 30
    np.testing.assert_allclose(with_table.values, without.values, atol=1e-3)
    assert with_table.named()["name"] + with_table.named()["near_700m"] > 0.5
    after = learn(records[:25], table, encoder, 0, lambda *_: None, with_table)  # type: ignore[arg-type]
    assert after is not None
    assert (after.queries, after.before) == (25, 30)
    assert learn(records[: balance.LEAST - 1], table, encoder, 0, lambda *_: None) is None  # type: ignore[arg-type]


def test_of_a_large_table_a_sample_and_all_gold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "POOL", 50)
    records = [record(i) for i in range(10)]
    rows = [(f"place {i}", 24.0 + i / 1000, 60.0) for i in range(500)]
    rows += [(p.text, p.lng, p.lat) for r in records for p in r.positives]
    table = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    pool = pool_of(records, table, 1)
    assert 50 <= len(pool) <= 60
    assert {r.positives[0].text for r in records} <= set(pool["address"])
    assert not pool.duplicated().any()
    assert pool.equals(pool_of(records, table, 1))
    assert len(pool_of(records, None, 1)) == 10 + 5
