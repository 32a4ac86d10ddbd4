"""Exact search of a few queries over few rows by numpy alone: the first answer does not wait for torch's import."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Vectors
from m3gal_cli.geo.filters import Area
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Found, Searcher, best_of, by_area, nothing, products

if TYPE_CHECKING:
    import torch

FEW = 3  # queries up to which the vectors are read as they are; above, they are widened once for all queries
PLAIN_ROWS = 50_000  # of an index: to score so many takes a tenth of torch's import
PLAIN_QUERIES = 16  # at once: a larger batch is worth the import
PLAIN_READ = 500_000  # rows, search after search: by then they took as long as the import, which makes them quicker


class PlainSearcher:
    """Exact search; a larger batch, or many small ones, bring torch, which then answers all that follow.

    Args:
        index: the vectors, few.
        device: where torch is to search.
    """

    def __init__(self, index: Index, device: Callable[[], torch.device]) -> None:
        self.index, self._device, self._read = index, device, 0

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``. Exact: equal to sorting all float32 products with the stored vectors."""
        if len(queries) > PLAIN_QUERIES or self._read >= PLAIN_READ:
            self._read = PLAIN_READ
            return self.whole.search(queries, k, areas)
        found = nothing(len(queries), k)
        for area, own in by_area(len(queries), areas).items():
            rows = np.arange(len(self.index)) if area is None else self.index.rows_in(area)
            self._read += len(rows)
            answer = best_among(self.index, rows, np.ascontiguousarray(queries[own], np.float32), k)
            found.rows[own], found.scores[own] = answer.rows, answer.scores
        return found

    @cached_property
    def whole(self) -> Searcher:
        """The searcher by torch."""
        from m3gal_cli.index.exact import ExactSearcher

        return ExactSearcher(self.index, self._device())


def best_among(index: Index, rows: NDArray[np.int64], queries: Vectors, k: int) -> Found:
    """The best ``k`` of these rows (rising numbers) for each query, all of them scored. Shape: (n,), (Q, D)."""
    found = nothing(len(queries), k)
    pools: list[list[tuple[NDArray[np.int64], Vectors]]] = [[] for _ in queries]
    for part, vectors in blocks(index, rows):
        for i, query in enumerate(queries):
            pools[i].append(best_of(part, products(vectors, query), k))
    for i, pool in enumerate(pools):
        if pool:
            all_rows, all_scores = (np.concatenate(column) for column in zip(*pool, strict=True))
            own, scores = best_of(all_rows, all_scores, k)
            found.rows[i, : len(own)], found.scores[i, : len(own)] = own, scores
    return found


def blocks(index: Index, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Vectors]]:
    """These rows and their vectors, so many at a time as a shard holds."""
    for first in range(0, len(rows), index.shard_rows):
        part = rows[first : first + index.shard_rows]
        yield part, index.vectors(part)
