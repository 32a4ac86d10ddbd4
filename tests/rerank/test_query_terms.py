"""The terms of a query and of its halves, and what candidates have of them."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.rerank.features.query_terms import QueryTerms, halves_of, words_of
from m3gal_cli.text.folding import fold
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Terms
from tests.helpers.plain_terms import (
    ADDRESSES,
    QUERIES,
    PlainTable,
    case,
    context,
    plain_halves,
    plain_ngrams,
    plain_words,
)

FREQUENCIES = NgramFrequencies.of(Terms.of(ADDRESSES).ngrams)


@pytest.mark.parametrize(
    ("folded", "halves"),
    [
        ("star square pharmacy", ("star square", "pharmacy")),
        ("abcdefgh x", ("abcdefgh", "x")),
        ("x abcdefgh", ("x abcdefgh", "")),
        ("星光广场药房", ("星光广", "场药房")),
        ("a 王府井", ("a", "王府井")),
        ("one", ("one", "")),
        ("", ("", "")),
    ],
)
def test_halves_end_with_a_word(folded: str, halves: tuple[str, str]) -> None:
    assert halves_of(folded) == plain_halves(folded) == halves


@pytest.mark.parametrize("text", QUERIES)
def test_shares_of_the_halves_are_shares_of_the_whole_query(text: str) -> None:
    terms, folded, table = QueryTerms(text, FREQUENCIES), fold(text), PlainTable()
    assert terms.words == words_of(folded) == plain_words(folded)
    parts = zip((folded, *plain_halves(folded)), (terms.shares, *terms.half_shares), strict=True)
    for part, shares in parts:
        grams = plain_ngrams(part)
        idf = sorted(table.idf(gram) for gram in grams)
        np.testing.assert_allclose(sorted(shares[shares > 0]), np.array(idf) / max(sum(idf), 1e-9))
        assert shares.sum() == pytest.approx(float(bool(grams)))
    unknown = [gram for gram in plain_ngrams(folded) if not table.count(gram)]
    assert terms.unknown_share == pytest.approx(table.share(plain_ngrams(folded), set(unknown)))


@pytest.mark.parametrize("text", QUERIES)
def test_matches_are_the_common_terms_of_query_and_candidate(text: str) -> None:
    every, positions = context(text, case()), np.array([0, 2, 7, 15])
    query, table = set(every.text.ngrams.tolist()), np.zeros(0)
    for _ in range(2):  # before and after the matches of all candidates are known
        some = every.take(positions)
        for name in ("ngrams", "name_ngrams", "distinctive_ngrams"):
            lists = getattr(some.candidates.terms, name)
            own = [set(lists.take(np.array([i])).values.tolist()) & query for i in range(4)]
            matches = some.matches(name)
            table = matches.table()
            assert [set(some.text.ngrams[row].tolist()) for row in table] == own
            assert matches.counts().tolist() == table.sum(axis=1).tolist()
            weights = np.arange(1.0, len(query) + 1)
            assert matches.sums(weights) == pytest.approx(table @ weights)
            every.matches(name)
