"""Scores, ranks and weights against counting by hand and by brute force."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from quality.board import NEAR_M, WEIGHTS, Board, learn_weights, lexical_scores, milliseconds, weighted

from m3gal_cli.data.coordinates import METRES_PER_DEGREE
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.retrieval.lexical import LexicalIndex

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


def test_learned_weights_are_the_first_of_the_best() -> None:
    board = Board(RECORDS, POIS)
    draw = np.random.default_rng(1)
    base, *terms = draw.normal(size=(3, 3, 5))

    def quality(weights: tuple[float, ...]) -> float:
        ranks = board.judge(base + weights[0] * terms[0] + weights[1] * terms[1]).ranks
        return sum(1 / rank for rank in ranks)

    tried = list(product(WEIGHTS, WEIGHTS))
    assert learn_weights(board, base, terms) == max(tried, key=quality)  # max takes the first
    assert quality(learn_weights(board, base, terms)) > quality((0.0, 0.0))
    assert learn_weights(board, base, [np.zeros_like(base)]) == (0.0,)
    np.testing.assert_allclose(weighted(base, terms, (0.5, 2.0)), base + 0.5 * terms[0] + 2 * terms[1])


def test_milliseconds_are_of_one_query() -> None:
    asked: list[int] = []
    assert 0 <= milliseconds(asked.append, 3) < 50
    assert asked == [0, 0, 1, 2]
