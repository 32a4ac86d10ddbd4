"""Ranks of the gold among scored candidates. numpy only; ties never help."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MISS = np.iinfo(np.int64).max


def gold_ranks(
    scores: NDArray[np.floating], gold: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """rank = 1 + #(scores > best gold score) + #(other scores equal to it); counted, not sorted.

    The published code gives the gold, which stands first among the candidates, the better end of a tie.

    Shape:
        scores: (Q, N). gold, valid: (Q, N) bool; what is not valid is no candidate
        -> (Q,) ranks from 1; MISS without gold.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if valid is not None:
        scores = np.where(valid, scores, -np.inf)
        gold = gold & valid
    best = np.where(gold, scores, -np.inf).max(axis=1, keepdims=True)
    others = ~gold if valid is None else ~gold & valid
    above = ((scores > best) & others).sum(axis=1)
    level = ((scores == best) & others).sum(axis=1)
    return np.where(gold.any(axis=1), 1 + above + level, MISS).astype(np.int64)
