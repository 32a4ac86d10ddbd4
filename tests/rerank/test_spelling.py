"""Features of names as strings against edit distances of all parts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from m3gal_cli.text.folding import fold, has_units, reading
from tests.helpers.plain_terms import (
    QUERIES,
    PlainTable,
    best_part_similarity,
    edit_distance,
    indel_similarity,
    plain_words,
    value,
)

ROWS = PlainTable().rows


def read(query: str, folded: str) -> str:
    return folded if has_units(query) else reading(folded)


@pytest.mark.parametrize("text", QUERIES)
def test_names_are_compared_as_strings(text: str) -> None:
    query = fold(text)
    names = [read(query, row.name) for row in ROWS]
    addresses = [read(query, row.name + row.others).replace(" ", "") for row in ROWS]
    joined = query.replace(" ", "")

    def prefix(name: str) -> float:
        start = name.replace(" ", "")[: len(joined)]
        return 1 - edit_distance(joined, start) / len(joined) if joined else 1.0

    expected = {
        "name_similarity": [indel_similarity(query, name) for name in names],
        "name_part": [best_part_similarity(query, n) * min(1, len(query) / max(len(n), 1)) for n in names],
        "joined_part": [best_part_similarity(joined, address) for address in addresses],
        "prefix_similarity": [prefix(name) for name in names],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(value(name, text), values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("text", QUERIES)
def test_the_last_four_words_are_compared_as_multisets(text: str) -> None:
    query, expected = plain_words(fold(text))[-4:], []
    for row in ROWS:
        own = plain_words(row.name)[-4:]
        expected.append(2 * (Counter(query) & Counter(own)).total() / max(len(query) + len(own), 1))
    np.testing.assert_allclose(value("suffix_similarity", text), expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bmc", [1, 0, 0, 3 / 4]),
        ("bm", [2 / 3, 1, 0, 2 / 4]),
        ("wfj", [0, 0, 1, 0]),
        ("b", [0, 0, 0, 0]),
        ("b m", [2 / 3, 1, 0, 2 / 4]),
        ("b2", [0, 0, 0, 0]),
    ],
)
def test_a_query_may_be_the_initials_of_a_name(text: str, expected: list[float]) -> None:
    names = ["Bayview Medical Center", "Blue Moon", "王府井", "Bay Mall Corner 2"]
    assert value("initials", text, names) == pytest.approx(expected)


def test_a_latin_query_is_compared_with_the_reading_of_a_name() -> None:
    assert value("name_similarity", "wangfujing", ["王府井", "Wangfujing", "王"]) == pytest.approx([1, 1, 8 / 14])
    assert value("name_similarity", "王府井", ["王府井", "Wangfujing"]).tolist() == [1, 0]
