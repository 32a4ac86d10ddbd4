"""Fit of the weights of the linear reranker on labelled queries that the encoders were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features import FEATURE_NAMES, FEATURES

RIDGE = 0.01  # penalty on the squared weights
# Penalty on the squared differences from the prior, including that of the weight of ``dense_score``. Training changes
# the meaning of this score, but without its penalty 64 queries (GeoTES) give no better weights.
PRIOR_PENALTY = 0.1


@dataclass(frozen=True)
class Example:
    """The candidates of one labelled query. At least one is gold, and at least one is not.

    Shape:
        features: (n, F), in the order of ``FEATURE_NAMES``. gold: (n,).
    """

    features: Floats
    gold: NDArray[np.bool_]


def fit(examples: Sequence[Example], ridge: float = RIDGE, prior: Floats | None = None) -> Floats:
    """Return the weights that minimise the mean of -log P(gold) plus a penalty, by L-BFGS-B.

    P is the softmax over the candidates of a query. The penalty is ridge · |w|², or with a prior
    ``PRIOR_PENALTY`` · |w - prior|². Weights of features that are not signed are at least 0: with few queries, a fit
    would otherwise give wrong signs.

    Shape:
        prior: (F,) -> (F,).
    """
    from scipy.optimize import minimize

    features = np.concatenate([e.features for e in examples])
    gold = np.flatnonzero(np.concatenate([e.gold for e in examples]))
    counts = np.array([len(e.gold) for e in examples])
    gold_counts = np.array([np.count_nonzero(e.gold) for e in examples])
    penalty, centre = (ridge, np.zeros(len(FEATURES))) if prior is None else (PRIOR_PENALTY, prior)

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = features @ weights
        log_sum, gradient = _log_sum_exp(scores, counts)
        gold_log_sum, gold_gradient = _log_sum_exp(scores[gold], gold_counts)
        gradient[gold] -= gold_gradient
        value = (log_sum - gold_log_sum).mean() + penalty * ((weights - centre) ** 2).sum()
        return float(value), gradient @ features / len(examples) + 2.0 * penalty * (weights - centre)

    start = centre.copy()
    start[FEATURE_NAMES.index("dense_score")] = 1.0
    bounds = [(None if feature.signed else 0.0, None) for feature in FEATURES.values()]
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)


def _log_sum_exp(scores: Floats, counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Return log Σ exp of each group of scores, and its gradient: the softmax within the groups."""
    starts = np.cumsum(counts) - counts
    largest = np.maximum.reduceat(scores, starts)
    exps = np.exp(scores - np.repeat(largest, counts))
    total = np.add.reduceat(exps, starts)
    return largest + np.log(total), exps / np.repeat(total, counts)
