"""The best matches of every query in the full-database evaluation: their collection from tiles, and their reranking."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.evaluation.rank_counting import Floats, GoldPairs, Numbers
from m3gal_cli.evaluation.result import Matches
from m3gal_cli.evaluation.score_tiles import Tile


class TopMatchCollector:
    """Collects the rows of the ``k`` best distinct POIs of every query by exact fused score.

    Duplicates (rows with equal text and coordinates) are one POI. All its rows are collected, but of duplicates that
    are gold the first only. Gold is last among equal scores.

    Args:
        k: Number of distinct POIs.
        gold: The gold.
        repeated: (G,), whether a gold pair is left out, because an earlier row of the query is its duplicate.
        first_rows: (N,), the first duplicate of each row of the table.
    """

    def __init__(self, k: int, gold: GoldPairs, repeated: NDArray[np.bool_], first_rows: Numbers) -> None:
        self.k, self._gold, self._first_rows = k, gold, first_rows
        self._repeated = GoldPairs(gold.query[repeated], gold.row[repeated], len(gold.count), gold.n_rows)
        self._threshold = np.full(len(gold.count), -np.inf)  # k distinct POIs reach it
        self._parts: dict[int, list[tuple[Numbers, Numbers, Floats]]] = {}  # by the first query of a batch

    def add(self, tile: Tile) -> None:
        """Collect from a tile of fused scores. Every block must have the same query batches."""
        queries = tile.queries.numbers
        new = np.flatnonzero(self._threshold[queries] == -np.inf)
        if len(new):
            duplicates = int(np.count_nonzero(self._first_rows[tile.block.rows] != tile.block.rows))
            bound = tile.kth_score_bound(self.k + duplicates + int(self._repeated.count.max()), new)
            self._threshold[queries[new]] = bound
        pairs = tile.reaching(self._threshold[queries])
        if not len(pairs[0]):
            return
        query, row, score = queries[pairs[0]], tile.block.rows[pairs[1]], tile.exact(pairs)
        kept = (score > -np.inf) & ~self._repeated.contain(query, row)
        parts = self._parts.setdefault(int(queries[0]), [])
        parts.append((query[kept], row[kept], score[kept]))
        if sum(len(part[0]) for part in parts) > 3 * self.k * len(queries):
            parts[:] = [self._select(parts)]

    def _select(self, parts: list[tuple[Numbers, Numbers, Floats]]) -> tuple[Numbers, Numbers, Floats]:
        """Order pairs by query and rank, keep those of the k best distinct POIs, and raise the thresholds."""
        query, row, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.lexsort((row, self._first_rows[row], self._gold.contain(query, row), -score, query))
        query, row, score = query[order], row[order], score[order]
        first_row = self._first_rows[row]
        new = np.ones(len(query), bool)  # whether a pair is the first of its POI
        new[1:] = (query[1:] != query[:-1]) | (first_row[1:] != first_row[:-1])
        number = np.cumsum(new) - 1
        number -= number[np.searchsorted(query, query)]  # of the POI, within the query
        last = new & (number == self.k - 1)
        self._threshold[query[last]] = score[last]
        kept = number < self.k
        return query[kept], row[kept], score[kept]

    def matches(self) -> Matches:
        """Return the rows of every query, best first, and their scores."""
        empty = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        parts = [empty, *(self._select(parts) for parts in self._parts.values())]
        query, row, score = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(query, kind="stable")
        bounds = np.searchsorted(query[order], np.arange(len(self._threshold) + 1))
        cuts = [order[a:b] for a, b in pairwise(bounds)]
        return [(row[cut], score[cut]) for cut in cuts]


def append_unranked(ordered: Matches, matches: Matches) -> Matches:
    """Append the matches that are no candidates, in their fused order.

    Their scores continue from the last candidate's score, with the differences of the fused scores.

    Args:
        ordered: By query, the candidates in their new order, and their scores.
        matches: By query, rows in fused order, and their scores.
    """
    out = []
    for (rows, scores), (all_rows, fused) in zip(ordered, matches, strict=True):
        left = ~np.isin(all_rows, rows)
        rest = fused[left]
        continued = scores[-1:] + (rest - rest[0]) if len(rest) else rest
        out.append((np.concatenate([rows, all_rows[left]]), np.concatenate([scores, continued])))
    return out
