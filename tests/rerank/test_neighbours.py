"""Neighbour features against loops over all pairs of candidates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.features import FEATURES
from m3gal_cli.text.folding import fold
from m3gal_cli.text.terms import Terms
from tests.helpers.plain_terms import ADDRESSES, QUERIES, PlainTable, case, context, plain_halves, plain_ngrams

TABLE = PlainTable()


def best_neighbour(part: str, candidates: Candidates, rows: list[int], reach_m: float) -> list[float]:
    wanted, out = plain_ngrams(part), []
    for i, row in enumerate(rows):
        best = 0.0
        for j, other in enumerate(rows):
            gained = TABLE.rows[other].ngrams - TABLE.rows[row].ngrams
            metres = float(haversine_m(*(x[k] for k in (i, j) for x in (candidates.lng, candidates.lat))))
            best = max(best, TABLE.share(wanted, gained) * math.exp(-metres / reach_m))
        out.append(best)
    return out


def check(text: str, candidates: Candidates, rows: list[int]) -> None:
    first, second = plain_halves(fold(text))
    parts = (("coverage", fold(text), 1500.0), ("first_half", first, 500.0), ("second_half", second, 500.0))
    for name, part, reach_m in parts:
        found = FEATURES[f"neighbour_{name}"].compute(context(text, candidates))
        # Each share of an n-gram is rounded to a step of 1/4096.
        bound = len(plain_ngrams(part)) / 8192 + 1e-3
        np.testing.assert_allclose(found, best_neighbour(part, candidates, rows, reach_m), atol=bound, err_msg=name)


@pytest.mark.parametrize("text", QUERIES)
def test_the_best_neighbour_counts_by_what_the_candidate_lacks(text: str) -> None:
    check(text, case(), list(range(len(ADDRESSES))))


@pytest.mark.parametrize("where", ["date line", "pole"])
def test_neighbours_across_the_date_line_and_at_the_pole(where: str) -> None:
    draw, count = np.random.default_rng(0), 40
    rows = draw.integers(0, len(ADDRESSES), count).tolist()
    lng, lat = (179.99 + draw.uniform(0, 0.02, count) + 180) % 360 - 180, draw.uniform(0, 0.02, count)
    if where == "pole":
        lng, lat = draw.uniform(-180, 180, count), 90 - draw.uniform(0, 0.01, count)
    terms = Terms.of([ADDRESSES[row] for row in rows])
    check("pharmacy main street 5", Candidates(np.zeros(count), np.zeros(count), terms, lng, lat), rows)


def test_neighbours_of_some_candidates_are_all_candidates() -> None:
    every, positions = context(Query(1, "pharmacy hotel kamp"), case()), np.array([0, 3, 9])
    for name in ("neighbour_coverage", "neighbour_first_half", "neighbour_second_half"):
        found = FEATURES[name].compute(every.take(positions))
        assert found.tolist() == FEATURES[name].compute(every)[positions].tolist()
        assert found.max() > 0.1
