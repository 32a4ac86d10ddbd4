"""The features of the two searches."""

from __future__ import annotations

import numpy as np

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature


@feature(scale=20.0, cheap=True)
def dense_score(context: FeatureContext) -> Floats:
    """Return q·v, the score of the dense search; -1, the lowest cosine, where a vector is not finite."""
    scores = np.asarray(context.candidates.scores, np.float64)
    return np.where(np.isfinite(scores), scores, -1.0)


@feature(scale=5.0, cheap=True)
def sparse_score(context: FeatureContext) -> Floats:
    """Return the score of the sparse search."""
    return np.asarray(context.candidates.sparse_scores, np.float64)
