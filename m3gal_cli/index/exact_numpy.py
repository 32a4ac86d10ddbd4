"""Exact search with numpy alone, so that answers do not wait for the import of torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.searcher import SearchResult, empty_result, inner_products, search_by_filter, top_k
from m3gal_cli.index.segment import Segment

MIN_PRUNED_ROWS = 50_000  # smallest segment for which projections are stored (see ``pca_pruning.py``)
FEW_QUERIES = 3  # with more queries, it is faster to convert the float16 vectors to float32 once for all queries

Block = tuple[NDArray[np.int64], Vectors]  # rows and their vectors


class NumpySearcher:
    """Exact search of a small segment, whose vectors stay in memory as float32 after the first query."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Search as ``Searcher.search``. The result equals sorting all float32 scores."""
        return search_by_filter(self.segment, queries, k, filters, self._search)

    def _search(self, queries: Vectors, k: int, allowed: NDArray[np.int64] | None) -> SearchResult:
        rows, vectors = self._live
        if allowed is not None:
            rows, vectors = allowed, vectors[np.searchsorted(rows, allowed)]
        return _search_blocks([(rows, vectors)], queries, k)

    @cached_property
    def _live(self) -> Block:
        rows = self.segment.live_rows()
        return rows, self.segment.vectors(rows)


def search_rows(segment: Segment, rows: NDArray[np.int64], queries: Vectors, k: int) -> SearchResult:
    """Return the ``k`` best of the given rows for each query. Shape: rows: (n,) ascending. queries: (Q, D)."""
    return _search_blocks(iterate_blocks(segment, rows), queries, k)


def _search_blocks(blocks: Iterable[Block], queries: Vectors, k: int) -> SearchResult:
    result = empty_result(len(queries), k)
    best: list[list[Block]] = [[] for _ in queries]
    for block, vectors in blocks:
        for i, query in enumerate(queries):
            best[i].append(top_k(block, inner_products(vectors, query), k))
    for i, parts in enumerate(best):
        if parts:
            block_rows, block_scores = (np.concatenate(column) for column in zip(*parts, strict=True))
            result.put(i, top_k(block_rows, block_scores, k))
    return result


def iterate_blocks(segment: Segment, rows: NDArray[np.int64]) -> Iterator[Block]:
    """Yield the given rows and their vectors in blocks of at most one shard's size."""
    for first in range(0, len(rows), segment.shard_rows):
        block = rows[first : first + segment.shard_rows]
        yield block, segment.vectors(block)
