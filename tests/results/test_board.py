"""Scores, ranks and weights against counting by hand and by brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from quality.board import NEAR_M, Board, learn_weights, lexical_scores, milliseconds, unlikeliness, weighted

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.geo.coordinates import METRES_PER_DEGREE
from m3gal_cli.text.bm25 import LexicalIndex

ROWS = [("mill lane 1", 24.0, 60.0), ("mill lane 2", 24.0, 60.1), ("mill lane 1", 24.0, 60.0), ("castle", 25.0, 60.0)]
POIS = pd.DataFrame(ROWS, columns=["address", "lng", "lat"])
MILL, LANE, CASTLE = (Passage(*ROWS[i]) for i in (0, 1, 3))
ELSEWHERE = Passage("harbour", 26.0, 60.0)  # a candidate that is not in the table
RECORDS = [
    Record("one", [MILL], [LANE, ELSEWHERE], lng=24.0, lat=60.0),
    Record("two", [CASTLE], [MILL, LANE]),
    Record("three", [LANE], [CASTLE, ELSEWHERE, LANE], lng=24.0, lat=60.1 + NEAR_M / METRES_PER_DEGREE),
]


def by_hand(scores: np.ndarray, places: list[tuple[str, float, float]], gold: Passage) -> int:
    """1 + all that is not gold and not below the best gold."""
    right = [place == (gold.text, gold.lng, gold.lat) for place in places]
    best = max(score for score, ok in zip(scores, right, strict=True) if ok)
    return 1 + sum(score >= best and not ok for score, ok in zip(scores, right, strict=True))


def test_ranks_are_those_counted_by_hand() -> None:
    board = Board(RECORDS, POIS)
    places = [*ROWS, ("harbour", 26.0, 60.0)]
    assert list(zip(board.texts, board.lng, board.lat, strict=True)) == places
    draw = np.random.default_rng(0)
    for _ in range(50):
        scores = draw.integers(0, 3, (3, 5)).astype(float)  # many ties
        row = board.judge(scores)
        assert row.ranks == [by_hand(s[:4], ROWS, r.positives[0]) for s, r in zip(scores, RECORDS, strict=True)]
        for i, record in enumerate(RECORDS):
            own = [(p.text, p.lng, p.lat) for p in record.passages]
            listed = np.array([scores[i, places.index(place)] for place in own])
            assert row.rerank[i] == by_hand(listed, own, record.positives[0])
            found = row.found[i]
            assert scores[i, found] == scores[i, :4].max()
            assert board.gold[i, found] == (row.ranks[i] == 1)


def test_nearness_falls_with_the_distance_and_is_nothing_where_that_is_unknown() -> None:
    near = Board(RECORDS, POIS).nearness()
    assert near[0, 0] == near[0, 2] == pytest.approx(1.0)
    assert near[0, 1] == pytest.approx(math.exp(-0.1 * METRES_PER_DEGREE / NEAR_M), rel=1e-6)
    assert (near[1] == 0).all()
    assert near[2, 1] == pytest.approx(math.exp(-1), rel=1e-6)


def test_lexical_scores_are_shares_of_the_best() -> None:
    board = Board([Record("mill lane", [MILL], []), Record("???", [MILL], [])], POIS)
    lexical = LexicalIndex(board.texts)
    scores, plain = lexical_scores(board, lexical), lexical.scores("mill lane")
    np.testing.assert_allclose(scores[0], plain / plain.max(), rtol=1e-6)
    assert (scores[1] == 0).all()  # signs alone


def test_unlikeliness_by_hand() -> None:
    scores = np.array([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]], [[0.0, 1.0, 1.0], [3.0, 0.0, 0.0]]])
    gold = np.array([[False, True, True], [False, False, False]])  # the second query has no gold
    value, gradient = unlikeliness(np.array([2.0, 0.5]), scores, gold)
    assert value == pytest.approx(-math.log(2 * math.exp(4.5) / (2 * math.exp(4.5) + math.exp(2))))
    for i, step in enumerate(np.eye(2) * 1e-6):
        moved = [unlikeliness(np.array([2.0, 0.5]) + sign * step, scores, gold)[0] for sign in (1, -1)]
        assert gradient[i] == pytest.approx((moved[0] - moved[1]) / 2e-6, abs=1e-7)


def test_learned_weights_are_the_likeliest() -> None:
    draw = np.random.default_rng(1)
    rows = [(f"place {i}", 24.0 + i / 100, 60.0) for i in range(12)]
    pois = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    board = Board([Record(f"q{i}", [Passage(*rows[i % 12])], []) for i in range(60)], pois)
    helps, hurts = 0.3 * board.gold, -0.3 * board.gold
    base, good, bad = (x + 0.3 * draw.normal(size=helps.shape) for x in (helps, helps, hurts))
    weight, nothing = learn_weights(board, base, [good, bad])
    assert nothing == 0.0
    factors = product(np.linspace(1, 12, 45), np.linspace(0.2, 2, 46))
    _, tried = min((unlikeliness(np.array([a, a * w]), np.stack([base, good]), board.gold)[0], w) for a, w in factors)
    assert weight == pytest.approx(tried, abs=0.05)
    scores = weighted(base, [good, bad], (weight, 2.0))
    np.testing.assert_allclose(scores, base + weight * good + 2 * bad)
    assert (1 / board.ranks(base + weight * good)).mean() > (1 / board.ranks(base)).mean()


def test_milliseconds_are_of_one_query() -> None:
    asked: list[int] = []
    assert 0 <= milliseconds(asked.append, 3) < 50
    assert asked == [0, 0, 1, 2]
