"""Exact search of few rows with numpy alone, so that the first answer does not wait for the import of torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.index.searcher import SearchResult, empty_result, inner_products, top_k
from m3gal_cli.index.segment import Segment

MIN_PRUNED_ROWS = 50_000  # smallest segment for which projections are stored (see ``pca_pruning.py``)
FEW_QUERIES = 3  # with more queries, it is faster to convert the float16 vectors to float32 once for all queries


def search_rows(segment: Segment, rows: NDArray[np.int64], queries: Vectors, k: int) -> SearchResult:
    """Return the ``k`` best of the given rows for each query. Shape: rows: (n,) ascending. queries: (Q, D)."""
    result = empty_result(len(queries), k)
    best: list[list[tuple[NDArray[np.int64], Vectors]]] = [[] for _ in queries]
    for block, vectors in iterate_blocks(segment, rows):
        for i, query in enumerate(queries):
            best[i].append(top_k(block, inner_products(vectors, query), k))
    for i, parts in enumerate(best):
        if parts:
            block_rows, block_scores = (np.concatenate(column) for column in zip(*parts, strict=True))
            result.put(i, top_k(block_rows, block_scores, k))
    return result


def iterate_blocks(segment: Segment, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """Yield the given rows and their vectors in blocks of at most one shard's size."""
    for first in range(0, len(rows), segment.shard_rows):
        block = rows[first : first + segment.shard_rows]
        yield block, segment.vectors(block)
