"""The logits of listed candidates, without index, table or search."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.matching.candidate_table import query_of
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.reranker import Logits
from m3gal_cli.rerank.weights import RerankerWeights
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Terms
from tests.helpers.bruteforce import scores
from tests.helpers.sparse import sparse_scores
from tests.helpers.toy_models import ToyEncoder


def candidates_of(
    encoder: ToyEncoder, addresses: Sequence[str], record: Record, pois: Sequence[Passage]
) -> tuple[Candidates, NgramFrequencies]:
    """Return POIs as candidates of a query, and the document frequencies of the distinct addresses of a table."""
    sparse = dict(zip(addresses, np.float32(sparse_scores(addresses, record.query)), strict=True))
    dense = np.array([scores(encoder, record.query, poi)["fused"] for poi in pois], float)
    lng, lat = np.array([(poi.lng, poi.lat) for poi in pois]).T
    terms = Terms.of([poi.text for poi in pois])
    candidates = Candidates(dense, np.array([sparse[poi.text] for poi in pois]), terms, lng, lat)
    return candidates, NgramFrequencies.of(Terms.of(addresses).ngrams)


def rerank(
    weights: RerankerWeights, encoder: ToyEncoder, addresses: Sequence[str], record: Record, pois: Sequence[Passage]
) -> Logits:
    """Return the logits of POIs for a query; ``addresses`` are those of the distinct POIs of the table."""
    candidates, frequencies = candidates_of(encoder, addresses, record, pois)
    return weights.reranker(frequencies).score(query_of(record), candidates)
