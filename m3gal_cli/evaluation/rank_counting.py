"""Ranks and best matches from a stream of score tiles, without sorting or storing the scores.

The rank of a query is 1 + the number of other rows that score at least as high as its best gold row. So it is counted
tile by tile. Tiles of different query batches may be added in parallel: each call changes its own queries only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.result import QueryResults
from m3gal_cli.evaluation.score_tiles import Tile
from m3gal_cli.geo.distances import haversine_m

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


class GoldPairs:
    """Pairs of a query and a gold row of the table.

    Args:
        query, row: (G,), ordered by query, then by row.
        n_queries, n_rows: Number of queries and of rows.
    """

    def __init__(self, query: Numbers, row: Numbers, n_queries: int, n_rows: int) -> None:
        self.query, self.row, self.n_rows = query, row, n_rows
        self.count: Numbers = np.bincount(query, minlength=n_queries)
        self._keys = np.append(query * n_rows + row, np.iinfo(np.int64).max)  # ascending, with a sentinel

    def contain(self, query: Numbers, row: Numbers) -> NDArray[np.bool_]:
        """Return whether pairs are gold. Shape: (n,), (n,) -> (n,)."""
        keys = query * self.n_rows + row
        return np.asarray(self._keys[np.searchsorted(self._keys, keys)] == keys)

    def best(self, scores: Floats) -> Floats:
        """Return the best score of each query's gold rows; -inf without gold. Shape: (G,) -> (Q,)."""
        out = np.full(len(self.count), -np.inf)
        np.maximum.at(out, self.query, scores)
        return out


class GroundTruth:
    """The gold rows of all queries, and the locations of their positives.

    Args:
        gold: The gold rows.
        records: The queries.
        lng, lat: (N,), coordinates of the table's rows, degrees.
    """

    def __init__(self, gold: GoldPairs, records: Sequence[Record], lng: Floats, lat: Floats) -> None:
        self.gold, self._lng, self._lat = gold, lng, lat
        most = max(len(r.positives) for r in records)
        self._positives = np.full((most, 2, len(records)), np.nan)  # NaN where a record has fewer positives
        for i, record in enumerate(records):
            for j, p in enumerate(record.positives):
                self._positives[j, :, i] = p.lng, p.lat

    def metres(self, query: Numbers, row: Numbers) -> Floats:
        """Return the distance from rows to the nearest positive of each query. Shape: (n,), (n,) -> (n,)."""
        out = np.full(len(query), np.inf)
        for lng, lat in self._positives:
            out = np.fmin(out, haversine_m(self._lng[row], self._lat[row], lng[query], lat[query]))
        return out


class RankCounter:
    """Counts the ranks of the gold, and measures the distances of the best matches, by one kind of score.

    Args:
        truth: The gold.
        best_gold: (Q,), exact score of the best gold row; -inf without gold, or if no gold row has a score.
    """

    def __init__(self, truth: GroundTruth, best_gold: Floats) -> None:
        self._truth, self._best_gold = truth, best_gold
        self._others = np.zeros(len(best_gold), np.int64)  # rows that are not gold with at least the best gold score
        self._best, self._metres = np.full(len(best_gold), -np.inf), np.full(len(best_gold), -np.inf)

    def add(self, tile: Tile) -> None:
        """Count a tile. Each pair of query and row must be in one tile only."""
        queries = tile.queries.numbers
        best_gold = self._best_gold[queries]
        above, pairs = tile.compare(np.where(best_gold > -np.inf, best_gold, np.inf))
        if len(pairs[0]):
            reached = tile.exact(pairs) >= best_gold[pairs[0]]
            query, row = queries[pairs[0][reached]], tile.block.rows[pairs[1][reached]]
            other = ~self._truth.gold.contain(query, row)
            above += np.bincount(pairs[0][reached][other], minlength=len(queries))
        self._others[queries] += above
        pairs = tile.reaching(np.maximum(self._best[queries], tile.top - tile.margin))
        if len(pairs[0]):
            self._update_best(queries[pairs[0]], tile.block.rows[pairs[1]], tile.exact(pairs))

    def add_query(self, query: int, scores: NDArray[np.float32], gold: Numbers) -> None:
        """Count a query by the exact scores of all rows. Shape: scores: (N,). gold: (g,), rows."""
        if len(gold):
            best_gold = self._best_gold[query] = scores[gold].max()
            self._others[query] = np.count_nonzero(scores >= best_gold) - np.count_nonzero(scores[gold] >= best_gold)
        row = np.flatnonzero(scores == scores.max())
        self._update_best(np.full(len(row), query), row, scores[row].astype(np.float64))

    def _update_best(self, query: Numbers, row: Numbers, score: Floats) -> None:
        """Compare pairs with the best matches so far. Shape: (n,), (n,), (n,) exact scores."""
        before = self._best[query]
        np.maximum.at(self._best, query, score)
        after = self._best[query]
        self._metres[query[after > before]] = -np.inf
        best = score == after
        query, row = query[best], row[best]
        np.maximum.at(self._metres, query, self._truth.metres(query, row))

    def results(self) -> QueryResults:
        """Return ranks and distances.

        A rank is 1 + others above the best gold + others equal to it; MISS without gold. A distance is that of the best
        match to the nearest positive; among equal scores the farthest match counts. Rows without a score are equal.
        """
        gold, ranks, metres = self._truth.gold, 1 + self._others, self._metres.copy()
        unscored = self._best_gold == -np.inf
        ranks[unscored] = 1 + gold.n_rows - gold.count[unscored]
        rows = np.arange(gold.n_rows)
        for query in np.flatnonzero(metres == -np.inf):
            metres[query] = self._truth.metres(np.full(len(rows), query), rows).max()
        return QueryResults(np.where(gold.count > 0, ranks, MISS), metres)
