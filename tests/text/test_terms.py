"""The terms of addresses against a plain enumeration of n-grams and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.folding import fold, has_units
from m3gal_cli.text.terms import Lists, Terms, numbers_of

ADDRESSES = [
    "Hotel Kämp, hotel, Pohjoisesplanadi 29, Kluuvi",
    "莫干山路东村43幢,住宅,莫干山路 12号,西湖区",
    "Mall 王府井 2,shop,Main Street 5,Old Town",
    "Car park,car park,Main Street 5,Old Town",
    "a",
    "...",
]
QUERIES = ["hotel kamp", "莫干山路", "wangfujing", "main st 5", "kämp", "", "x", "村43幢"]


def plain_ngrams(text: str) -> set[str]:
    """Return the n-grams of a text as strings, one kind after the other."""
    found = set()
    for run in fold(text).split():
        if has_units(run):
            found |= set(run) | {run[i : i + 2] for i in range(len(run) - 1)}
        else:
            padded = f" {run} "
            found |= {padded[i : i + 3] for i in range(len(padded) - 2)} | {f"word {run}"}
    return found


def row(lists: Lists, number: int) -> list[int]:
    return lists.take(np.array([number])).values.tolist()


def test_a_query_and_an_address_share_as_many_ngrams_as_their_plain_ngrams() -> None:
    terms = Terms.of(ADDRESSES)
    for number in (0, 3, 4, 5):  # names without units
        own = set(row(terms.ngrams, number))
        assert len(own) == len(plain_ngrams(ADDRESSES[number]))
        for query in QUERIES:
            assert len(own & set(Terms.query(query).tolist())) == len(
                plain_ngrams(ADDRESSES[number]) & plain_ngrams(query)
            )


def test_a_name_with_units_is_found_by_its_reading() -> None:
    terms = Terms.of(ADDRESSES)
    own = set(row(terms.ngrams, 2))
    assert set(Terms.query("王府井").tolist()) <= own
    found = own & set(Terms.query("wangfujing").tolist())  # the reading is one word: mallwangfujing2
    assert len(found) == len("wangfujing") - 2
    assert not set(Terms.query("wangfujing").tolist()) & set(row(terms.ngrams, 0))


def test_distinctive_ngrams_are_those_that_the_categories_lack() -> None:
    terms = Terms.of(ADDRESSES)
    assert row(terms.distinctive_ngrams, 3) == []
    for number in (0, 3):
        parts = parse_address(ADDRESSES[number])
        names, categories = plain_ngrams(parts.name), plain_ngrams(" ".join(parts.categories))
        assert len(row(terms.name_ngrams, number)) == len(names)
        assert len(row(terms.distinctive_ngrams, number)) == len(names - categories)


def test_numbers_are_those_of_name_and_address() -> None:
    terms = Terms.of(ADDRESSES)
    assert [row(terms.numbers, i) for i in range(6)] == [[29], [12, 43], [2, 5], [5], [], []]
    assert [row(terms.name_numbers, i) for i in range(6)] == [[], [43], [2], [], [], []]
    assert numbers_of("007 " + "9" * 5000) == {7, int("9" * 40) % 2**32}


def test_the_folded_parts_come_back() -> None:
    terms = Terms.of(ADDRESSES)
    assert terms.folded(0) == ("hotel kamp", "hotel pohjoisesplanadi 29 kluuvi")
    assert terms.folded(5) == ("", "")


@pytest.mark.parametrize("cut", [0, 1, 3, 6])
def test_terms_of_parts_are_those_of_the_whole(cut: int) -> None:
    whole, parts = Terms.of(ADDRESSES), Terms.concatenate([Terms.of(ADDRESSES[:cut]), Terms.of(ADDRESSES[cut:])])
    taken = Terms.concatenate([whole, whole]).take(np.arange(6, 12))
    for other in (parts, taken):
        for name in ("ngrams", "name_ngrams", "distinctive_ngrams", "numbers", "name_numbers", "texts"):
            assert np.array_equal(getattr(other, name).starts, getattr(whole, name).starts)
            assert np.array_equal(getattr(other, name).values, getattr(whole, name).values)


def test_missing_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="ngrams"):
        Terms.open(tmp_path)
