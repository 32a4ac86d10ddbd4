"""Features of n-grams and numbers against sets of strings."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.text.folding import fold
from tests.helpers.plain_terms import QUERIES, PlainTable, plain_halves, plain_ngrams, plain_numbers, value

TABLE = PlainTable()


@pytest.mark.parametrize("text", QUERIES)
def test_shares_are_those_of_sets_of_ngrams(text: str) -> None:
    query, (first, second) = plain_ngrams(fold(text)), map(plain_ngrams, plain_halves(fold(text)))
    expected = {
        "query_coverage": [TABLE.share(query, row.ngrams) for row in TABLE.rows],
        "query_in_name": [TABLE.share(query, row.name_ngrams) for row in TABLE.rows],
        "name_in_query": [len(query & row.name_ngrams) / max(len(row.name_ngrams), 1) for row in TABLE.rows],
        "name_coverage": [TABLE.share(row.distinctive_ngrams, query) for row in TABLE.rows],
        "first_half_match": [TABLE.share(first, row.name_ngrams) for row in TABLE.rows],
        "second_half_match": [TABLE.share(second, row.name_ngrams) for row in TABLE.rows],
        "second_half_coverage": [TABLE.share(second, row.ngrams) for row in TABLE.rows],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(value(name, text), values, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("text", QUERIES)
def test_number_features_are_those_of_sets_of_numbers(text: str) -> None:
    query = plain_numbers(fold(text))
    for i, row in enumerate(TABLE.rows):
        matched = len(query & row.numbers) / len(query) if query else 0.0
        unmatched = -len(row.name_numbers - query) / len(row.name_numbers) if row.name_numbers else 0.0
        conflict = -1.0 if query and row.numbers and not query & row.numbers else 0.0
        found = [value(name, text)[i] for name in ("number_match", "unmatched_numbers", "number_conflict")]
        assert found == pytest.approx([matched, unmatched, conflict])


def test_numbers_match_as_a_whole() -> None:
    assert value("number_match", "gate 12 3", ["Gate 12", "Gate 1", "Gate 123", "Gate 3, 12"]).tolist() == [
        0.5,
        0,
        0,
        1,
    ]
    assert value("number_conflict", "gate 12", ["Gate 12", "Gate 1", "Gate"]).tolist() == [0, -1, 0]


def test_distinctive_ngrams_decide_between_names_that_consist_of_their_category() -> None:
    found = value(
        "name_coverage", "car park", ["Car park,car park,x,y", "Star car park,car park,x,y", "Car park,shop,x,y"]
    )
    assert found[0] == 0
    assert found[1] < found[2] == 1
