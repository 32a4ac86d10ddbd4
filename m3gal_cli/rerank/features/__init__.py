"""Features of a query and its candidates: ``FEATURES`` holds all of them by name.

To add a feature, write a function with the decorator ``feature`` in one of these modules; ``registry`` says what it
returns. ``FEATURES`` finds it. List a new module in ``_MODULES``.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features import first_stage, nearness, neighbours, text_match
from m3gal_cli.rerank.features.address_terms import CAPACITY, AddressTermsCache
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import Feature
from m3gal_cli.text.document_frequencies import DocumentFrequencies

__all__ = ["FEATURES", "FEATURE_NAMES", "Feature", "FeatureContext", "FeatureExtractor"]

_MODULES = (first_stage, text_match, neighbours, nearness)
FEATURES: dict[str, Feature] = {
    item.name: item for module in _MODULES for item in vars(module).values() if isinstance(item, Feature)
}
FEATURE_NAMES = tuple(FEATURES)


class FeatureExtractor:
    """Computes features of queries over one POI table. See ``AddressTermsCache`` for the arguments."""

    def __init__(self, document_frequencies: DocumentFrequencies, capacity: int = CAPACITY) -> None:
        self._cache = AddressTermsCache(document_frequencies, capacity)

    def features(self, query: Query, candidates: Candidates, names: Container[str] = FEATURE_NAMES) -> Floats:
        """Return the scaled features, 0 if not named. Shape: -> (n, F), in the order of ``FEATURE_NAMES``."""
        out = np.zeros((len(candidates), len(FEATURES)))
        if len(candidates):
            context = FeatureContext(query, candidates, self._cache)
            for column, feature in enumerate(FEATURES.values()):
                if feature.name in names:
                    out[:, column] = feature.compute(context) * feature.scale
        return out
