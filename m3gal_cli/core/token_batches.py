"""Token ids of many texts in flat arrays, and batches of them as chunks of similar length."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # the ONNX encoder uses the arrays without importing torch
    import torch
    from torch import Tensor

Tokens = NDArray[np.int32]

# Fixed cost of a chunk in tokens: with fewer tokens, the overhead of calls takes longer than the arithmetic.
CHUNK_COST = {"cpu": 64, "mps": 1024, "cuda": 4096}


class TokenBatch(NamedTuple):
    """B texts as padded chunks; row i of the batch is row ``order[i]`` of the concatenated chunks.

    Shape:
        chunks: per chunk (b, L) ids and (b, L) mask, int64. order: (B,) int64; None: 0 .. B - 1.
    """

    chunks: Sequence[tuple[Tensor, ...]]
    order: Tensor | None
    tokens: int  # without padding

    def to(self, device: torch.device) -> TokenBatch:
        """Copy the batch to a device; copies to a GPU are asynchronous."""

        def copy(x: Tensor) -> Tensor:
            return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)

        chunks = [tuple(copy(x) for x in chunk) for chunk in self.chunks]
        return TokenBatch(chunks, None if self.order is None else copy(self.order), self.tokens)


class TokenTable:
    """Token ids of N texts in one array: a list of arrays would take a hundred bytes more per text."""

    def __init__(self, rows: Iterable[Sequence[int]], pad_id: int) -> None:
        flat, lengths = array("i"), array("q")
        for row in rows:
            flat.extend(row)
            lengths.append(len(row))
        self.pad_id = pad_id
        self.flat: Tokens = np.array(flat, np.int32)
        self.lengths: NDArray[np.int64] = np.array(lengths, np.int64)
        self.starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Tokens:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        start = self.starts[i]
        return self.flat[start : start + self.lengths[i]]

    def pad(self, rows: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """Return ids and mask of these rows (None: all), padded to the longest. Shape: -> (B, L), (B, L) int64."""
        import torch

        ids, mask = self.padded(rows)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def padded(self, rows: ArrayLike | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and mask as ``pad`` does, as numpy arrays."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        lengths = self.lengths[chosen]
        column = np.arange(int(lengths.max()))
        mask = column < lengths[:, None]
        # np.minimum: the padding of the last row would be read beyond the end of the array.
        ids = self.flat[np.minimum(self.starts[chosen][:, None] + column, len(self.flat) - 1)]
        ids = np.where(mask, ids, self.pad_id).astype(np.int64)
        return ids, mask.astype(np.int64)

    def batch(self, rows: ArrayLike, device: torch.device, limit: int | None = None) -> TokenBatch:
        """Return these rows on ``device`` in chunks of similar length, of at most ``limit`` rows each."""
        import torch

        chosen = np.asarray(rows, np.int64)
        parts = length_chunks(self.lengths[chosen], CHUNK_COST.get(device.type, CHUNK_COST["cpu"]), limit)
        tokens = int(self.lengths[chosen].sum())
        if len(parts) == 1:
            return TokenBatch([self.pad(chosen)], None, tokens).to(device)
        order = torch.from_numpy(np.argsort(np.concatenate(parts)))
        return TokenBatch([self.pad(chosen[part]) for part in parts], order, tokens).to(device)


def length_chunks(lengths: NDArray[np.int64], cost: int, limit: int | None = None) -> list[NDArray[np.int64]]:
    """Split rows into chunks with the fewest padded tokens plus ``cost`` per chunk, by dynamic programming.

    The padded tokens of a chunk are its rows times its longest row.

    Args:
        lengths: Tokens per row. Shape: (B,).
        cost: Fixed cost of a chunk, in tokens.
        limit: Maximum rows per chunk; larger chunks are split into equal parts.

    Returns:
        Row numbers of each chunk, chunks with the shortest rows first, rows in the given order.
    """
    distinct, counts = np.unique(lengths, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    best, cut = np.zeros(len(distinct) + 1), np.zeros(len(distinct) + 1, np.int64)
    for j in range(1, len(distinct) + 1):
        total = best[:j] + (below[j] - below[:j]) * distinct[j - 1] + cost
        cut[j] = int(np.argmin(total))
        best[j] = total[cut[j]]
    bounds = [len(distinct)]
    while bounds[-1]:
        bounds.append(int(cut[bounds[-1]]))
    rank = np.argsort(lengths, kind="stable")
    chunks = []
    for low, high in zip(bounds[:0:-1], bounds[-2::-1], strict=True):
        rows = np.sort(rank[below[low] : below[high]])
        chunks += np.array_split(rows, -(-len(rows) // limit)) if limit else [rows]
    return chunks
