"""Features of words and numbers that a query and an address have in common.

Many queries name a place beside the POI, then the POI: "opposite Star Square pharmacy". Other languages name the POI
first. So each half of the query is compared with the name of the candidate, and with the addresses of its neighbours
(see ``neighbours``). Idf is that of character 1-2-grams.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.address_terms import SUFFIX_UNITS, find_keys, numbers_of, units_of
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature


@feature(scale=10.0)
def query_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(query ∩ address) / Σ idf(query)."""
    query, _, _ = context.parts
    return _sum_shares(query.matches, query.shares)


@feature(scale=6.0)
def name_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(query ∩ distinctive) / Σ idf(distinctive); 0 for a name without distinctive n-grams.

    Distinctive n-grams are those of the name that the categories do not have.
    """
    codes, terms = context.parts[0].codes, context.terms
    row, column = find_keys(terms.distinctive_ngrams, context.cache.ngram_keys(codes))
    matched = np.bincount(row, context.cache.document_frequencies.idf(codes)[column], len(context))
    return np.asarray(matched / np.maximum(terms.distinctive_idf, 1e-9))


@feature(scale=10.0, signed=True)
def first_half_match(context: FeatureContext) -> Floats:
    """Return Σ idf(first half ∩ name) / Σ idf(first half).

    In a language in which queries name the POI last, the first half names a place beside it. A candidate whose name
    matches the first half is then likely to be that place, and the weight negative.
    """
    _, half, _ = context.parts
    return _sum_shares(context.find(context.terms.name_ngrams, context.cache.ngram_keys(half.codes)), half.shares)


@feature(scale=4.0, signed=True)
def second_half_match(context: FeatureContext) -> Floats:
    """Return the share of the second half of the query's units (rounded up) that the name or a category has."""
    units = units_of(context.query_text)
    half = context.cache.keys(units[len(units) // 2 :])
    keys, counts = np.unique(half, return_counts=True)
    return context.find(context.terms.units, keys) @ counts / max(len(half), 1)


@feature(scale=4.0)
def suffix_similarity(context: FeatureContext) -> Floats:
    """Return Dice's coefficient 2 |a ∩ b| / (|a| + |b|) of the multisets of the last four units of query and name."""
    query = context.cache.keys(units_of(context.query_text)[-SUFFIX_UNITS:])
    names = np.concatenate(context.terms.suffix).reshape(-1, SUFFIX_UNITS)
    lengths = np.count_nonzero(names, axis=1)
    common = sum(
        (np.minimum(count, (names == key).sum(axis=1)) for key, count in Counter(query).items()), np.zeros(len(context))
    )
    return np.where(lengths > 0, 2.0 * common / np.maximum(len(query) + lengths, 1), 0.0)


@feature(scale=3.0)
def number_match(context: FeatureContext) -> Floats:
    """Return |numbers of query ∩ address| / |numbers of query|; 0 for a query without numbers."""
    numbers = context.cache.keys(numbers_of(context.query_text))
    return context.find(context.terms.numbers, numbers).sum(axis=1) / max(len(numbers), 1)


@feature(scale=2.0)
def unmatched_numbers(context: FeatureContext) -> Floats:
    """Return -|numbers of name − query| / |numbers of name|, 0 for a name without numbers: another branch or gate."""
    numbers = context.cache.keys(numbers_of(context.query_text))
    total = np.fromiter(map(len, context.terms.name_numbers), np.int64, len(context))
    unmatched = total - context.find(context.terms.name_numbers, numbers).sum(axis=1)
    return np.asarray(-unmatched / np.maximum(total, 1))


def _sum_shares(matches: NDArray[np.bool_], shares: Floats) -> Floats:
    """Sum the shares of matched n-grams. Shape: (n, G), (G,) -> (n,)."""
    # A matrix product may give equal rows sums that differ in the last digit.
    return np.einsum("ng,g->n", matches.astype(np.float64, order="C"), shares, optimize=False)
