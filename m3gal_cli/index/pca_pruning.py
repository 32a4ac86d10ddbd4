"""Upper bounds of scores from the leading principal components of the vectors, so that exact search skips most rows.

The columns of B (D x m) are orthonormal principal directions. Then q·v = (Bᵀq)·(Bᵀv) + r, and by Cauchy and Schwarz
r <= |q - BBᵀq| |v - BBᵀv|. The projection of a vector is Bᵀv followed by |v - BBᵀv|. The inner product of two
projections, m + 1 numbers each, is an upper bound of the score. It is tight for principal directions, because the
vectors of text encoders vary along few directions.

    head/basis.npy  (D, m) float32      head/rows.npy  (N, m + 1) float16, memory-mapped
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.vector_shards import open_mapped, shared_tensor
from m3gal_cli.errors import InputError
from m3gal_cli.files import publish_folder, remove_folder
from m3gal_cli.index.exact_numpy import FEW_QUERIES, MIN_PRUNED_ROWS
from m3gal_cli.index.segment import Segment

FOLDER, BASIS, ROWS = "head", "basis.npy", "rows.npy"
FLOAT16_ROUNDING = 2.0**-11  # largest relative rounding error
SUM_ERROR = 2e-5  # relative error of float32 sums, rounded up

# (query numbers, row numbers) -> scores, (n,) each
ScorePairs = Callable[[NDArray[np.int64], NDArray[np.int64]], Vectors]


@dataclass(frozen=True)
class PruningSettings:
    """Sizes of the pruning."""

    min_pois: int = MIN_PRUNED_ROWS
    dims: int = 127  # principal directions m; a projection with its residual norm takes 256 bytes
    fit_rows: int = 40_000  # vectors for the computation of the directions
    sample_rows: int = 20_000  # projections for the estimate of the first threshold
    expected_candidates: int = 4_000  # rows of a query that reach the first threshold, but at least 50 k
    block_rows: int = 4_096  # rows of a block, whose bounds fit into the CPU's cache


DEFAULTS = PruningSettings()


class PcaPruner:
    """Finds the few live rows of a segment that can be among the best.

    Args:
        basis: Principal directions. Shape: (D, m) float32.
        rows: Projections of all vectors. Shape: (N, m + 1) float16.
        max_norm: Upper bound of the norms of the vectors.
        settings: Sizes of the sample and of blocks.
        live: Which rows are live. None: all. Shape: (N,).
    """

    def __init__(
        self,
        basis: Vectors,
        rows: NDArray[np.float16],
        max_norm: float,
        settings: PruningSettings,
        live: NDArray[np.bool_] | None = None,
    ) -> None:
        self.basis, self.rows, self.max_norm, self.settings, self.live = basis, rows, max_norm, settings, live
        self._live_count = len(rows) if live is None else int(live.sum())
        step = max(1, self._live_count // settings.sample_rows)
        sample = rows[::step] if live is None else rows[np.flatnonzero(live)[::step]]
        self._sample = torch.from_numpy(sample.astype(np.float32))

    def candidates(self, queries: Vectors, k: int, score: ScorePairs) -> list[NDArray[np.int64]]:
        """Return for each query ascending rows that contain its ``k`` best, and few others.

        The first pass keeps the rows whose bound reaches a threshold, which is estimated on a sample. ``score`` scores
        the 2 k rows with the best bounds. The k-th best of these scores limits the k-th best score of all rows from
        below: rows with a smaller bound cannot be among the best. A limit below the threshold needs a second pass.
        """
        projected, few = torch.from_numpy(self.project_queries(queries)), len(queries) <= FEW_QUERIES
        slack = self.slack(queries, few)
        expected = max(self.settings.expected_candidates, 50 * k)
        rank = min(len(self._sample), max(1, round(expected * len(self._sample) / self._live_count)))
        thresholds = torch.topk(projected @ self._sample.T, rank, dim=1).values[:, -1]
        candidates = self._scan(projected, thresholds, few)
        limits = _kth_best_scores(candidates, k, score) - slack
        again = [i for i, limit in enumerate(limits) if limit < float(thresholds[i])]
        if again:
            lower = torch.from_numpy(limits[again].astype(np.float32))
            for i, own in zip(again, self._scan(projected[again], lower, few), strict=True):
                candidates[i] = own
        return [np.sort(rows[bounds >= limit]) for (rows, bounds), limit in zip(candidates, limits, strict=True)]

    def _scan(
        self, projected: torch.Tensor, thresholds: torch.Tensor, few: bool
    ) -> list[tuple[NDArray[np.int64], Vectors]]:
        """Return for each query the rows whose bound reaches its threshold, and their bounds."""
        block_rows = self.settings.block_rows
        hits: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]] = []
        block32, projected16 = torch.empty((block_rows, self.rows.shape[1])), projected.half()
        buffer = torch.empty((len(projected), block_rows))
        for first in range(0, len(self.rows), block_rows):
            block = shared_tensor(self.rows[first : first + block_rows])
            if few:
                bounds = torch.stack([torch.mv(block, query) for query in projected16]).float()
            else:
                bounds = buffer if len(block) == block_rows else buffer.new_empty((len(projected), len(block)))
                torch.mm(projected, block32[: len(block)].copy_(block).T, out=bounds)
            # np.flatnonzero is several times as fast as torch.nonzero
            flat = np.flatnonzero((bounds >= thresholds[:, None]).numpy())
            query, row = np.divmod(flat, len(block))
            bound = bounds.numpy().reshape(-1)[flat]
            if self.live is not None:
                kept = self.live[row + first]
                query, row, bound = query[kept], row[kept], bound[kept]
            hits.append((query, row + first, bound))
        query, row, bound = (np.concatenate(column) for column in zip(*hits, strict=True))
        order = np.argsort(query, kind="stable")
        ends = np.searchsorted(query[order], np.arange(len(projected) + 1))
        return [(row[order[a:b]], bound[order[a:b]]) for a, b in pairwise(ends)]

    def project_queries(self, queries: Vectors) -> Vectors:
        """Return projections of queries. Shape: (Q, D) -> (Q, m + 1)."""
        main, residual_norm = _project(queries, self.basis)
        return np.concatenate([main, residual_norm[:, None].astype(np.float32)], axis=1)

    def slack(self, queries: Vectors, few: bool) -> float:
        """Return the largest error of a computed bound, from float16 rounding and float32 sums."""
        longest = float(np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1).max()))
        roundings = 3 if few else 1  # of the rows; for few queries also of the queries and of the products
        return (roundings * FLOAT16_ROUNDING + SUM_ERROR) * longest * self.max_norm + 1e-6


def _kth_best_scores(
    candidates: list[tuple[NDArray[np.int64], Vectors]], k: int, score: ScorePairs
) -> NDArray[np.float64]:
    """Return for each query the k-th best score of the 2 k rows with the best bounds; -inf for fewer than k rows."""
    best = [
        rows[np.argpartition(-bounds, min(2 * k, len(rows)) - 1)[: 2 * k]] if len(rows) >= k else rows[:0]
        for rows, bounds in candidates
    ]
    counts = [len(rows) for rows in best]
    scores = np.split(score(np.repeat(np.arange(len(best)), counts), np.concatenate(best)), np.cumsum(counts)[:-1])
    return np.array([np.partition(own, len(own) - k)[len(own) - k] if len(own) else -np.inf for own in scores])


def open_pruner(segment: Segment, settings: PruningSettings = DEFAULTS) -> PcaPruner | None:
    """Open the projections of a segment, and compute them if they are missing.

    Returns None if the segment is too small, or its vectors are too short, for a gain, or if missing projections cannot
    be written. Raises InputError for damaged files.
    """
    if segment.live_count < settings.min_pois or segment.dim <= 2 * settings.dims:
        return None
    folder = segment.path / FOLDER
    if not folder.exists() and not write_projections(segment, settings):
        return None
    try:
        basis, rows = open_mapped(folder / BASIS), open_mapped(folder / ROWS)
    except (OSError, ValueError, EOFError):
        basis, rows = np.zeros(0, np.float32), np.zeros(0, np.float16)
    if basis.shape != (segment.dim, settings.dims) or rows.shape != (len(segment), settings.dims + 1):
        raise InputError(
            "damaged projections", where=folder, hint="Delete this folder; the next search computes it again."
        )
    return PcaPruner(basis, rows, segment.max_norm + segment.max_residual_norm, settings, segment.live)


def write_projections(segment: Segment, settings: PruningSettings = DEFAULTS) -> bool:
    """Write the projections of a segment; return False if they cannot be written.

    The folder of the segment is never created: a writer may have removed it meanwhile.
    """
    generator, folder = np.random.default_rng(0), segment.path / FOLDER
    count = min(settings.fit_rows, len(segment))
    basis = principal_directions(
        segment.vectors(np.sort(generator.choice(len(segment), count, replace=False))), settings.dims
    )
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        if temporary.exists():
            remove_folder(temporary)
        temporary.mkdir()
        np.save(temporary / BASIS, basis)
        shape = (len(segment), settings.dims + 1)
        rows = np.lib.format.open_memmap(temporary / ROWS, mode="w+", dtype=np.float16, shape=shape)
        for first, shard in segment.shards():
            vectors = segment.vectors(np.arange(first, first + len(shard)))
            rows[first : first + len(shard)] = project_vectors(vectors, basis)
        rows.flush()
        del rows
        publish_folder(temporary, folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        return folder.exists()  # another process may have written it
    return True


def principal_directions(sample: Vectors, count: int) -> Vectors:
    """Return the ``count`` leading eigenvectors of the second moment of a sample. Shape: (n, D) -> (D, count)."""
    rows = torch.from_numpy(sample)
    eigenvectors = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors  # by ascending eigenvalue
    leading: Vectors = eigenvectors.flip(1)[:, :count].float().contiguous().numpy()
    return leading


def project_vectors(vectors: Vectors, basis: Vectors) -> NDArray[np.float16]:
    """Return projections of POI vectors; residual norms are rounded up. Shape: (n, D), (D, m) -> (n, m + 1)."""
    main, residual_norm = _project(vectors, basis)
    rounded_up = np.nextafter(residual_norm.astype(np.float16), np.float16(np.inf))
    return np.concatenate([main.astype(np.float16), rounded_up[:, None]], axis=1)


def _project(vectors: Vectors, basis: Vectors) -> tuple[Vectors, NDArray[np.float64]]:
    """Return Bᵀv, and |v - BBᵀv| plus the largest error that its float32 sums may have."""
    main = vectors @ basis
    squares = np.square(vectors, dtype=np.float64).sum(axis=1) - np.square(main, dtype=np.float64).sum(axis=1)
    return main, np.sqrt(np.maximum(squares, 0.0) + 2e-6)
