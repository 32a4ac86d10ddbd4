"""The shortlist of a query: the candidates that are best by features that cost little, for which all are computed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features import CHEAP_NAMES, FeatureContext, compute

SIZE = 100
# Weights of a linear fit on queries of eight cities. The gold is among the best 100 for 99% of the GeoTES queries whose
# gold is a candidate, and for all queries of the other sets.
WEIGHTS = {
    "dense_score": 2.2,
    "sparse_score": 0.85,
    "query_coverage": 1.0,
    "name_in_query": 0.8,
    "query_in_name": 0.2,
    "number_match": 0.7,
    "unmatched_numbers": 0.6,
    "nearness_700m": 0.6,
    "nearness_2500m": 0.4,
    "nearness_10km": 0.4,
}
_VECTOR = np.array([WEIGHTS.get(name, 0.0) for name in CHEAP_NAMES])


class Shortlist(NamedTuple):
    """The shortlist of n candidates."""

    positions: NDArray[np.int64]  # (m,), ascending; m <= n. Candidates that tie with the last one are in, too
    cheap: Floats  # (n, F'), the cheap features of all candidates
    scores: Floats  # (n,), their weighted sums


def shortlist(context: FeatureContext) -> Shortlist:
    """Return the best ``SIZE`` candidates of a context with all candidates."""
    cheap = compute(context, CHEAP_NAMES)
    scores = np.einsum("nf,f->n", cheap, _VECTOR, optimize=False)
    least = -np.inf if len(scores) <= SIZE else np.partition(scores, len(scores) - SIZE)[len(scores) - SIZE]
    return Shortlist(np.flatnonzero(scores >= least), cheap, scores)
