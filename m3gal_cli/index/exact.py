"""Exact search with torch: a fast scan of bounded error, then float32 scores of all rows that may be among the best.

The scan uses the rounded vectors. A row cannot be among the k best if its scanned score plus the error of the scan is
below the k-th best float32 score. The few other rows are scored in float32, so equal vectors have equal scores and the
result does not depend on the scan. On a CPU, the scan of large segments reads principal components only
(``pca_pruning``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.core.devices import has_bf16
from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.vector_shards import shared_tensor
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.exact_numpy import FEW_QUERIES, iterate_blocks, search_rows
from m3gal_cli.index.pca_pruning import DEFAULTS, PruningSettings, open_pruner
from m3gal_cli.index.searcher import SearchResult, empty_result, inner_products, search_by_filter, top_k
from m3gal_cli.index.segment import Segment, Shard

MAX_SCORES = 4_000_000  # scanned scores in memory at once
MAX_PAIRS = 1 << 14  # pairs of query and row that are scored in float32 at once
# Relative rounding error: half the distance between 1 and the next number.
ROUNDING = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
ROUNDINGS = 5  # of the query, the vectors and the result, and on a GPU of two partial sums


class ExactSearcher:
    """Exact search of a segment; a GPU keeps the rounded vectors in its memory if they fit.

    ``scan_dtype`` is the number format of a scan of whole vectors. By default the fastest method is used.
    """

    def __init__(
        self,
        segment: Segment,
        device: torch.device | str = "cpu",
        scan_dtype: torch.dtype | None = None,
        pruning: PruningSettings = DEFAULTS,
        max_scores: int = MAX_SCORES,
        max_pairs: int = MAX_PAIRS,
    ) -> None:
        self.segment, self.device = segment, torch.device(device)
        self._max_scores, self._max_pairs = max_scores, max_pairs
        on_cpu = self.device.type == "cpu"
        fastest = torch.float16 if not on_cpu else torch.bfloat16 if has_bf16() else torch.float32
        self.scan_dtype = scan_dtype or fastest
        self._few_queries = 0 if scan_dtype else FEW_QUERIES
        self.pruner = open_pruner(segment, pruning) if on_cpu and not scan_dtype else None
        # A fifth of the free memory remains for the model and the scores.
        free = 0.8 * torch.cuda.mem_get_info(self.device)[0] if self.device.type == "cuda" else np.inf
        resident = not on_cpu and segment.nbytes < free
        self._resident = [shared_tensor(s).to(self.device) for _, s in segment.shards()] if resident else []

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Search as ``Searcher.search``. The result equals sorting all float32 scores."""
        if not self.segment.live_count:
            return empty_result(len(queries), k)
        return search_by_filter(self.segment, queries, k, filters, self._search)

    def _search(self, queries: Vectors, k: int, rows: NDArray[np.int64] | None) -> SearchResult:
        batch = max(1, self._max_scores // self.segment.shard_rows)
        result = empty_result(len(queries), k)
        for own in (slice(first, first + batch) for first in range(0, len(queries), batch)):
            part = queries[own]
            found = self._search_all(part, k) if rows is None else self.search_rows(rows, part, k)
            result.rows[own], result.scores[own] = found
        return result

    def search_rows(self, rows: NDArray[np.int64], queries: Vectors, k: int) -> SearchResult:
        """Return the ``k`` best of the given live rows for each query. Shape: rows: (n,) ascending. queries: (Q, D)."""
        if len(queries) > FEW_QUERIES:
            return self._scan(queries, k, rows)
        return search_rows(self.segment, rows, queries, k)

    def _search_all(self, queries: Vectors, k: int) -> SearchResult:
        if self.pruner is None or k > self.segment.live_count:
            return self._scan(queries, k)
        unit, result = _normalize(queries)[0], empty_result(len(queries), k)
        candidates = self.pruner.candidates(unit, k, lambda query, row: self._score_pairs(query, row, unit))
        counts = [len(rows) for rows in candidates]
        scores = self._score_pairs(np.repeat(np.arange(len(counts)), counts), np.concatenate(candidates), queries)
        for i, (rows, own) in enumerate(zip(candidates, np.split(scores, np.cumsum(counts)[:-1]), strict=True)):
            result.put(i, top_k(rows, own, k))
        return result

    def _score_pairs(self, query: NDArray[np.int64], row: NDArray[np.int64], queries: Vectors) -> Vectors:
        """Return the scores of pairs of query and row; rows are read once and in order."""
        out = np.empty(len(row), np.float32)
        order = np.argsort(row, kind="stable")
        for first in range(0, len(row), self._max_pairs):
            own = order[first : first + self._max_pairs]
            rows, inverse = np.unique(row[own], return_inverse=True)
            out[own] = inner_products(self.segment.vectors(rows)[inverse], queries[query[own]])
        return out

    def _scan(self, queries: Vectors, k: int, rows: NDArray[np.int64] | None = None) -> SearchResult:
        """Return the ``k`` best of the given live rows, or of all live rows, for each query."""
        by_query = self.device.type == "cpu" and len(queries) <= self._few_queries
        dtype = torch.float16 if by_query else self.scan_dtype
        error = scan_error(dtype, self.segment.dim) * self.segment.max_norm + self.segment.max_residual_norm
        best = _TopK(self.segment, queries, k, error, self._max_pairs)
        scanned = torch.from_numpy(best.unit).to(self.device, dtype)
        for number, block, stored in self._blocks(rows):
            on_device = number in range(len(self._resident))
            vectors = self._resident[number] if on_device else shared_tensor(stored).to(self.device)
            best.add(block, scan_by_query(vectors, scanned) if by_query else scanned @ vectors.to(dtype).T)
        return best.result()

    def _blocks(self, rows: NDArray[np.int64] | None) -> Iterator[tuple[int, NDArray[np.int64], Shard | Vectors]]:
        """Yield the number of the shard (-1 for given rows), the row numbers, and their vectors."""
        if rows is not None:
            yield from ((-1, block, vectors) for block, vectors in iterate_blocks(self.segment, rows))
            return
        for number, (first, shard) in enumerate(self.segment.shards()):
            yield number, np.arange(first, first + len(shard)), shard


def scan_error(dtype: torch.dtype, dim: int) -> float:
    """Return the largest error of a scanned score of a rounded vector, relative to |q||v|."""
    sums = 4 * dim * 2.0**-24  # error of the sums of both scores, with a margin
    return ROUNDINGS * ROUNDING[dtype] + sums


def scan_by_query(vectors: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Return scores query by query, without conversion of the float16 vectors. Shape: (n, D), (Q, D) -> (Q, n)."""
    return torch.stack([torch.mv(vectors, query) for query in queries]).float()


class _TopK:
    """The k best rows of each query so far.

    The threshold of a query is the scanned score below which a row cannot be among its k best. Queries are scaled to
    length 1, which keeps scores within the range of float16.
    """

    def __init__(self, segment: Segment, queries: Vectors, k: int, error: float, max_pairs: int) -> None:
        self.segment, self.queries, self.k, self.max_pairs = segment, queries, k, max_pairs
        self.unit, self.norms = _normalize(queries)
        self.error = error + 1e-30
        self.thresholds = np.full(len(queries), -np.inf)
        self.kept: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]] = []
        self.added = 0  # pairs since the last pruning

    def add(self, rows: NDArray[np.int64], scores: torch.Tensor) -> None:
        """Add a block of rows with their scanned scores. Shape: rows: (n,). scores: (Q, n)."""
        thresholds = self.thresholds
        if self.segment.live is not None and not (live := self.segment.live[rows]).all():
            column = np.flatnonzero(live)
            rows, scores = rows[column], scores[:, torch.from_numpy(column).to(scores.device)]
        full = bool(np.isfinite(thresholds).all())
        if not full and scores.shape[1] >= self.k:  # the block's own k-th best score is a first threshold
            kth = torch.topk(scores, self.k, dim=1).values[:, -1].double().cpu().numpy()
            thresholds = np.maximum(thresholds, kth - 2 * self.error)
        rounded_down = np.nextafter(thresholds.astype(np.float32), np.float32(-np.inf))
        query, column = (scores >= torch.from_numpy(rounded_down).to(scores.device)[:, None]).nonzero().cpu().numpy().T
        for first in range(0, len(query), self.max_pairs):
            pairs = slice(first, first + self.max_pairs)
            q, r = query[pairs], rows[column[pairs]]
            self.kept.append((q, r, inner_products(self.segment.vectors(r), self.queries[q])))
            self.added += len(q)
            if self.added > 4 * len(self.thresholds) * self.k + self.max_pairs:
                self._prune()
        if not full and self.kept:
            self._prune()

    def result(self) -> SearchResult:
        """Return the k best rows of each query."""
        result = empty_result(len(self.queries), self.k)
        if self.kept:
            query, row, score, rank = self._prune()
            result.rows[query, rank], result.scores[query, rank] = row, score
        return result

    def _prune(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Vectors, NDArray[np.int64]]:
        """Keep the k best of each query and raise the thresholds; return query, row, score and rank (from 0)."""
        self.added = 0
        query, row, score = (np.concatenate(column) for column in zip(*self.kept, strict=True))
        order = np.lexsort((row, -score, query))
        query, row, score = query[order], row[order], score[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        keep = rank < self.k
        query, row, score, rank = query[keep], row[keep], score[keep], rank[keep]
        self.kept = [(query, row, score)]
        last = rank == self.k - 1
        self.thresholds[query[last]] = score[last].astype(np.float64) / self.norms[query[last], 0] - self.error
        return query, row, score, rank


def _normalize(queries: Vectors) -> tuple[Vectors, NDArray[np.float64]]:
    """Return queries of length 1 (or 0), and their norms (1 for a zero query). Shape: (Q, D) -> (Q, D), (Q, 1)."""
    norms = np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1, keepdims=True))
    norms = np.where(norms > 0, norms, 1.0)
    return (queries / norms).astype(np.float32), norms
