"""The feature of the first stage."""

from __future__ import annotations

import numpy as np

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature


@feature(scale=20.0)
def dense_score(context: FeatureContext) -> Floats:
    """Return q·v, the score of the first stage."""
    return np.asarray(context.candidates.scores, np.float64)
