"""The protocol of all searchers, and functions that they share. This module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.segment import Segment

SearcherKind = Literal["auto", "exact", "ann", "milvus"]


class SearchResult(NamedTuple):
    """The best POIs of each query by descending score; equal scores are ordered by row number.

    Shape:
        rows: (Q, k) int64, row numbers, padded with -1.
        scores: (Q, k) float32, inner products q·v, padded with -inf.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]

    def put(self, query: int, best: tuple[NDArray[np.int64], Vectors]) -> None:
        """Set the rows and the scores of a query."""
        rows, scores = best
        self.rows[query, : len(rows)], self.scores[query, : len(rows)] = rows, scores


class Searcher(Protocol):
    """A method to search a segment, or an index of several segments. Only live rows are found."""

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Return the ``k`` best POIs of each query that pass its filter. Shape: (Q, D), Q filters -> (Q, k)."""
        ...


def empty_result(count: int, k: int) -> SearchResult:
    """Return a result of padding only. Shape: -> (count, k)."""
    return SearchResult(np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32))


def top_k(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], Vectors]:
    """Return the ``k`` best of distinct rows, and their scores; equal scores are ordered by row number."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def inner_products(vectors: Vectors, queries: Vectors) -> Vectors:
    """Return q·v for each vector.

    Equal vectors have bitwise equal scores, because all sums have the same order. BLAS does not guarantee that.

    Shape: (n, D), and (D,) for one query or (n, D) for one query a vector -> (n,).
    """
    queries = queries if queries.ndim == 2 else np.broadcast_to(queries, vectors.shape)
    return np.einsum("nd,nd->n", vectors, queries, optimize=False).astype(np.float32, copy=False)


def search_by_filter(
    segment: Segment,
    queries: Vectors,
    k: int,
    filters: Sequence[GeoFilter | None] | None,
    search: Callable[[Vectors, int, NDArray[np.int64] | None], SearchResult],
) -> SearchResult:
    """Call ``search`` once for each filter: with its queries, ``k``, and the live rows that pass it (None: all)."""
    result = empty_result(len(queries), k)
    for geo_filter, numbers in group_by_filter(len(queries), filters).items():
        rows = None if geo_filter is None else segment.rows_in(geo_filter)
        found = search(np.ascontiguousarray(queries[numbers], np.float32), k, rows)
        result.rows[numbers], result.scores[numbers] = found
    return result


def group_by_filter(count: int, filters: Sequence[GeoFilter | None] | None) -> dict[GeoFilter | None, list[int]]:
    """Return the numbers of the queries by filter; the key None has the queries without a filter."""
    groups: dict[GeoFilter | None, list[int]] = {}
    for i in range(count):
        groups.setdefault(filters[i] if filters is not None else None, []).append(i)
    return groups
