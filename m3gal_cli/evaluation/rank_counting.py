"""What is counted while the scores of a table go by: ranks of the gold, the best match, the first few for a run file.

Nothing is sorted and no score is kept: what is clear from a tile's scores is counted, and what is not is scored again,
exactly (see ``retrieval.tiles``). Each call touches the tile's queries alone, so that tiles of other queries may be
counted at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.score_tiles import Tile
from m3gal_cli.geo.coordinates import haversine_m

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Golds:
    """Which rows of a table are gold for which query.

    Args:
        query, row: (G,) the pairs, by query, then by row.
        queries, rows: how many there are.
    """

    def __init__(self, query: Numbers, row: Numbers, queries: int, rows: int) -> None:
        self.query, self.row, self.rows = query, row, rows
        self.count: Numbers = np.bincount(query, minlength=queries)
        self._keys = query * rows + row

    def has(self, query: Numbers, row: Numbers) -> NDArray[np.bool_]:
        """Which of these pairs are gold. Shape: (n,), (n,) -> (n,)."""
        if not len(self._keys):
            return np.zeros(len(query), bool)
        keys = query * self.rows + row
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: NDArray[np.bool_] = self._keys[at] == keys
        return found

    def best(self, scores: Floats) -> Floats:
        """The best score of each query's gold rows; -inf without. Shape: (G,) -> (Q,)."""
        out = np.full(len(self.count), -np.inf)
        np.maximum.at(out, self.query, scores)
        return out


class Positives:
    """Where the places lie that queries mean."""

    def __init__(self, records: Sequence[Record]) -> None:
        most = max(len(r.positives) for r in records)
        self._places = np.full((2, most, len(records)), np.nan)  # degrees; nan where a record has fewer
        for i, record in enumerate(records):
            for j, p in enumerate(record.positives):
                self._places[:, j, i] = p.lng, p.lat

    def metres(self, query: Numbers, lng: Floats, lat: Floats) -> Floats:
        """To the nearest positive of each query. Shape: (n,), (n,), (n,) degrees -> (n,)."""
        out = np.full(len(query), np.inf)
        for place_lng, place_lat in zip(*self._places, strict=True):
            out = np.fmin(out, haversine_m(lng, lat, place_lng[query], place_lat[query]))
        return out


@dataclass(frozen=True)
class Setting:
    """What the tallies of an evaluation share. Args: lng, lat: (N,) of the table's rows, degrees."""

    golds: Golds
    positives: Positives
    lng: Floats
    lat: Floats

    def metres(self, query: Numbers, row: Numbers) -> Floats:
        """From rows to the nearest positive of each query. Shape: (n,), (n,) -> (n,)."""
        return self.positives.metres(query, self.lng[row], self.lat[row])


class RankCounter:
    """Ranks of the gold and metres of the best match, of every query by one kind of score.

    Args:
        gold: (Q,) exact score of the best gold row; -inf where there is none, or where it has no score.
    """

    def __init__(self, setting: Setting, gold: Floats) -> None:
        self.setting, self.gold = setting, gold
        self._others = np.zeros(len(gold), np.int64)  # not gold, and above the best gold or level with it
        self._best, self._far = np.full(len(gold), -np.inf), np.full(len(gold), -np.inf)

    def add(self, tile: Tile) -> None:
        """Count a tile. Each pair of query and row belongs to one tile alone."""
        self._count(tile)
        own = tile.queries.numbers
        pairs = tile.reaching(np.maximum(self._best[own], tile.top - tile.margin))
        if len(pairs[0]):
            self.offer(own[pairs[0]], tile.block.rows[pairs[1]], tile.exact(pairs))

    def _count(self, tile: Tile) -> None:
        own = tile.queries.numbers
        gold = self.gold[own]
        above, pairs = tile.band(np.where(gold > -np.inf, gold, np.inf))
        if len(pairs[0]):
            level = tile.exact(pairs) >= gold[pairs[0]]
            query, row = own[pairs[0][level]], tile.block.rows[pairs[1][level]]
            above += np.bincount(pairs[0][level][~self.setting.golds.has(query, row)], minlength=len(own))
        self._others[own] += above

    def offer(self, query: Numbers, row: Numbers, score: Floats) -> None:
        """Take in what may be a best match. Shape: (n,), (n,), (n,) exact scores."""
        before = self._best[query]
        np.maximum.at(self._best, query, score)
        now = self._best[query]
        self._far[query[now > before]] = -np.inf
        level = score == now
        query, row = query[level], row[level]
        np.maximum.at(self._far, query, self.setting.metres(query, row))

    def whole(self, query: int, scores: NDArray[np.float32], gold: Numbers) -> None:
        """Count a query whose scores are all there and exact. Shape: (N,), and (g,) rows that are gold."""
        if len(gold):
            self.gold[query] = scores[gold].max()
            reached = np.count_nonzero(scores >= self.gold[query])
            self._others[query] = reached - np.count_nonzero(scores[gold] >= self.gold[query])
        row = np.flatnonzero(scores == scores.max())
        self.offer(np.full(len(row), query), row, scores[row].astype(np.float64))

    def ranks(self) -> Numbers:
        """1 + others above the best gold + others level with it; MISS without gold. Shape: (Q,)."""
        count = self.setting.golds.count
        ranks = 1 + self._others
        ranks[self.gold == -np.inf] = 1 + self.setting.golds.rows - count[self.gold == -np.inf]  # all are level
        return np.where(count > 0, ranks, MISS)

    def metres(self) -> Floats:
        """From the best match to the nearest positive; of matches that tie, the farthest. Shape: (Q,)."""
        out = self._far.copy()
        rows = np.arange(self.setting.golds.rows)
        for query in np.flatnonzero(out == -np.inf):  # no row has a score: all of them tie
            out[query] = self.setting.metres(np.full(len(rows), query), rows).max()
        return out


