"""The inputs of the reranker network for a query: the features of its shortlist, and a description of the query."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features import CHEAP_NAMES, FEATURE_NAMES, FEATURES, FeatureContext, compute
from m3gal_cli.rerank.features.query_terms import QueryTerms
from m3gal_cli.rerank.shortlist import Shortlist, shortlist
from m3gal_cli.text.ngram_frequencies import NgramFrequencies

# Values that describe a query; the largest and the mean value of each feature in the shortlist follow them.
STYLE_NAMES = ("words", "length", "has_units", "numbers", "has_location", "unknown")
MOST_NUMBERS = 3


@dataclass(frozen=True)
class Inputs:
    """The inputs of the network for one query.

    Shape:
        features: (m, F), of the shortlist. style: (S + 2 F,).
    """

    shortlist: Shortlist
    features: Floats
    style: Floats


def network_inputs(query: Query, candidates: Candidates, frequencies: NgramFrequencies) -> Inputs:
    """Compute the inputs for the candidates of a query, at least one."""
    text = QueryTerms(query.text, frequencies)
    context = FeatureContext(query, text, candidates)
    found = shortlist(context)
    chosen = context.take(found.positions)
    dear = [name for name in FEATURE_NAMES if not FEATURES[name].cheap]
    columns = dict(zip(CHEAP_NAMES, found.cheap[found.positions].T, strict=True))
    columns |= dict(zip(dear, compute(chosen, dear).T, strict=True))
    features = np.stack([columns[name] for name in FEATURE_NAMES], axis=1)
    style = [
        np.log1p(len(text.words)),
        np.log1p(len(text.folded)),
        float(text.has_units),
        min(len(text.numbers), MOST_NUMBERS),
        float(query.lng is not None),
        text.unknown_share,
    ]
    return Inputs(found, features, np.concatenate([style, features.max(axis=0), features.mean(axis=0)]))
