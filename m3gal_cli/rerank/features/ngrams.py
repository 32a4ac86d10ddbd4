"""Features of the n-grams and numbers that a query and an address have in common.

Many queries name a place beside the POI, then the POI: "opposite Star Square pharmacy". Other languages name the POI
first. So each half of the query is compared with the name of the candidate, and with the addresses of its neighbours
(see ``neighbours``).
"""

from __future__ import annotations

import numpy as np

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature


@feature(scale=10.0, cheap=True)
def query_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(query ∩ address) / Σ idf(query)."""
    return context.matches("ngrams").sums(context.text.shares)


@feature(scale=6.0, cheap=True)
def query_in_name(context: FeatureContext) -> Floats:
    """Return Σ idf(query ∩ name) / Σ idf(query)."""
    return context.matches("name_ngrams").sums(context.text.shares)


@feature(scale=6.0, cheap=True)
def name_in_query(context: FeatureContext) -> Floats:
    """Return |query ∩ name| / |name|, by n-grams."""
    sizes = context.candidates.terms.name_ngrams.counts
    return context.matches("name_ngrams").counts() / np.maximum(sizes, 1)


@feature(scale=3.0, cheap=True)
def number_match(context: FeatureContext) -> Floats:
    """Return |numbers of query ∩ address| / |numbers of query|; 0 for a query without numbers."""
    return context.matches("numbers").counts() / max(len(context.text.numbers), 1)


@feature(scale=2.0, cheap=True)
def unmatched_numbers(context: FeatureContext) -> Floats:
    """Return -|numbers of name − query| / |numbers of name|, 0 for a name without numbers: another branch or gate."""
    sizes = context.candidates.terms.name_numbers.counts
    return np.asarray((context.matches("name_numbers").counts() - sizes) / np.maximum(sizes, 1))


@feature(scale=2.0, cheap=True)
def number_conflict(context: FeatureContext) -> Floats:
    """Return -1 if query and address have numbers, but none in common; else 0."""
    common, sizes = context.matches("numbers").counts(), context.candidates.terms.numbers.counts
    return -((common == 0) & (sizes > 0) & (len(context.text.numbers) > 0)).astype(np.float64)


@feature(scale=6.0)
def name_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(query ∩ distinctive) / Σ idf(distinctive); 0 for a name without distinctive n-grams.

    Distinctive n-grams are those of the name that the categories do not have.
    """
    lists = context.candidates.terms.distinctive_ngrams
    rows = np.repeat(np.arange(len(lists)), lists.counts)
    total = np.bincount(rows, context.text.frequencies.idf(lists.values), len(lists))
    return context.matches("distinctive_ngrams").sums(context.text.idf) / np.maximum(total, 1e-9)


@feature(scale=10.0)
def first_half_match(context: FeatureContext) -> Floats:
    """Return Σ idf(first half ∩ name) / Σ idf(first half).

    In a language in which queries name the POI last, the first half names a place beside it.
    """
    return context.matches("name_ngrams").sums(context.text.half_shares[0])


@feature(scale=10.0)
def second_half_match(context: FeatureContext) -> Floats:
    """Return Σ idf(second half ∩ name) / Σ idf(second half)."""
    return context.matches("name_ngrams").sums(context.text.half_shares[1])


@feature(scale=10.0)
def second_half_coverage(context: FeatureContext) -> Floats:
    """Return Σ idf(second half ∩ address) / Σ idf(second half)."""
    return context.matches("ngrams").sums(context.text.half_shares[1])
