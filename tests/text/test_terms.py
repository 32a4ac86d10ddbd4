"""The terms of addresses against a plain enumeration of n-grams and numbers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.folding import fold
from m3gal_cli.text.terms import Lists, Terms, numbers_of
from tests.helpers.plain_terms import plain_ngrams, plain_words

ADDRESSES = [
    "Hotel Kämp, hotel, Pohjoisesplanadi 29, Kluuvi",
    "莫干山路东村43幢,住宅,莫干山路 12号,西湖区",
    "Mall 王府井 2,shop,Main Street 5,Old Town",
    "Car park,car park,Main Street 5,Old Town",
    "a",
    "...",
]
QUERIES = ["hotel kamp", "莫干山路", "wangfujing", "main st 5", "kämp", "", "x", "村43幢"]


def row(lists: Lists, number: int) -> list[int]:
    return lists.take(np.array([number])).values.tolist()


def test_a_query_and_an_address_share_as_many_ngrams_as_their_plain_ngrams() -> None:
    terms = Terms.of(ADDRESSES)
    for number in (0, 3, 4, 5):  # names without units
        own = set(row(terms.ngrams, number))
        assert len(own) == len(plain_ngrams(fold(ADDRESSES[number])))
        for query in QUERIES:
            assert len(own & set(Terms.query(query).tolist())) == len(
                plain_ngrams(fold(ADDRESSES[number])) & plain_ngrams(fold(query))
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
        names, categories = plain_ngrams(fold(parts.name)), plain_ngrams(fold(" ".join(parts.categories)))
        assert len(row(terms.name_ngrams, number)) == len(names)
        assert len(row(terms.distinctive_ngrams, number)) == len(names - categories)


def test_numbers_are_those_of_name_and_address() -> None:
    terms = Terms.of(ADDRESSES)
    assert [row(terms.numbers, i) for i in range(6)] == [[29], [12, 43], [2, 5], [5], [], []]
    assert [row(terms.name_numbers, i) for i in range(6)] == [[], [43], [2], [], [], []]
    assert numbers_of("007 " + "9" * 5000) == {7, int("9" * 40) % 2**32}


def test_the_folded_parts_come_back() -> None:
    terms = Terms.of(ADDRESSES)
    assert terms.folded()[0] == ("hotel kamp", "hotel pohjoisesplanadi 29 kluuvi")
    assert terms.folded()[5] == ("", "")
    assert terms.take(np.array([5, 0])).folded() == [terms.folded()[5], terms.folded()[0]]


def test_words_are_those_of_the_folded_parts_in_their_order() -> None:
    terms = Terms.of(ADDRESSES)
    for number, parts in enumerate(terms.folded()):
        for lists, folded in zip((terms.name_words, terms.other_words), parts, strict=True):
            words = plain_words(folded)
            assert row(lists, number) == Terms.word_ids(words).tolist()
            for word, own in zip(words, row(lists, number), strict=True):
                assert {own} == set(Terms.word_ids([word]).tolist()) <= set(Terms.query(word).tolist())
    assert len(set(Terms.word_ids(["王", "wang", "a", "aa", "aaa", "12", "21"]).tolist())) == 7


@pytest.mark.parametrize("wanted", [[], [5], [0, 7, 65536 + 7, 9], [3, 2**32 - 1]])
def test_wanted_values_are_found_in_each_list(wanted: list[int]) -> None:
    rows = [[7, 9], [], [0, 3, 5, 65536 + 7], [2**32 - 1], []]
    starts = np.cumsum([0, *map(len, rows)])
    lists = Lists(starts, np.array([value for row in rows for value in row], np.uint32))
    values = np.array(sorted(wanted), np.uint32)
    for taken, own in ((lists, rows), (lists.take(np.array([2, 0, 2])), [rows[2], rows[0], rows[2]])):
        found, at = taken.find(values)
        expected = [(i, value) for i, row in enumerate(own) for value in row if value in wanted]
        assert list(zip(found.tolist(), values[at].tolist(), strict=True)) == expected


def test_lists_of_rows_of_rows_are_those_of_the_table() -> None:
    terms = Terms.of(ADDRESSES)
    first = terms.ngrams.take(np.array([4, 1, 1, 5]))
    some = first.take(np.array([2, 0]))
    assert (len(first), len(some)) == (4, 2)
    assert [row(some, i) for i in range(2)] == [row(terms.ngrams, 1), row(terms.ngrams, 4)]
    assert some.counts.tolist() == terms.ngrams.counts[[1, 4]].tolist()
    assert terms.ngrams.take(np.zeros(0, np.int64)).values.shape == (0,)


@pytest.mark.parametrize("cut", [0, 1, 3, 6])
def test_terms_of_parts_are_those_of_the_whole(cut: int) -> None:
    whole, parts = Terms.of(ADDRESSES), Terms.concatenate([Terms.of(ADDRESSES[:cut]), Terms.of(ADDRESSES[cut:])])
    taken = Terms.concatenate([whole, whole]).take(np.arange(6, 12))
    for other in (parts, taken):
        for name in (field.name for field in fields(Terms)):
            assert np.array_equal(getattr(other, name).starts, getattr(whole, name).starts)
            assert np.array_equal(getattr(other, name).values, getattr(whole, name).values)


def test_missing_files_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="ngrams"):
        Terms.open(tmp_path)
