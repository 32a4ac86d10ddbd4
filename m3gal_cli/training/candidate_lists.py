"""The candidates of training queries: distinct passages, each query's positives, and negatives drawn anew an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Passage, PoiKey, Record


class CandidateLists:
    """Candidate records by the numbers of their distinct passages.

    Args:
        records: candidate records. A negative that equals a positive in text and coordinates is left out; one that is
            listed twice stands twice.

    Attributes:
        passages: the distinct passages, in the order in which they first come, positives of all queries first.
        positives, negatives: their numbers, of each query.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.passages: list[Passage] = []
        index: dict[PoiKey, int] = {}

        def number(passage: Passage) -> int:
            if passage.key not in index:
                index[passage.key] = len(self.passages)
                self.passages.append(passage)
            return index[passage.key]

        self.positives = [list(dict.fromkeys(number(p) for p in r.positives)) for r in records]
        self.negatives: list[NDArray[np.int64]] = [
            np.array([n for n in map(number, r.negatives) if n not in set(own)], np.int64)
            for r, own in zip(records, self.positives, strict=True)
        ]

    def drawn(self, row: int, epoch: int, limit: int | None, seed: int) -> list[int]:
        """Passage numbers of a query in an epoch: all positives, then all or ``limit`` drawn negatives."""
        negatives = self.negatives[row]
        if limit is not None and limit < len(negatives):
            draw = np.random.default_rng([seed, epoch, row])
            negatives = negatives[np.sort(draw.choice(len(negatives), limit, replace=False))]
        return self.positives[row] + negatives.tolist()
