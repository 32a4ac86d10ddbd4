"""Scores of queries with POI rows, a tile of the whole table of scores at a time.

A tile's scores are float32 products with a known largest error. Whoever compares them leaves that much room, and asks
for the exact scores of the few that lie too near to tell: these come from one function, ``exact_products``, which sums
every row in the same order, so that equal vectors score equal and nothing depends on library, block or batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.encoders.encoder import Vectors

KINDS = ("text", "location", "fused")
EXACT_AT_ONCE = 4096  # pairs of vectors; their products are float64
SLICE_SCORES = 1 << 17  # compared at once on a CPU: what its caches hold
SPREAD_FROM = 0.75  # distinct vectors a row from which multiplying all rows is faster than gathering scores
TINY = 1e-30  # what products too small for float32 may add up to

Numbers = NDArray[np.int64]
Floats = NDArray[np.float64]
Pairs = tuple[Numbers, Numbers]  # number of the query within the tile, and of the column


def relative_error(dim: int) -> float:
    """Largest error of a float32 product of ``dim`` terms by |q||v|, the roundings of a sum of two products included.

    Certain, however the terms are summed, is n u / (1 - n u) (Higham 2002, section 3.1). From 64 terms on 8 sqrt(n) u
    is less, which roundings that do not conspire keep to but for one product in 10^10 or so (Higham & Mary 2019); it
    is more than ten times what is seen.
    """
    n, u = dim + 4, 2.0**-24
    return min(n, 8.0 * math.sqrt(n)) * u / (1.0 - n * u)


def exact_products(a: Tensor, b: Tensor) -> Tensor:
    """a·b of each pair of rows in float64; the terms are exact and added by halves, the same way for every row.

    Shape:
        a, b: (n, D) float32 -> (n,) float64.
    """
    out = torch.empty(len(a), dtype=torch.float64, device=a.device)
    for start in range(0, len(a), EXACT_AT_ONCE):
        terms = a[start : start + EXACT_AT_ONCE].double().mul_(b[start : start + EXACT_AT_ONCE])  # exact
        width = terms.shape[1]
        while width > 1:
            half = width // 2
            terms[:, :half] += terms[:, half : 2 * half]
            if width % 2:
                terms[:, 0] += terms[:, width - 1]
            width = half
        out[start : start + EXACT_AT_ONCE] = terms[:, 0]
    return out


@dataclass(frozen=True)
class Queries:
    """Vectors of a run of queries, all finite, on the device.

    Args:
        numbers: their places among all queries.
        norms: their lengths.
    """

    numbers: Numbers
    vectors: Tensor
    norms: Floats

    @classmethod
    def of(cls, numbers: Numbers, vectors: Vectors, device: torch.device) -> Queries:
        """Shape: (q,), (q, D)."""
        norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1))
        return cls(numbers, torch.from_numpy(vectors).to(device), norms)


class Side:
    """The texts, or the places, of a block's rows: each distinct one's vector, and which of them a row has.

    Args:
        vectors: (m, D). What is not finite has no score, -inf.
        codes: (n,) numbers of ``vectors``.
    """

    def __init__(self, vectors: Vectors, codes: Numbers, device: torch.device) -> None:
        bad = np.asarray(~np.isfinite(vectors).all(axis=1))
        self.bad: NDArray[np.bool_] | None = bad if bad.any() else None
        if self.bad is not None:
            vectors = np.where(bad[:, None], np.float32(0), vectors)
        self.codes = codes
        self.longest = float(np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1).max(initial=0.0)))
        self.distinct = torch.from_numpy(np.ascontiguousarray(vectors)).to(device)
        self._codes = torch.from_numpy(codes).to(device)
        same = len(vectors) == len(codes) and bool((codes == np.arange(len(codes))).all())
        self._rows = self.distinct if same else None
        if not same and len(vectors) >= SPREAD_FROM * len(codes):
            self._rows = self.distinct[self._codes]

    def scores(self, queries: Tensor) -> Tensor:
        """Float32 products with every row. Shape: (q, D) -> (q, n)."""
        out = queries @ self._rows.T if self._rows is not None else (queries @ self.distinct.T)[:, self._codes]
        if self.bad is not None:
            out[:, torch.from_numpy(self.bad[self.codes]).to(out.device)] = -torch.inf
        return out

    def exact(self, queries: Tensor, pairs: Pairs) -> Floats:
        """Exact scores of pairs of query and row; each query is scored once with each distinct vector."""
        query, code = pairs[0], self.codes[pairs[1]]
        keys, inverse = np.unique(query * len(self.distinct) + code, return_inverse=True)
        query, code = np.divmod(keys, len(self.distinct))
        device = queries.device
        out: Floats = np.empty(len(keys))
        for start in range(0, len(keys), EXACT_AT_ONCE):
            own = slice(start, start + EXACT_AT_ONCE)
            a, b = (torch.from_numpy(x[own]).to(device) for x in (query, code))
            out[own] = exact_products(queries[a], self.distinct[b]).cpu().numpy()
        if self.bad is not None:
            out[self.bad[code]] = -np.inf
        return out[inverse]


@dataclass(frozen=True)
class Block:
    """Rows of the table with their vectors. Args: rows: (n,) their numbers in the table."""

    rows: Numbers
    text: Side
    place: Side


class Tile:
    """The scores of some queries with a block, of one kind."""

    def __init__(self, kind: str, queries: Queries, block: Block, scores: Tensor) -> None:
        self.kind, self.queries, self.block, self._scores = kind, queries, block, scores
        sides = {"text": [block.text], "location": [block.place], "fused": [block.text, block.place]}[kind]
        self._sides = sides
        reach = sum(side.longest for side in sides)
        self.margin: Floats = relative_error(queries.vectors.shape[1]) * queries.norms * reach + TINY
        self.top: Floats = _row_max(scores)

    def exact(self, pairs: Pairs) -> Floats:
        """Exact scores of pairs. Shape: (n,), (n,) -> (n,) float64."""
        first, *more = (side.exact(self.queries.vectors, pairs) for side in self._sides)
        return first + more[0] if more else first

    def band(self, centre: Floats) -> tuple[Numbers, Pairs]:
        """How many scores lie above ``centre`` for certain, and the pairs that may.

        Shape:
            centre: (q,), exact scores; inf: nothing is asked -> (q,) numbers, pairs.
        """
        low, high = _down(centre - self.margin), _up(centre + self.margin)
        above = np.zeros(len(centre), np.int64)
        asked = np.flatnonzero(self.top >= low)
        query, column, above[asked] = _band(self._scores, asked, low[asked], high[asked])
        return above, (query, column)

    def reaching(self, least: Floats) -> Pairs:
        """Pairs whose exact score may reach ``least``. Shape: (q,), exact scores."""
        low = _down(least - self.margin)
        asked = np.flatnonzero((self.top >= low) & (self.top > -np.inf))
        query, column, _ = _band(self._scores, asked, low[asked], np.full(len(asked), np.inf, np.float32))
        return query, column

    def reached_by(self, k: int, asked: Numbers) -> Floats:
        """What the exact scores of ``k`` rows of the tile reach; -inf where it has fewer. Shape: (a,) -> (a,)."""
        if self._scores.shape[1] < k:
            return np.full(len(asked), -np.inf)
        some = self._scores[torch.from_numpy(asked).to(self._scores.device)]
        edge = torch.topk(some, k, dim=1).values[:, -1].double().cpu().numpy()
        return np.asarray(edge - self.margin[asked])


def tiles(queries: Queries, block: Block) -> Iterator[Tile]:
    """The tiles of text, location and fused scores, one after the other: each is to be done with before the next."""
    text = block.text.scores(queries.vectors)
    yield Tile("text", queries, block, text)
    place = block.place.scores(queries.vectors)
    yield Tile("location", queries, block, place)
    yield Tile("fused", queries, block, text.add_(place))


def _row_max(scores: Tensor) -> Floats:
    if scores.device.type == "cpu":
        return np.asarray(scores.numpy().max(axis=1), np.float64)
    return np.asarray(scores.amax(dim=1).double().cpu().numpy())


def _band(
    scores: Tensor, asked: Numbers, low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[Numbers, Numbers, Numbers]:
    """Of the rows ``asked``: pairs with low <= score <= high, and how many scores of each row are above high."""
    if not len(asked):
        return asked, asked, asked
    own = _band_on_cpu if scores.device.type == "cpu" else _band_on_device
    query, column, above = own(scores, asked, low, high)
    return asked[query], column, above


def _band_on_cpu(
    scores: Tensor, asked: Numbers, low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[Numbers, Numbers, Numbers]:
    table, n = scores.numpy(), scores.shape[1]
    step = max(1, SLICE_SCORES // max(n, 1))
    above = np.zeros(len(asked), np.int64)
    found: list[Numbers] = []
    for start in range(0, len(asked), step):
        own = slice(start, start + step)
        part = table[own] if len(asked) == len(table) else table[asked[own]]
        near = part >= low[own, None]
        if np.isfinite(high[own]).any():
            over = part > high[own, None]
            above[own] = [np.count_nonzero(row) for row in over]
            near ^= over
        found.append(np.flatnonzero(near) + start * n)
    query, column = np.divmod(np.concatenate(found), n)
    return query, column, above


def _band_on_device(
    scores: Tensor, asked: Numbers, low: NDArray[np.float32], high: NDArray[np.float32]
) -> tuple[Numbers, Numbers, Numbers]:
    part = scores[torch.from_numpy(asked).to(scores.device)]
    lower, upper = (torch.from_numpy(x).to(scores.device)[:, None] for x in (low, high))
    over = part > upper
    query, column = ((part >= lower) & ~over).nonzero().cpu().numpy().T
    return query, column, over.sum(dim=1).cpu().numpy()


def _down(values: Floats) -> NDArray[np.float32]:
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def _up(values: Floats) -> NDArray[np.float32]:
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))
