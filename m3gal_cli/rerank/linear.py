"""The linear reranker: its logits are weighted sums of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features import FEATURE_NAMES, FeatureExtractor
from m3gal_cli.rerank.reranker import DEPTH
from m3gal_cli.rerank.weights import weight_vector
from m3gal_cli.text.document_frequencies import DocumentFrequencies


class LinearReranker:
    """Scores candidates by a weighted sum of their features (see ``Reranker``).

    Args:
        weights: Weights by feature name; a missing name counts 0.
        document_frequencies: Those of the POI table.
        depth: Number of candidates per query.

    Raises:
        InputError: The name of a weight is unknown, or a weight is not finite.
    """

    def __init__(
        self, weights: Mapping[str, float], document_frequencies: DocumentFrequencies, depth: int = DEPTH
    ) -> None:
        self.depth = depth
        self._vector = weight_vector(weights)
        self._weighted = [name for name, weight in zip(FEATURE_NAMES, self._vector, strict=True) if weight]
        self._extractor = FeatureExtractor(document_frequencies)

    def score(self, query: Query, candidates: Candidates) -> Floats:
        """Return the logits of the candidates; equal features give equal logits. Shape: -> (n,)."""
        features = self._extractor.features(query, candidates, self._weighted)
        return np.einsum("nf,f->n", features, self._vector, optimize=False)


def table_document_frequencies(pois: Any) -> DocumentFrequencies:
    """Return the document frequencies of a POI table. Duplicates count once, as in an index of the table."""
    from m3gal_cli.data.duplicates import distinct_pois

    return DocumentFrequencies.of(distinct_pois(pois)["address"])
