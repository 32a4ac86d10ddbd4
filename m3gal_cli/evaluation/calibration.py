"""Calibration: compare the probabilities of first answers with the share of right ones.

The queries are a mixture: some have their gold in the table, the others have no right answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 10  # of equal width, from 0 to 1
PRECISION = 0.95

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Confidences(NamedTuple):
    """The confidence of the first answer to each of n queries: its probability, 0 without an answer.

    Shape:
        values, right (the first answer is gold), answerable (the table has the gold): (n,).
    """

    values: Floats
    right: Flags
    answerable: Flags


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers whose confidence is in [low, high); the last bin includes 1. The means of no answers are None."""

    low: float
    high: float
    count: int
    confidence: float | None  # mean
    right: float | None  # share of right answers


@dataclass(frozen=True)
class Calibration:
    """Figures of the confidences of first answers."""

    n_answerable: int
    n_unanswerable: int
    ece: float  # expected calibration error
    auc: float | None  # None if no query is answerable, or all are
    answered: float  # share of answerable queries that are answered at the threshold
    threshold: float | None  # None: there is none
    bins: tuple[ReliabilityBin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object of ``--json``."""
        return asdict(self) | {"precision": PRECISION}


def calibration_of(confidences: Confidences) -> Calibration:
    """Compute all figures. There is at least one query."""
    values, right, answerable = confidences
    answered, threshold = answered_at_precision(confidences)
    count = int(answerable.sum())
    bins = reliability_bins(values, right)
    error = expected_calibration_error(bins)
    auc = None if count in (0, len(values)) else roc_auc(values[answerable], values[~answerable])
    return Calibration(count, len(values) - count, error, auc, answered, threshold, tuple(bins))


def reliability_bins(values: Floats, right: Flags) -> list[ReliabilityBin]:
    """Return the bins of a reliability diagram. Shape: (n,), (n,) -> ``BINS``."""
    numbers = np.minimum((values * BINS).astype(np.int64), BINS - 1)
    out = []
    for number in range(BINS):
        own = numbers == number
        means = (float(values[own].mean()), float(right[own].mean())) if own.any() else (None, None)
        out.append(ReliabilityBin(number / BINS, (number + 1) / BINS, int(own.sum()), *means))
    return out


def expected_calibration_error(bins: list[ReliabilityBin]) -> float:
    """Return the mean over answers of |share of right answers − mean confidence| of their bin (Naeini et al. 2015)."""
    total = sum(one.count for one in bins)
    gaps = [
        one.count * abs(one.right - one.confidence)
        for one in bins
        if one.right is not None and one.confidence is not None
    ]
    return sum(gaps) / total


def roc_auc(positive: Floats, negative: Floats) -> float:
    """Return the probability that a value of ``positive`` is above one of ``negative``; a tie counts one half.

    This is the area under the ROC curve (Mann and Whitney 1947). Shape: (p,), (n,), at least one each.
    """
    below = np.searchsorted(np.sort(negative), positive, side="left")
    reached = np.searchsorted(np.sort(negative), positive, side="right")
    return float((below + reached).mean() / (2 * len(negative)))


def answered_at_precision(confidences: Confidences, precision: float = PRECISION) -> tuple[float, float | None]:
    """Return the share of answerable queries that are answered, and the threshold of the confidence.

    A query is answered if its confidence reaches the threshold. The threshold is the lowest confidence for which the
    given share of all answers is right; answers to unanswerable queries are wrong. Without one, nothing is answered.
    """
    order = np.argsort(-confidences.values, kind="stable")
    values, right, answerable = (part[order] for part in confidences)
    shares = np.cumsum(right.astype(np.float64)) / np.arange(1.0, len(values) + 1.0)
    last = np.append(values[1:] < values[:-1], True)  # equal values are answered together
    reached = np.flatnonzero(last & (shares >= precision))
    if not len(reached) or not answerable.any():
        return 0.0, None
    end = int(reached[-1])
    return float(answerable[: end + 1].sum() / answerable.sum()), float(values[end])
