"""A short head of every vector, from which no score can be higher than it tells: most vectors need no further look.

With B the leading principal directions of the vectors (D x m, orthonormal), q·v = (Bᵀq)·(Bᵀv) + rest, and by Cauchy and
Schwarz rest <= |q - BBᵀq| |v - BBᵀv|. Both lengths are kept as one more number, so that the bound itself is a product
of m + 1 numbers. It holds for any B; with principal directions it is tight, as text encoders use few directions.

    INDEX/head/basis.npy  (D, m) float32      INDEX/head/rows.npy  (N, m + 1) float16, mapped
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.files import make_folder, publish_folder, remove_folder
from m3gal_cli.index.index import Index, mapped, read_only

FOLDER, BASIS, ROWS = "head", "basis.npy", "rows.npy"
HEAD_FROM = 50_000  # POIs from which a head is worth its disk
DIRECTIONS = 127  # with the length of the rest, rows of 256 bytes
TRAINED_ON = 40_000
SAMPLE, WANTED, ROWS_AT_ONCE = 20_000, 4_000, 4_096
FEW = 3  # queries up to which rows are read as they are; above, they are widened once for all queries
HALF = 2.0**-11  # largest relative rounding of float16

# True scores of pairs: numbers of queries and of rows, (n,) each -> (n,).
ScorePairs = Callable[[NDArray[np.int64], NDArray[np.int64]], Vectors]


class Head:
    """The heads of an index's vectors.

    Args:
        basis: principal directions. Shape: (D, m) float32.
        rows: heads of all vectors. Shape: (N, m + 1) float16.
        largest_norm: no vector is longer.
    """

    def __init__(self, basis: Vectors, rows: NDArray[np.float16], largest_norm: float) -> None:
        self.basis, self.rows, self.largest_norm = basis, rows, largest_norm
        self._sample = torch.from_numpy(rows[:: max(1, len(rows) // SAMPLE)].astype(np.float32))

    def above(self, queries: Vectors, k: int, score: ScorePairs) -> list[NDArray[np.int64]]:
        """Rows among which the ``k`` best of each query are, with few others.

        Bounds are compared with a threshold that a sample of rows puts below the best few thousand; of these the best
        k by their bounds are scored, and what is bounded by less than the k-th score is left out. Where that score
        lies below the threshold, the rows between are looked for in a second pass.

        Args:
            score: true scores of pairs.
        """
        asked, few = torch.from_numpy(self._query(queries)), len(queries) <= FEW
        slack = self._slack(queries, few)
        wanted = max(WANTED, 50 * k)
        place = min(len(self._sample), max(1, round(wanted * len(self._sample) / len(self.rows))))
        least = torch.topk(asked @ self._sample.T, place, dim=1).values[:, -1]
        pairs = self._pass(asked, least, few)
        bounds = _kth(pairs, k, score) - slack
        again = [i for i, bound in enumerate(bounds) if bound < float(least[i])]
        if again:
            lower = torch.from_numpy(bounds[again].astype(np.float32))
            for i, own in zip(again, self._pass(asked[again], lower, few), strict=True):
                pairs[i] = own
        return [np.sort(rows[bound >= least]) for (rows, bound), least in zip(pairs, bounds, strict=True)]

    def _pass(self, asked: torch.Tensor, least: torch.Tensor, few: bool) -> list[tuple[NDArray[np.int64], Vectors]]:
        """Rows with a bound of at least ``least``, and their bounds, for each query."""
        hits: list[tuple[NDArray[np.int64], NDArray[np.int64], Vectors]] = []
        wide, narrow = torch.empty((ROWS_AT_ONCE, self.rows.shape[1])), asked.half()
        table = torch.empty((len(asked), ROWS_AT_ONCE))
        for first in range(0, len(self.rows), ROWS_AT_ONCE):
            part = read_only(self.rows[first : first + ROWS_AT_ONCE])
            if few:
                bounds = torch.stack([torch.mv(part, own) for own in narrow]).float()
            else:
                bounds = table if len(part) == ROWS_AT_ONCE else table.new_empty((len(asked), len(part)))
                torch.mm(asked, wide[: len(part)].copy_(part).T, out=bounds)
            at = np.flatnonzero((bounds >= least[:, None]).numpy())  # several times as fast as torch's
            query, row = np.divmod(at, len(part))
            hits.append((query, row + first, bounds.numpy().reshape(-1)[at]))
        query, row, bound = (np.concatenate(column) for column in zip(*hits, strict=True))
        order = np.argsort(query, kind="stable")
        ends = np.searchsorted(query[order], np.arange(len(asked) + 1))
        return [(row[order[a:b]], bound[order[a:b]]) for a, b in pairwise(ends)]

    def _query(self, queries: Vectors) -> Vectors:
        """Heads of queries: products with heads of rows bound scores from above. Shape: (Q, D) -> (Q, m + 1)."""
        head = queries @ self.basis
        whole = np.square(queries, dtype=np.float64).sum(axis=1) - np.square(head, dtype=np.float64).sum(axis=1)
        return np.concatenate([head, _length(whole)[:, None].astype(np.float32)], axis=1)

    def _slack(self, queries: Vectors, few: bool) -> float:
        """What rounding to float16, and sums in float32, may take off a bound."""
        longest = float(np.sqrt(np.square(queries, dtype=np.float64).sum(axis=1).max()))
        rounded = 3 if few else 1  # the rows; and with few queries these, and the products too
        return (rounded * HALF + 2e-5) * longest * self.largest_norm + 1e-6


def _kth(pairs: list[tuple[NDArray[np.int64], Vectors]], k: int, score: ScorePairs) -> NDArray[np.float64]:
    """Of each query the k-th best score of the rows with the best bounds: no more than the k-th best of all."""
    best = [
        rows[np.argpartition(-bounds, min(2 * k, len(rows)) - 1)[: 2 * k]] if len(rows) >= k else rows[:0]
        for rows, bounds in pairs
    ]
    counts = [len(rows) for rows in best]
    scores = np.split(score(np.repeat(np.arange(len(best)), counts), np.concatenate(best)), np.cumsum(counts)[:-1])
    return np.array([np.partition(own, len(own) - k)[len(own) - k] if len(own) else -np.inf for own in scores])


def open_head(index: Index) -> Head | None:
    """The heads of an index, made where they are missing; None where it is too small, or too narrow, to need any.

    Raises:
        InputError: a full disk.
    """
    if len(index) < HEAD_FROM or index.dim <= 2 * DIRECTIONS:
        return None
    folder = index.path / FOLDER
    if not folder.exists():
        _build(index, folder)
    try:
        basis, rows = np.load(folder / BASIS), mapped(folder / ROWS)
    except (OSError, ValueError):
        basis, rows = np.zeros(0, np.float32), np.zeros(0, np.float16)
    if basis.shape != (index.dim, DIRECTIONS) or rows.shape != (len(index), DIRECTIONS + 1):
        raise InputError("damaged", where=folder, hint="Delete the folder: it is made anew.")
    return Head(basis, rows, index.largest_norm + index.largest_rest)


def _build(index: Index, folder: Path) -> None:
    draw = np.random.default_rng(0)
    sample = index.vectors(np.sort(draw.choice(len(index), min(TRAINED_ON, len(index)), replace=False)))
    basis = principal_directions(sample, DIRECTIONS)
    temporary = folder.with_name(f".{folder.name}.tmp")
    if temporary.exists():
        remove_folder(temporary)
    make_folder(temporary)
    try:
        np.save(temporary / BASIS, basis)
        shape = (len(index), DIRECTIONS + 1)
        rows = np.lib.format.open_memmap(temporary / ROWS, mode="w+", dtype=np.float16, shape=shape)
        for first, shard in index.shards():
            whole = index.vectors(np.arange(first, first + len(shard)))
            rows[first : first + len(shard)] = heads_of(whole, basis)
        rows.flush()
        del rows
        publish_folder(temporary, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write ({reason})", where=folder, hint="Free space and start again.") from error


def principal_directions(sample: Vectors, count: int) -> Vectors:
    """The ``count`` leading eigenvectors of the sample's second moment. Shape: (n, D) -> (D, count), orthonormal."""
    rows = torch.from_numpy(sample)
    vectors = torch.linalg.eigh((rows.T @ rows).double()).eigenvectors
    found: Vectors = vectors.flip(1)[:, :count].float().contiguous().numpy()
    return found


def heads_of(vectors: Vectors, basis: Vectors) -> NDArray[np.float16]:
    """Heads of POI vectors: along the basis, and the length of the rest, rounded up. Shape: (n, D) -> (n, m + 1)."""
    head = vectors @ basis
    whole = np.square(vectors, dtype=np.float64).sum(axis=1) - np.square(head, dtype=np.float64).sum(axis=1)
    up = np.nextafter(_length(whole).astype(np.float16), np.float16(np.inf))
    return np.concatenate([head.astype(np.float16), up[:, None]], axis=1)


def _length(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of a difference of float32 sums, with what these may be wrong by on top."""
    return np.sqrt(np.maximum(squares, 0.0) + 2e-6)
