"""Search by Milvus: a Milvus Lite file, a server or a cluster, by the same calls.

Milvus proposes rows; the vectors of the index score them, as in exact search, so that equal vectors score equal and
ties are in the order of the index. More is asked for until what Milvus left out cannot be among the best: with a
scanning index (FLAT) the answer is that of exact search, with a graph (HNSW) as good as what the graph proposes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Progress, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Area
from m3gal_cli.index.index import Index
from m3gal_cli.index.milvus_store import Store
from m3gal_cli.index.searcher import Found, best_of, by_area, nothing, products

MOST_HITS = 16384  # Milvus gives no more
SPARE = 16
HITS_AT_ONCE = 200_000
ERROR = 1e-5  # of Milvus' own float32 scores, relative to |q||v|

Scored = tuple[NDArray[np.int64], Vectors]


class MilvusSearcher:
    """Searches the collection of an index; see ``open_milvus``."""

    def __init__(self, store: Store) -> None:
        self.store, self.index = store, store.index

    def close(self) -> None:
        """Part from the server. A Milvus Lite file stays with this process until it ends."""
        self.store.close()

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``.

        Raises:
            InputError: lost connection; queries of another model.
        """
        found = nothing(len(queries), k)
        if not len(queries) or not len(self.index) or k < 1:
            return found
        if queries.shape[1] != self.index.dim:
            what = f"queries of {queries.shape[1]} dimensions, an index of {self.index.dim}"
            raise InputError(what, where=self.index.path, hint="Query with the model that made the index.")
        queries = np.ascontiguousarray(queries, np.float32)
        for area, chosen in by_area(len(queries), areas).items():
            self._group(found, queries, chosen, k, area)
        return found

    def _group(self, found: Found, queries: Vectors, chosen: list[int], k: int, area: Area | None) -> None:
        """Answer queries of one area, asking again for more where the answer is not settled."""
        condition = "" if area is None else expression(area)
        reachable = cache(lambda: len(self.index) if area is None else len(self.index.rows_in(area)))
        limit = min(MOST_HITS, (k if area is None or area.centre is None else 2 * k) + SPARE)
        while chosen:
            left: list[int] = []
            at_once = max(1, HITS_AT_ONCE // limit)
            for first in range(0, len(chosen), at_once):
                part = chosen[first : first + at_once]
                for i, hits in zip(part, self.store.hits(queries[part], limit, condition), strict=True):
                    best = self._scored(hits[0], queries[i], k, area)
                    if self._settled(hits, best, limit, k, queries[i], reachable):
                        found.rows[i, : len(best[0])], found.scores[i, : len(best[0])] = best
                    else:
                        left.append(i)
            if left and limit == MOST_HITS:
                self._here(found, queries, left, k, area)
                return
            chosen, limit = left, min(MOST_HITS, 4 * limit)

    def _scored(self, rows: NDArray[np.int64], query: Vectors, k: int, area: Area | None) -> Scored:
        """The best of what Milvus proposes, by the vectors of the index, with the area checked exactly."""
        rows = np.unique(rows)
        rows = rows[(rows >= 0) & (rows < len(self.index))]
        if area is not None:
            rows = rows[area.rows(self.index.lng[rows], self.index.lat[rows])]
        return best_of(rows, products(self.index.vectors(rows), query), k)

    def _settled(
        self, hits: Scored, best: Scored, limit: int, k: int, query: Vectors, reachable: Callable[[], int]
    ) -> bool:
        """Whether nothing that Milvus left out can be among the best."""
        if len(hits[0]) < limit:  # it has no more; a graph may say so too early
            return len(best[0]) == k or len(best[0]) == reachable()
        # Milvus has the rounded vectors.
        error = ERROR * self.index.largest_norm + self.index.largest_rest
        margin = 2 * error * float(np.linalg.norm(query))
        return len(best[0]) == k and float(hits[1].min()) < float(best[1][-1]) - margin

    def _here(self, found: Found, queries: Vectors, chosen: list[int], k: int, area: Area | None) -> None:
        """Score all rows of the area on this machine: more are asked for, or are equal, than Milvus gives."""
        from m3gal_cli.index.exact import ExactSearcher

        rows = np.arange(len(self.index), dtype=np.int64) if area is None else self.index.rows_in(area)
        answer = ExactSearcher(self.index).among(rows, queries[chosen], k)
        found.rows[chosen], found.scores[chosen] = answer


def open_milvus(index: Index, uri: str, progress: Progress | None = None) -> MilvusSearcher:
    """A searcher over the collection of an index, which is made, filled, or gone on with where it must be.

    Args:
        uri: a path that ends in ``.db`` (Milvus Lite), or the ``http://host:19530`` of a server or cluster; the token
            is read from the environment: M3GAL_MILVUS_TOKEN, user:password or an API key.
        progress: rows that are there, and rows in all.

    Raises:
        InputError: no pymilvus, no server, a token that is not taken, a lost connection. What was written stays: the
            next start goes on.
    """
    store = Store(index, uri)
    try:
        store.fill(progress or (lambda done, total: None))
    except BaseException:
        store.close()
        raise
    return MilvusSearcher(store)


def expression(area: Area) -> str:
    """An area's boxes as a boolean expression of Milvus over lng and lat."""
    parts: list[str] = []
    for box in area.boxes():
        west, south, east, north = (float(edge) for edge in box)
        parts.append(f"lat >= {south!r} and lat <= {north!r}")
        if west <= east:
            parts.append(f"lng >= {west!r} and lng <= {east!r}")
        else:  # across the 180th meridian
            parts.append(f"(lng >= {west!r} or lng <= {east!r})")
    return " and ".join(parts)
