"""Scores of a batch of queries with a block of POI rows, and exact comparisons of these scores.

A tile holds fast float32 products, whose largest error, the margin, is known. A float32 score that differs from a
threshold by more than the margin decides the comparison. The few others are computed again by ``exact_products``, which
adds in the same order for every row. So equal vectors have equal scores, and ranks do not depend on library or batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.encoders.protocol import Vectors

EXACT_BATCH = 4096  # pairs of vectors; their products are float64
CPU_SLICE = 1 << 17  # scores compared at once on a CPU, to fit its caches
SPREAD_SHARE = 0.75  # distinct vectors per row from which multiplying all rows is faster than gathering scores
TINY = 1e-30  # bound of a sum of products that underflow in float32

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Pairs = tuple[Numbers, Numbers]  # number of the query within the batch, and of the row within the block


def relative_error(dim: int) -> float:
    """Return a bound of the error of a float32 product of ``dim`` terms, relative to |q||v|.

    It includes the rounding of text + location. With unit roundoff u, n u / (1 - n u) holds for any order of addition
    (Higham 2002, section 3.1). From 64 terms on, 8 sqrt(n) u is smaller, and about one product in 10^10 exceeds it
    (Higham & Mary 2019). Measured errors are less than a tenth of it.
    """
    n, u = dim + 4, 2.0**-24
    return min(n, 8.0 * math.sqrt(n)) * u / (1.0 - n * u)


def exact_products(a: Tensor, b: Tensor, batch: int = EXACT_BATCH) -> Tensor:
    """Return a·b of each pair of rows. Terms are exact in float64 and are added pairwise, in one order for all rows.

    Shape:
        a, b: (n, D) float32 -> (n,) float64.
    """
    out = torch.empty(len(a), dtype=torch.float64, device=a.device)
    for start in range(0, len(a), batch):
        terms = a[start : start + batch].double().mul_(b[start : start + batch])  # exact
        width = terms.shape[1]
        while width > 1:
            half = width // 2
            terms[:, :half] += terms[:, half : 2 * half]
            if width % 2:
                terms[:, 0] += terms[:, width - 1]
            width = half
        out[start : start + batch] = terms[:, 0]
    return out


@dataclass(frozen=True)
class QueryBatch:
    """Finite vectors of some queries, on the device. Shape: numbers: (q,). vectors: (q, D). norms: (q,)."""

    numbers: Numbers
    vectors: Tensor
    norms: Floats

    @classmethod
    def of(cls, numbers: Numbers, vectors: Vectors, device: torch.device) -> QueryBatch:
        """Copy vectors to the device. Shape: (q,), (q, D)."""
        norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
        return cls(numbers, torch.from_numpy(vectors).to(device), norms)


class BlockVectors:
    """The text vectors, or the location vectors, of the rows of a block.

    Args:
        vectors: (m, D), the distinct vectors. A vector that is not finite has the score -inf.
        codes: (n,), the number of the vector of each row.
        device: Device that computes the products.
    """

    def __init__(self, vectors: Vectors, codes: Numbers, device: torch.device) -> None:
        invalid = np.asarray(~np.isfinite(vectors).all(axis=1))
        self.invalid: NDArray[np.bool_] | None = invalid if invalid.any() else None
        if self.invalid is not None:
            vectors = np.where(invalid[:, None], np.float32(0), vectors)
        self.codes = codes
        self.largest_norm = float(np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0)))
        self.distinct = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
        self._codes = torch.from_numpy(codes).to(device)
        same = len(vectors) == len(codes) and bool((codes == np.arange(len(codes))).all())
        self._rows = self.distinct if same else None
        if not same and len(vectors) >= SPREAD_SHARE * len(codes):
            self._rows = self.distinct[self._codes]

    def scores(self, queries: Tensor) -> Tensor:
        """Return float32 products with every row. Shape: (q, D) -> (q, n)."""
        out = queries @ self._rows.T if self._rows is not None else (queries @ self.distinct.T)[:, self._codes]
        if self.invalid is not None:
            out[:, torch.from_numpy(self.invalid[self.codes]).to(out.device)] = -torch.inf
        return out

    def exact(self, queries: Tensor, pairs: Pairs) -> Floats:
        """Return exact scores of pairs. Pairs of equal query and vector are computed once."""
        query, code = pairs[0], self.codes[pairs[1]]
        keys, inverse = np.unique(query * len(self.distinct) + code, return_inverse=True)
        query, code = np.divmod(keys, len(self.distinct))
        device = queries.device
        out: Floats = np.empty(len(keys))
        for start in range(0, len(keys), EXACT_BATCH):
            part = slice(start, start + EXACT_BATCH)
            a, b = (torch.from_numpy(x[part]).to(device) for x in (query, code))
            out[part] = exact_products(queries[a], self.distinct[b]).cpu().numpy()
        if self.invalid is not None:
            out[self.invalid[code]] = -np.inf
        return out[inverse]


@dataclass(frozen=True)
class Block:
    """Rows of the table with their vectors. Shape: rows: (n,), numbers in the table."""

    rows: Numbers
    text: BlockVectors
    location: BlockVectors


class Tile:
    """The float32 scores of one kind of a batch of q queries with a block of n rows.

    Attributes:
        margin: (q,), largest error of a score of each query.
        top: (q,), largest float32 score of each query.
    """

    def __init__(self, kind: str, queries: QueryBatch, block: Block, scores: Tensor) -> None:
        self.kind, self.queries, self.block, self._scores = kind, queries, block, scores
        self._parts = {"text": [block.text], "location": [block.location], "fused": [block.text, block.location]}[kind]
        norms = sum(part.largest_norm for part in self._parts)
        self.margin: Floats = relative_error(queries.vectors.shape[1]) * queries.norms * norms + TINY
        on_cpu = scores.device.type == "cpu"  # there numpy is faster
        top = scores.numpy().max(axis=1) if on_cpu else scores.amax(dim=1).cpu().numpy()
        self.top: Floats = np.asarray(top, np.float64)

    def exact(self, pairs: Pairs) -> Floats:
        """Return exact scores of pairs. Shape: (n,), (n,) -> (n,) float64."""
        first, *more = (part.exact(self.queries.vectors, pairs) for part in self._parts)
        return first + more[0] if more else first

    def compare(self, thresholds: Floats) -> tuple[Numbers, Pairs]:
        """Return how many scores of each query are certainly above its threshold, and the pairs that are undecided.

        Shape:
            thresholds: (q,), exact scores, inf for no comparison -> (q,), pairs.
        """
        low, high = _float32(thresholds - self.margin, -np.inf), _float32(thresholds + self.margin, np.inf)
        above = np.zeros(len(thresholds), np.int64)
        chosen = np.flatnonzero(self.top >= low)
        query, column, above[chosen] = _compare(self._scores, chosen, low[chosen], high[chosen])
        return above, (query, column)

    def reaching(self, thresholds: Floats) -> Pairs:
        """Return the pairs whose exact score may reach the threshold of the query. Shape: (q,), exact scores."""
        low = _float32(thresholds - self.margin, -np.inf)
        chosen = np.flatnonzero((self.top >= low) & (self.top > -np.inf))
        query, column, _ = _compare(self._scores, chosen, low[chosen], np.full(len(chosen), np.inf, np.float32))
        return query, column

    def kth_score_bound(self, k: int, chosen: Numbers) -> Floats:
        """Return a lower bound of the k-th best exact score of queries; -inf for fewer rows. Shape: (a,) -> (a,)."""
        if self._scores.shape[1] < k:
            return np.full(len(chosen), -np.inf)
        scores = self._scores[torch.from_numpy(chosen).to(self._scores.device)]
        kth = torch.topk(scores, k, dim=1).values[:, -1].double().cpu().numpy()
        return np.asarray(kth - self.margin[chosen])


def score_tiles(queries: QueryBatch, block: Block) -> Iterator[Tile]:
    """Yield the tiles of text, location and fused scores. A tile is valid until the next one is computed."""
    text = block.text.scores(queries.vectors)
    yield Tile("text", queries, block, text)
    location = block.location.scores(queries.vectors)
    yield Tile("location", queries, block, location)
    yield Tile("fused", queries, block, text.add_(location))


def _compare(scores: Tensor, chosen: Numbers, low: Float32s, high: Float32s) -> tuple[Numbers, Numbers, Numbers]:
    """Compare the chosen rows of scores; the first index of a pair is into ``scores``. See ``compare_on_device``."""
    if not len(chosen):
        return chosen, chosen, chosen
    compare = compare_on_cpu if scores.device.type == "cpu" else compare_on_device
    query, column, above = compare(scores, chosen, low, high)
    return chosen[query], column, above


def compare_on_cpu(
    scores: Tensor, chosen: Numbers, low: Float32s, high: Float32s, slice_size: int = CPU_SLICE
) -> tuple[Numbers, Numbers, Numbers]:
    """Compute ``compare_on_device`` in slices that fit the caches of a CPU."""
    table, n = scores.numpy(), scores.shape[1]
    step = max(1, slice_size // max(n, 1))
    above = np.zeros(len(chosen), np.int64)
    near: list[Numbers] = []
    for start in range(0, len(chosen), step):
        rows = slice(start, start + step)
        part = table[rows] if len(chosen) == len(table) else table[chosen[rows]]
        reached = part >= low[rows, None]
        if np.isfinite(high[rows]).any():
            over = part > high[rows, None]
            above[rows] = [np.count_nonzero(row) for row in over]
            reached ^= over
        near.append(np.flatnonzero(reached) + start * n)
    query, column = np.divmod(np.concatenate(near), n)
    return query, column, above


def compare_on_device(
    scores: Tensor, chosen: Numbers, low: Float32s, high: Float32s
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the pairs with low <= score <= high, and the number of scores above high in each row.

    Shape:
        scores: (q, n). chosen: (a,), rows to compare. low, high: (a,) -> (p,), (p,), (a,); the first index is into
        ``chosen``.
    """
    part = scores[torch.from_numpy(chosen).to(scores.device)]
    lower, upper = (torch.from_numpy(x).to(scores.device)[:, None] for x in (low, high))
    over = part > upper
    query, column = ((part >= lower) & ~over).nonzero().cpu().numpy().T
    return query, column, over.sum(dim=1).cpu().numpy()


def _float32(values: Floats, towards: float) -> Float32s:
    """Round to the next float32 in a direction, so that no exact value lies outside."""
    return np.nextafter(values.astype(np.float32), np.float32(towards))
