"""Ranks of the gold among scored candidates. Ties never help."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MISS = np.iinfo(np.int64).max  # the rank without gold


def gold_ranks(
    scores: NDArray[np.floating], gold: NDArray[np.bool_], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return 1 + #(scores > best gold score) + #(scores equal to it that are not gold).

    So the gold is last among equal scores; the published code puts it first.

    Args:
        scores: NaN counts as -inf.
        gold: Whether a candidate is gold.
        valid: Whether an entry is a candidate; None: all are.

    Shape:
        scores, gold, valid: (Q, N) -> (Q,), ranks from 1; MISS without gold.
    """
    valid = np.ones(scores.shape, bool) if valid is None else valid
    scores, gold = np.where(np.isnan(scores), -np.inf, scores), gold & valid
    best = np.where(gold, scores, -np.inf).max(axis=1, keepdims=True)
    reached = (scores >= best) & valid & ~gold
    return np.where(gold.any(axis=1), 1 + reached.sum(axis=1), MISS).astype(np.int64)
