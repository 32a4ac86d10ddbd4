"""Learning-rate factors as pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence


def step_factor(epoch: int, schedule: Sequence[int]) -> float:
    """A tenth for every milestone that ``epoch`` (from 0) has reached (published)."""
    return float(0.1 ** sum(epoch >= milestone for milestone in schedule))


def ramp_factor(step: int, total: int, warmup: float, decay: str) -> float:
    """Linear warm-up over the first share of ``total`` steps, then nothing, linear or cosine decay to 0.

    Args:
        step: steps already done, from 0.
        decay: ``none``, ``linear`` or ``cosine``.
    """
    rise = int(total * warmup)
    if step < rise:
        return (step + 1) / rise
    if decay == "none" or total <= rise:
        return 1.0
    share = min(1.0, (step - rise) / (total - rise))
    return 1.0 - share if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * share))
