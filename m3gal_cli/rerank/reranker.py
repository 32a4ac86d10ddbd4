"""The interface of rerankers, and the softmax that turns their logits into probabilities."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats


class Logits(NamedTuple):
    """The logits of a query."""

    candidates: Floats  # (n,)
    no_match: float  # that of the statement that no POI of the table is meant


class Reranker(Protocol):
    """Scores the candidates of a query."""

    def score(self, query: Query, candidates: Candidates) -> Logits:
        """Return one logit per candidate and that of "no match"; equal candidates get equal logits."""
        ...


def probabilities(logits: Logits) -> Floats:
    """Return the probability of each candidate; the rest to 1 is that of "no match". Shape: -> (n,)."""
    largest = logits.candidates.max(initial=logits.no_match)
    exps = np.exp(logits.candidates - largest)
    return np.asarray(exps / (exps.sum() + np.exp(logits.no_match - largest)))
