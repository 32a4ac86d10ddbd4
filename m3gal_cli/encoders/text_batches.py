"""Encode distinct texts in batches of similar length. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Progress, Vectors


def distinct_texts(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts in order of first appearance, and the index of each text among them. Shape: (N,)."""
    index: dict[str, int] = {}
    inverse = np.array([index.setdefault(t, len(index)) for t in texts], np.int64)
    return list(index), inverse


def length_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows by rising length in batches of at most ``budget`` padded tokens, but at least one row.

    Shape:
        lengths: (N,) tokens -> row numbers; each of 0 .. N - 1 appears once.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        own = lengths[order[start : start + budget]]
        fits = int(np.searchsorted(own * np.arange(1, len(own) + 1), budget, side="right"))
        yield order[start : start + max(1, fits)]
        start += max(1, fits)


def equal_length_batches(lengths: NDArray[np.int64], budget: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows by rising length in batches of equal length and at most ``budget`` tokens, but at least one row.

    Shape:
        lengths: (N,) tokens -> row numbers; each of 0 .. N - 1 appears once.
    """
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        size = max(1, budget // max(1, int(lengths[rows[0]]))) if len(rows) else 1
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def encode_batches(
    lengths: NDArray[np.int64],
    dim: int,
    budget: int,
    encode: Callable[[NDArray[np.int64]], Vectors],
    progress: Progress | None,
    batches: Callable[[NDArray[np.int64], int], Iterator[NDArray[np.int64]]] = length_batches,
) -> Vectors:
    """Call ``encode`` with the row numbers of each of the ``batches``. Shape: (N,) -> (N, dim) float32."""
    out = np.empty((len(lengths), dim), np.float32)
    done = 0
    for rows in batches(lengths, budget):
        out[rows] = encode(rows)
        done += len(rows)
        if progress is not None:
            progress(done, len(lengths))
    return out
