"""The reranker network: a small network scores each candidate from its features and a description of the query.

    logit = w·x + MLP([x, z]),    "no match" = MLP'(z)

x are the features of a candidate. z describes the query: its length and script, and the largest and the mean value of
each feature in the shortlist. So the network weighs features by the style of a query. All sums have a fixed order, so
that equal candidates get equal logits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.examples import STYLE_NAMES, network_inputs
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.reranker import Logits
from m3gal_cli.text.ngram_frequencies import NgramFrequencies

Arrays = Mapping[str, NDArray[np.float32]]
HIDDEN, NO_MATCH_HIDDEN = 32, 16  # widths
SCALE = 0.2  # of the inputs of the hidden layers
OUTSIDE = -12.0  # added to the logits of candidates outside the shortlist: their probability is about 0
_F, _Z = len(FEATURE_NAMES), len(STYLE_NAMES) + 2 * len(FEATURE_NAMES)
PARAMETER_SHAPES = {
    "linear.weight": (1, _F),
    "features.weight": (HIDDEN, _F),
    "style.weight": (HIDDEN, _Z),
    "style.bias": (HIDDEN,),
    "hidden.weight": (HIDDEN, HIDDEN),
    "hidden.bias": (HIDDEN,),
    "out.weight": (1, HIDDEN),
    "out.bias": (1,),
    "no_match.0.weight": (NO_MATCH_HIDDEN, _Z),
    "no_match.0.bias": (NO_MATCH_HIDDEN,),
    "no_match.2.weight": (1, NO_MATCH_HIDDEN),
    "no_match.2.bias": (1,),
}


class NetworkReranker:
    """Scores candidates with a network (see ``Reranker``).

    Args:
        arrays: The parameters, by the names of ``PARAMETER_SHAPES``.
        frequencies: Document frequencies of the POI table.
    """

    def __init__(self, arrays: Arrays, frequencies: NgramFrequencies) -> None:
        self.arrays, self._frequencies = {k: np.asarray(v, np.float64) for k, v in arrays.items()}, frequencies

    def score(self, query: Query, candidates: Candidates) -> Logits:
        """Return the logits of the candidates and of "no match". Shape: -> (n,)."""
        if not len(candidates):
            return Logits(np.zeros(0), 0.0)
        inputs = network_inputs(query, candidates, self._frequencies)
        logits, no_match = forward(self.arrays, inputs.features, inputs.style)
        if len(logits) == len(candidates):
            return Logits(logits, no_match)
        scores = inputs.shortlist.scores
        out = logits.min() + OUTSIDE + scores - scores.max()
        out[inputs.shortlist.positions] = logits
        return Logits(out, no_match)


def forward(arrays: Mapping[str, Floats], features: Floats, style: Floats) -> tuple[Floats, float]:
    """Return the logits of m candidates and of "no match". Shape: features: (m, F). style: (Z,) -> (m,)."""
    style = style * SCALE
    of_query = arrays["style.weight"] @ style + arrays["style.bias"]
    hidden = _relu(_product(features * SCALE, arrays["features.weight"]) + of_query)
    hidden = _relu(_product(hidden, arrays["hidden.weight"]) + arrays["hidden.bias"])
    logits = _product(features, arrays["linear.weight"]) + _product(hidden, arrays["out.weight"]) + arrays["out.bias"]
    of_no_match = _relu(arrays["no_match.0.weight"] @ style + arrays["no_match.0.bias"])
    no_match = arrays["no_match.2.weight"] @ of_no_match + arrays["no_match.2.bias"]
    return logits[:, 0], float(no_match[0])


def _product(rows: Floats, weight: Floats) -> Floats:
    """Return rows @ weight.T. Equal rows have equal results, which BLAS does not guarantee. Shape: (m, K), (H, K)."""
    return np.einsum("mk,hk->mh", rows, weight, optimize=False)


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0.0)
