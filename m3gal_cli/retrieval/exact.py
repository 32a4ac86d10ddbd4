"""Exact search: a fast scan with a known largest error, then float32 products of all that may be among the best.

A row whose scanned score is more than twice the error below the k-th best scanned one cannot be among the k best: what
is left, a few rows a query, is scored again, row by row, so that equal vectors score equal and the answer does not
depend on the scan. Large indexes on a CPU are scanned by their heads alone (see head), which takes a sixth of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.core.model import has_bf16
from m3gal_cli.retrieval.area import Area
from m3gal_cli.retrieval.embed import Vectors
from m3gal_cli.retrieval.head import open_head
from m3gal_cli.retrieval.index import Index, read_only
from m3gal_cli.retrieval.searcher import Found, best_of, nothing

FEW = 3  # queries up to which the vectors are read as they are; above, they are widened once for all queries
SCORES_AT_ONCE = 16_000_000
# Relative error of a product by |q||v|: rounding of the query (and of bf16 vectors), of the sum and of its result.
ERROR = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}


class ExactSearcher:
    """Exact search over an index by scanning all of it; on a GPU the vectors stay there.

    Args:
        index: the vectors.
        device: where the scan runs.
        scan: the numbers that it runs with, over whole vectors; None: what the device is fast at.
    """

    def __init__(self, index: Index, device: torch.device | str = "cpu", scan: torch.dtype | None = None) -> None:
        self.index, self.device = index, torch.device(device)
        on_cpu = self.device.type == "cpu"
        self.scan = scan or (torch.float16 if not on_cpu else torch.bfloat16 if has_bf16() else torch.float32)
        self.head = open_head(index) if on_cpu and scan is None else None
        self._resident = [] if on_cpu else [read_only(s).to(self.device) for _, s in index.shards()]

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``. Exact: equal to sorting all float32 products with the stored vectors."""
        found = nothing(len(queries), k)
        if not len(self.index):
            return found
        groups: dict[Area | None, list[int]] = {}
        for i in range(len(queries)):
            groups.setdefault(areas[i] if areas is not None else None, []).append(i)
        for area, chosen in groups.items():
            part = np.ascontiguousarray(queries[chosen], np.float32)
            at_once = max(1, SCORES_AT_ONCE // self.index.shard_rows)
            for first in range(0, len(part), at_once):
                own = slice(first, first + at_once)
                answer = self._all(part[own], k) if area is None else self.among(self.index.rows_in(area), part[own], k)
                for name in ("rows", "scores"):
                    getattr(found, name)[chosen[own]] = getattr(answer, name)
        return found

    def among(self, rows: NDArray[np.int64], queries: Vectors, k: int) -> Found:
        """The best ``k`` of these rows (rising numbers) for each query. Shape: (n,), (Q, D)."""
        found = nothing(len(queries), k)
        step = self.index.shard_rows
        pools: list[list[tuple[NDArray[np.int64], Vectors]]] = [[] for _ in queries]
        for first in range(0, len(rows), step):
            part = rows[first : first + step]
            vectors = self.index.vectors(part)
            for i, query in enumerate(queries):
                pools[i].append(best_of(part, products(vectors, query), k))
        for i, pool in enumerate(pools):
            if pool:
                own, scores = (np.concatenate(column) for column in zip(*pool, strict=True))
                _put(found, i, *best_of(own, scores, k))
        return found

    def _all(self, queries: Vectors, k: int) -> Found:
        found = nothing(len(queries), k)
        if self.head is not None and k <= len(self.index):
            candidates = self.head.above(queries, k, lambda i, rows: products(self.index.vectors(rows), queries[i]))
        else:
            candidates = self._candidates(queries, k)
        for i, (rows, query) in enumerate(zip(candidates, queries, strict=True)):
            _put(found, i, *best_of(rows, products(self.index.vectors(rows), query), k))
        return found

    def _candidates(self, queries: Vectors, k: int) -> list[NDArray[np.int64]]:
        """Rows, rising, that hold the k best of each query."""
        scan = torch.float16 if self.device.type == "cpu" and len(queries) <= FEW else self.scan
        norm = float(np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1).max())) * self.index.largest_norm
        margin = 2.0 * ERROR[scan] * max(norm, 1e-30)
        asked = torch.from_numpy(queries).to(self.device, scan)
        pool = _Pool(len(queries), min(k, len(self.index)), margin)
        for number, (first, shard) in enumerate(self.index.shards()):
            vectors = self._resident[number] if self._resident else read_only(shard)
            if scan == torch.float16 and self.device.type == "cpu":
                scores = torch.stack([torch.mv(vectors, q) for q in asked]).float()
            else:
                scores = asked @ vectors.to(scan).T
            pool.add(first, scores)
        return pool.rows()


class _Pool:
    """Scanned scores that may belong to the k best of their query, so far."""

    def __init__(self, queries: int, k: int, margin: float) -> None:
        self.k, self.margin = k, margin
        self.least = torch.full((queries,), -torch.inf)
        self.best = torch.full((queries, 0), -torch.inf)
        self.kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self.fresh = 0

    def add(self, first: int, scores: torch.Tensor) -> None:
        """Scores of the rows from ``first`` on. Shape: (Q, n)."""
        self.least = self.least.to(scores.device)
        if self.best.shape[1] < self.k:  # no bound yet: take the best of what there is
            top = torch.topk(scores, min(self.k, scores.shape[1]), dim=1).values.float().cpu()
            self.best = torch.topk(
                torch.cat([self.best, top], 1), min(self.k, self.best.shape[1] + top.shape[1])
            ).values
            self._bound(scores.device)
        hits = (scores >= self.least[:, None]).nonzero()
        values = scores[hits[:, 0], hits[:, 1]].float().cpu().numpy()
        query, row = hits.cpu().numpy().T
        self.kept.append((query, row + first, values))
        self.fresh += len(values)
        if self.fresh > 4 * len(self.least) * self.k:
            self._prune(scores.device)

    def rows(self) -> list[NDArray[np.int64]]:
        """Rows of each query, rising."""
        query, row, _ = self._prune(self.least.device)
        order = np.lexsort((row, query))
        bounds = np.searchsorted(query[order], np.arange(len(self.least) + 1))
        return [row[order[a:b]] for a, b in pairwise(bounds)]

    def _prune(self, device: torch.device) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        query, row, score = (np.concatenate(column) for column in zip(*self.kept, strict=True))
        order = np.lexsort((-score, query))
        starts = np.searchsorted(query[order], np.arange(len(self.least)))
        counts = np.bincount(query, minlength=len(self.least))
        if (counts >= self.k).all():
            self.best = torch.from_numpy(score[order[starts + self.k - 1]])[:, None].expand(-1, self.k)
            self._bound(device)
        keep = score >= self.least.cpu().numpy()[query]
        self.kept, self.fresh = [(query[keep], row[keep], score[keep])], 0
        return self.kept[0]

    def _bound(self, device: torch.device) -> None:
        if self.best.shape[1] >= self.k:
            self.least = (self.best[:, self.k - 1].double() - self.margin).float().to(device)
            self.least = torch.nextafter(self.least, torch.full_like(self.least, -torch.inf))


def products(vectors: Vectors, query: Vectors) -> Vectors:
    """q·v of each row, summed the same way for every row, so that equal rows are equal. Shape: (n, D), (D,) -> (n,)."""
    return np.einsum("nd,d->n", vectors, query, optimize=False).astype(np.float32, copy=False)


def _put(found: Found, i: int, rows: NDArray[np.int64], scores: Vectors) -> None:
    found.rows[i, : len(rows)], found.scores[i, : len(rows)] = rows, scores
