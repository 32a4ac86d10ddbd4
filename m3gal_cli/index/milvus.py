"""Search with Milvus: a Milvus Lite file, a server or a cluster.

Milvus returns candidates, which are scored as in exact search: equal vectors have equal scores, and ties are ordered by
row. More candidates are requested until no other row can be among the best. With a FLAT index, which scans all vectors,
the result equals exact search. With an HNSW graph it is as good as the candidates of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.milvus_store import MilvusSettings, MilvusStore
from m3gal_cli.index.searcher import SearchResult, empty_result, group_by_filter, inner_products, top_k
from m3gal_cli.index.segment import Segment

SCORE_ERROR = 1e-5  # error of Milvus' float32 scores, relative to |q||v|

ScoredRows = tuple[NDArray[np.int64], Vectors]


class MilvusSearcher:
    """Searches the filled Milvus collection of a segment; opened by ``open_milvus``."""

    def __init__(self, store: MilvusStore) -> None:
        self.store, self.segment, self.settings = store, store.segment, store.settings

    def close(self) -> None:
        """Close the connection. This process keeps a Milvus Lite file open until it ends."""
        self.store.close()

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Search as ``Searcher.search``. Raises InputError if the connection is lost."""
        result = empty_result(len(queries), k)
        if not len(queries) or not self.segment.live_count or k < 1:
            return result
        queries = np.ascontiguousarray(queries, np.float32)
        for geo_filter, numbers in group_by_filter(len(queries), filters).items():
            self._search_filtered(result, queries, numbers, k, geo_filter)
        return result

    def _search_filtered(
        self, result: SearchResult, queries: Vectors, numbers: list[int], k: int, geo_filter: GeoFilter | None
    ) -> None:
        """Answer the queries of one filter; request four times as many candidates until each result is final."""
        settings = self.settings
        expression = "" if geo_filter is None else filter_expression(geo_filter)
        segment = self.segment
        allowed = cache(lambda: segment.live_count if geo_filter is None else len(segment.rows_in(geo_filter)))
        # Milvus filters by the box around a circle. The circle fills π/4 of it.
        limit = k if geo_filter is None or geo_filter.centre is None else 2 * k
        limit = limit * len(segment) // segment.live_count + settings.extra_hits  # Milvus also returns hidden rows
        limit = min(settings.max_hits, limit)
        while numbers:
            open_numbers: list[int] = []
            batch = max(1, settings.hits_per_call // limit)
            for first in range(0, len(numbers), batch):
                part = numbers[first : first + batch]
                for i, hits in zip(part, self.store.search(queries[part], limit, expression), strict=True):
                    best = self._score(hits[0], queries[i], k, geo_filter)
                    if self._is_final(hits, best, limit, k, queries[i], allowed):
                        result.put(i, best)
                    else:
                        open_numbers.append(i)
            if open_numbers and limit == settings.max_hits:
                self._search_locally(result, queries, open_numbers, k, geo_filter)
                return
            numbers, limit = open_numbers, min(settings.max_hits, 4 * limit)

    def _score(self, rows: NDArray[np.int64], query: Vectors, k: int, geo_filter: GeoFilter | None) -> ScoredRows:
        """Return the k best live candidates by the vectors of the segment, after the exact filter."""
        rows = np.unique(rows)
        rows = rows[(rows >= 0) & (rows < len(self.segment))]
        if self.segment.live is not None:
            rows = rows[self.segment.live[rows]]
        if geo_filter is not None:
            rows = rows[geo_filter.rows(self.segment.lng[rows], self.segment.lat[rows])]
        return top_k(rows, inner_products(self.segment.vectors(rows), query), k)

    def _is_final(
        self, hits: ScoredRows, best: ScoredRows, limit: int, k: int, query: Vectors, allowed: Callable[[], int]
    ) -> bool:
        """Return whether no row that Milvus left out can be among the best."""
        if len(hits[0]) < limit:  # Milvus has no more candidates; a graph may report that too early
            return len(best[0]) == k or len(best[0]) == allowed()
        error = SCORE_ERROR * self.segment.max_norm + self.segment.max_residual_norm
        margin = 2 * error * float(np.linalg.norm(query))
        return len(best[0]) == k and float(hits[1].min()) < float(best[1][-1]) - margin

    def _search_locally(
        self, result: SearchResult, queries: Vectors, numbers: list[int], k: int, geo_filter: GeoFilter | None
    ) -> None:
        """Search the vectors of the segment, for queries that need more candidates than Milvus returns."""
        from m3gal_cli.index.exact import ExactSearcher

        rows = self.segment.live_rows() if geo_filter is None else self.segment.rows_in(geo_filter)
        found = ExactSearcher(self.segment).search_rows(rows, queries[numbers], k)
        result.rows[numbers], result.scores[numbers] = found


def open_milvus(
    segment: Segment,
    uri: str,
    progress: Progress | None = None,
    settings: MilvusSettings | None = None,
    keep: Collection[str] = (),
) -> MilvusSearcher:
    """Open the Milvus collection of a segment; create it, and write the rows that it lacks.

    Args:
        segment: The segment to search.
        uri: Path that ends in ``.db`` (Milvus Lite), or ``http://host:19530`` of a server or cluster. The environment
            variable M3GAL_MILVUS_TOKEN holds the token: user:password or an API key.
        progress: Called with the rows in the collection and the rows in all.
        settings: Sizes and time limits.
        keep: Names of the collections of the other segments. All others of the same index are dropped.

    Raises:
        InputError: pymilvus is not installed, no server answers, the token is refused, or the connection is lost. The
            next start continues after the last row.
    """
    store = MilvusStore(segment, uri, settings or MilvusSettings())
    try:
        store.fill(progress or (lambda done, total: None), keep)
    except BaseException:
        store.close()
        raise
    return MilvusSearcher(store)


def filter_expression(geo_filter: GeoFilter) -> str:
    """Return the boxes of a filter as a boolean expression of Milvus over lng and lat."""
    parts: list[str] = []
    for box in geo_filter.boxes():
        west, south, east, north = (float(edge) for edge in box)
        parts.append(f"lat >= {south!r} and lat <= {north!r}")
        if west <= east:
            parts.append(f"lng >= {west!r} and lng <= {east!r}")
        else:  # across the 180th meridian
            parts.append(f"(lng >= {west!r} or lng <= {east!r})")
    return " and ".join(parts)
