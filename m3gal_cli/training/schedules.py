"""Learning rate schedule and order of the rows, as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def step_factor(epoch: int, schedule: Sequence[int]) -> float:
    """Return 0.1 to the power of the number of milestones that ``epoch`` (from 0) has reached (published)."""
    return float(0.1 ** sum(epoch >= milestone for milestone in schedule))


def ramp_factor(step: int, total: int, warmup: float, decay: str) -> float:
    """Return the factor of a step: a linear rise to 1 over the first steps, then a decay to 0.

    Args:
        step: Steps already done, from 0.
        total: Steps of the whole run.
        warmup: Share of ``total`` over which the factor rises.
        decay: ``none``, ``linear`` or ``cosine``.
    """
    rise = int(total * warmup)
    if step < rise:
        return (step + 1) / rise
    if decay == "none" or total <= rise:
        return 1.0
    share = min(1.0, (step - rise) / (total - rise))
    return 1.0 - share if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))


def epoch_order(rows: int, epoch: int, seed: int, shuffle: bool = True) -> NDArray[np.int64]:
    """Return the order of the rows in an epoch: file order, or a permutation that seed and epoch determine.

    Shape:
        -> (rows,) int64.
    """
    if not shuffle:
        return np.arange(rows)
    return np.random.default_rng([seed, epoch]).permutation(rows)
