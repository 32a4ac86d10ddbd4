"""What every way of searching gives, and is made of. Imports no torch, which takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Vectors
from m3gal_cli.geo.filters import Area

Kind = Literal["auto", "exact", "ann", "milvus"]


class Found(NamedTuple):
    """The best POIs of each query, best first; equal scores in the order of the index.

    Shape:
        rows: (Q, k) int64, numbers of rows of the index, -1 where there are fewer. scores: (Q, k) float32, q·v; -inf
        where there are fewer.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Searcher(Protocol):
    """A way to search an index: exact, approximate, or an engine of its own."""

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """The best ``k`` POIs of each query, of those in its area if it has one. Shape: queries (Q, D), Q areas."""
        ...


def nothing(count: int, k: int) -> Found:
    """An answer without a match, to be filled. Shape: (count, k)."""
    return Found(np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32))


def best_of(rows: NDArray[np.int64], scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], Vectors]:
    """The ``k`` best of distinct rows with their scores, equal ones by number. Shape: (n,), (n,) -> (k or fewer,)."""
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def products(vectors: Vectors, queries: Vectors) -> Vectors:
    """q·v of each row, summed the same way for every row, so that equal rows are equal to the bit.

    Shape:
        vectors: (n, D). queries: (D,), one for all rows, or (n, D), one a row -> (n,).
    """
    asked = queries if queries.ndim == 2 else np.broadcast_to(queries, vectors.shape)
    return np.einsum("nd,nd->n", vectors, asked, optimize=False).astype(np.float32, copy=False)


def by_area(count: int, areas: Sequence[Area | None] | None) -> dict[Area | None, list[int]]:
    """Numbers of the queries of each area, None for those that have none."""
    groups: dict[Area | None, list[int]] = {}
    for i in range(count):
        groups.setdefault(areas[i] if areas is not None else None, []).append(i)
    return groups
