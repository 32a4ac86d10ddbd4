"""The interface of rerankers, and the softmax that turns their logits into probabilities."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats

# Candidates per query. If the query names a place beside the POI, the gold is not among the best 200 POIs for 5% of the
# queries. It is nearly always among the best 1000 (GeoTES, an encoder pretrained on views).
DEPTH = 1000


class Reranker(Protocol):
    """Scores the candidates of a query. ``depth`` is the number of candidates to give it."""

    depth: int

    def score(self, query: Query, candidates: Candidates) -> Floats:
        """Return one logit per candidate; equal candidates get equal logits. Shape: -> (n,)."""
        ...


def probabilities(logits: Floats) -> Floats:
    """Return the softmax of logits. Shape: (n,) -> (n,), with sum 1."""
    exps = np.exp(logits - logits.max(initial=-np.inf))
    return np.asarray(exps / exps.sum()) if len(exps) else exps
