"""Features of a query and its candidates: ``FEATURES`` holds all of them by name.

To add a feature, write a function with the decorator ``feature`` in one of these modules; ``registry`` says what it
returns. ``FEATURES`` finds it. List a new module in ``_MODULES``.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features import first_stage, nearness, neighbours, ngrams, spelling, words
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import Feature

__all__ = ["CHEAP_NAMES", "FEATURES", "FEATURE_NAMES", "Feature", "FeatureContext", "compute"]

_MODULES = (first_stage, ngrams, nearness, words, spelling, neighbours)
FEATURES: dict[str, Feature] = {
    item.name: item for module in _MODULES for item in vars(module).values() if isinstance(item, Feature)
}
FEATURE_NAMES = tuple(FEATURES)
CHEAP_NAMES = tuple(name for name in FEATURE_NAMES if FEATURES[name].cheap)


def compute(context: FeatureContext, names: Iterable[str] = FEATURE_NAMES) -> Floats:
    """Return scaled features of the candidates. Shape: F names -> (n, F)."""
    return np.stack([FEATURES[name].compute(context) * FEATURES[name].scale for name in names], axis=1)
