"""Exact search: a fast scan with a known largest error, then float32 products of all that may be among the best.

The scan goes through the rounded vectors. A row whose scanned score lies farther than the error below the k-th best
float32 score so far cannot be among the k best: what is left, a few rows a query, is scored again, row by row, so that
equal vectors score equal and the answer does not depend on the scan. Large indexes on a CPU are scanned by short heads
of their vectors alone (see head).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.core.bi_encoder import has_bf16
from m3gal_cli.encoders.encoder import Vectors
from m3gal_cli.geo.filters import Area
from m3gal_cli.index.exact_numpy import FEW, best_among, blocks
from m3gal_cli.index.index import Index, Shard, read_only
from m3gal_cli.index.pca_pruning import open_head
from m3gal_cli.index.searcher import Found, best_of, by_area, nothing, products

SCORES_AT_ONCE = 4_000_000
PAIRS_AT_ONCE = 1 << 14  # of a query and a row, scored in float32
# Half the distance between 1 and the next number. A scan rounds the query, the vectors and the result, and a GPU may
# round two partial sums; sums are float32.
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
ROUNDINGS = 5


class ExactSearcher:
    """Exact search over an index by scanning all of it; on a GPU the vectors stay there if they fit.

    Args:
        index: the vectors.
        device: where the scan runs.
        scan: the numbers that it runs with, over whole vectors; None: what the device is fast at.
    """

    def __init__(self, index: Index, device: torch.device | str = "cpu", scan: torch.dtype | None = None) -> None:
        self.index, self.device = index, torch.device(device)
        on_cpu = self.device.type == "cpu"
        self.scan = scan or (torch.float16 if not on_cpu else torch.bfloat16 if has_bf16() else torch.float32)
        self.few = 0 if scan else FEW
        self.head = open_head(index) if on_cpu and not scan else None
        stays = not on_cpu and _fits(index.nbytes, self.device)
        self._resident = [read_only(s).to(self.device) for _, s in index.shards()] if stays else []

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``. Exact: equal to sorting all float32 products with the stored vectors."""
        found = nothing(len(queries), k)
        if not len(self.index):
            return found
        at_once = max(1, SCORES_AT_ONCE // self.index.shard_rows)
        for area, chosen in by_area(len(queries), areas).items():
            rows = None if area is None else self.index.rows_in(area)
            for first in range(0, len(chosen), at_once):
                own = chosen[first : first + at_once]
                part = np.ascontiguousarray(queries[own], np.float32)
                answer = self._all(part, k) if rows is None else self.among(rows, part, k)
                found.rows[own], found.scores[own] = answer.rows, answer.scores
        return found

    def among(self, rows: NDArray[np.int64], queries: Vectors, k: int) -> Found:
        """The best ``k`` of these rows (rising numbers) for each query. Shape: (n,), (Q, D)."""
        if len(queries) > FEW:
            return self._scanned(queries, k, rows)
        return best_among(self.index, rows, queries, k)

    def _all(self, queries: Vectors, k: int) -> Found:
        if self.head is None or k > len(self.index):
            return self._scanned(queries, k)
        unit, found = _unit(queries)[0], nothing(len(queries), k)
        candidates = self.head.above(unit, k, lambda query, row: self._pairs(query, row, unit))
        counts = [len(rows) for rows in candidates]
        scores = self._pairs(np.repeat(np.arange(len(counts)), counts), np.concatenate(candidates), queries)
        for i, (rows, own) in enumerate(zip(candidates, np.split(scores, np.cumsum(counts)[:-1]), strict=True)):
            found.rows[i], found.scores[i] = best_of(rows, own, k)
        return found

    def _pairs(self, query: NDArray[np.int64], row: NDArray[np.int64], queries: Vectors) -> Vectors:
        """Scores of pairs; a row that several queries ask for is read once, and each shard in turn. Shape: -> (n,)."""
        out = np.empty(len(row), np.float32)
        order = np.argsort(row, kind="stable")
        for first in range(0, len(row), PAIRS_AT_ONCE):
            own = order[first : first + PAIRS_AT_ONCE]
            rows, which = np.unique(row[own], return_inverse=True)
            out[own] = products(self.index.vectors(rows)[which], queries[query[own]])
        return out

    def _scanned(self, queries: Vectors, k: int, rows: NDArray[np.int64] | None = None) -> Found:
        """The best ``k`` of these rows, or of all, for each query."""
        half = self.device.type == "cpu" and len(queries) <= self.few
        scan = torch.float16 if half else self.scan
        error = scan_error(scan, self.index.dim) * self.index.largest_norm + self.index.largest_rest
        best = _Best(self.index, queries, k, error)
        asked = torch.from_numpy(best.unit).to(self.device, scan)
        for own, numbers, shard in self._parts(rows):
            vectors = self._resident[own] if own in range(len(self._resident)) else read_only(shard).to(self.device)
            best.add(numbers, _each(vectors, asked) if half else asked @ vectors.to(scan).T)
        return best.found()

    def _parts(self, rows: NDArray[np.int64] | None) -> Iterator[tuple[int, NDArray[np.int64], Shard | Vectors]]:
        """Number of the shard (-1: of several), numbers of the rows and vectors, in turn."""
        if rows is not None:
            yield from ((-1, part, vectors) for part, vectors in blocks(self.index, rows))
            return
        for number, (first, shard) in enumerate(self.index.shards()):
            yield number, np.arange(first, first + len(shard)), shard


def scan_error(scan: torch.dtype, dim: int) -> float:
    """How far a scanned score may lie from the float32 one of the same rounded vector, as a share of |q||v|."""
    sums = 4 * dim * 2.0**-24  # of the scan and of the float32 products, and some room
    return ROUNDINGS * ROUNDING[scan] + sums


class _Best:
    """The k best rows of each query so far, and the scanned score below which a row cannot be among them.

    Scans take queries of length 1, so that neither large nor small numbers leave the range of a half.
    """

    def __init__(self, index: Index, queries: Vectors, k: int, error: float) -> None:
        self.index = index
        self.queries, (self.unit, self.scale) = queries, _unit(queries)
        self.k, self.error = k, error + 1e-30
        self.least = np.full(len(queries), -np.inf)  # of a score that may still count, as scanned
        self.kept: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]] = []
        self.fresh = 0

    def add(self, numbers: NDArray[np.int64], scores: torch.Tensor) -> None:
        """Rows by number and their scanned scores. Shape: (n,), (Q, n)."""
        least = self.least
        full = bool(np.isfinite(least).all())
        if not full and scores.shape[1] >= self.k:  # no bound yet: the part's own best give one
            own = torch.topk(scores, self.k, dim=1).values[:, -1].double().cpu().numpy()
            least = np.maximum(least, own - 2 * self.error)
        bound = torch.from_numpy(np.nextafter(least.astype(np.float32), np.float32(-np.inf))).to(scores.device)
        query, at = (scores >= bound[:, None]).nonzero().cpu().numpy().T
        for first in range(0, len(query), PAIRS_AT_ONCE):
            q, rows = query[first : first + PAIRS_AT_ONCE], numbers[at[first : first + PAIRS_AT_ONCE]]
            self.kept.append((q, rows, products(self.index.vectors(rows), self.queries[q])))
            self.fresh += len(q)
            if self.fresh > 4 * len(self.least) * self.k + PAIRS_AT_ONCE:
                self._prune()
        if not full:
            self._prune()

    def found(self) -> Found:
        """The answer. Shape: (Q, k)."""
        found = nothing(len(self.queries), self.k)
        for query, row, score, rank in self._prune():
            found.rows[query, rank], found.scores[query, rank] = row, score
        return found

    def _prune(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors, NDArray[np.int64]]]:
        """Keep the k best of each query: query, row, score and rank, from 0, of them all (or nothing)."""
        self.fresh = 0
        if not self.kept:
            return []
        query, row, score = (np.concatenate(column) for column in zip(*self.kept, strict=True))
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        keep = rank < self.k
        query, row, score, rank = query[keep], row[keep], score[keep], rank[keep]
        self.kept = [(query, row, score)]
        last = rank == self.k - 1
        self.least[query[last]] = score[last].astype(np.float64) / self.scale[query[last], 0] - self.error
        return [(query, row, score, rank)]


def _unit(queries: Vectors) -> tuple[Vectors, NDArray[np.float64]]:
    """Queries of length 1 (or 0), and what they were divided by. Shape: (Q, D) -> (Q, D), (Q, 1)."""
    norms = np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1, keepdims=True))
    scale = np.where(norms > 0, norms, 1.0)
    return (queries / scale).astype(np.float32), scale


def _each(vectors: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Scores query by query, the vectors read as they are. Shape: (n, D), (Q, D) -> (Q, n) float32."""
    return torch.stack([torch.mv(vectors, q) for q in asked]).float()


def _fits(nbytes: int, device: torch.device) -> bool:
    """Whether so many bytes may stay on a device, with room for the model and the scores."""
    return device.type != "cuda" or nbytes < 0.8 * torch.cuda.mem_get_info(device)[0]