class First:
    """All rows of the first ``k`` places of every query by exact fused scores: a gold row stands last among its equals.

    Of gold rows that are one place only the first of the table is taken, so that it is found once.

    Args:
        again: (G,) whether a gold pair of ``golds`` repeats a place.
        firsts: (N,) of each row of the table, the first one that is the same place.
    """

    def __init__(self, k: int, golds: Golds, again: NDArray[np.bool_], firsts: Numbers) -> None:
        self.k, self._golds, self._firsts = k, golds, firsts
        self._again = Golds(golds.query[again], golds.row[again], len(golds.count), golds.rows)
        self._least = np.full(len(golds.count), -np.inf)  # k places reach it
        self._kept: dict[int, list[tuple[Numbers, Numbers, Floats]]] = {}  # by the first query of a tile

    def add(self, tile: Tile) -> None:
        """Take in a tile of fused scores; every query is always in tiles of the same queries."""
        own = tile.queries.numbers
        fresh = np.flatnonzero(self._least[own] == -np.inf)
        if len(fresh):
            copies = int(np.count_nonzero(self._firsts[tile.block.rows] != tile.block.rows))
            self._least[own[fresh]] = tile.reached_by(self.k + copies + int(self._again.count.max()), fresh)
        pairs = tile.reaching(self._least[own])
        if not len(pairs[0]):
            return
        query, row, score = own[pairs[0]], tile.block.rows[pairs[1]], tile.exact(pairs)
        taken = (score > -np.inf) & ~self._again.has(query, row)
        kept = self._kept.setdefault(int(own[0]), [])
        kept.append((query[taken], row[taken], score[taken]))
        if sum(len(part[0]) for part in kept) > 3 * self.k * len(own):
            kept[:] = [self._cut(kept)]

    def _cut(self, kept: list[tuple[Numbers, Numbers, Floats]]) -> tuple[Numbers, Numbers, Floats]:
        query, row, score = (np.concatenate(column) for column in zip(*kept, strict=True))
        order = np.lexsort((row, self._firsts[row], self._golds.has(query, row), -score, query))
        query, row, score = query[order], row[order], score[order]
        place = self._firsts[row]
        new = np.ones(len(query), bool)
        new[1:] = (query[1:] != query[:-1]) | (place[1:] != place[:-1])
        number = np.cumsum(new) - 1
        number -= number[np.searchsorted(query, query)]
        last = new & (number == self.k - 1)
        self._least[query[last]] = score[last]
        taken = number < self.k
        return query[taken], row[taken], score[taken]

    def found(self) -> list[tuple[Numbers, Floats]]:
        """Rows of every query, best first, and their scores."""
        parts = [self._cut(kept) for kept in self._kept.values()]
        query, row, score = (np.concatenate(column) for column in zip(*parts, strict=True)) if parts else _NOTHING
        order = np.argsort(query, kind="stable")
        bounds = np.searchsorted(query[order], np.arange(len(self._least) + 1))
        cuts = [order[a:b] for a, b in pairwise(bounds)]
        return [(row[cut], score[cut]) for cut in cuts]


_NOTHING = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
