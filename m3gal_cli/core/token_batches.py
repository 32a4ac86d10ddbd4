"""Token ids of many texts, kept as arrays, and batches of them as chunks of like length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # whoever needs arrays alone does not wait for torch
    import torch
    from torch import Tensor

Tokens = NDArray[np.int32]

# What a further chunk costs, in tokens: below so many a pass is bound by its calls, not by its arithmetic.
CHUNK_COST = {"cpu": 64, "mps": 1024, "cuda": 4096}


class TokenBatch(NamedTuple):
    """Texts as padded chunks; row i of the batch is row ``order[i]`` of the chunks, one after the other.

    Shape:
        chunks: (b, L) ids, (b, L) mask and whatever else the table has of a token, int64. order: (B,) int64, or None
            where it is 0, 1, 2, …
    """

    chunks: list[tuple[Tensor, ...]]
    order: Tensor | None
    tokens: int

    def to(self, device: torch.device) -> TokenBatch:
        """The same on a device; copies to a GPU do not wait."""

        def there(x: Tensor) -> Tensor:
            return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)

        chunks = [tuple(there(x) for x in chunk) for chunk in self.chunks]
        return TokenBatch(chunks, None if self.order is None else there(self.order), self.tokens)


class TokenTable:
    """Token ids of N texts end to end: a list of arrays would take a hundred bytes more a text.

    Args:
        rows: one sequence of token ids a text.
        pad_id: the id that fills up shorter rows.
    """

    def __init__(self, rows: Iterable[Sequence[int] | Tokens], pad_id: int) -> None:
        parts = [np.asarray(row, np.int32) for row in rows]
        self._take(np.concatenate(parts) if parts else np.zeros(0, np.int32), [len(p) for p in parts], pad_id)

    def _take(self, flat: Tokens, lengths: ArrayLike, pad_id: int) -> None:
        self.flat, self.pad_id = flat, pad_id
        self.lengths: NDArray[np.int64] = np.asarray(lengths, np.int64)
        self.starts: NDArray[np.int64] = np.cumsum(self.lengths) - self.lengths

    @classmethod
    def joined(cls, tables: Sequence[TokenTable], pad_id: int) -> TokenTable:
        """Tables one after the other."""
        whole = cls([], pad_id)
        if tables:
            flat, lengths = (np.concatenate([getattr(t, name) for t in tables]) for name in ("flat", "lengths"))
            whole._take(flat, lengths, pad_id)
        return whole

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Tokens:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        start = self.starts[i]
        return self.flat[start : start + self.lengths[i]]

    def pad(self, rows: ArrayLike | None = None) -> tuple[Tensor, Tensor]:
        """These rows (all, if None) padded to the longest of them: ids and mask, both (B, L) int64."""
        import torch

        ids, mask = self.padded(rows)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def padded(self, rows: ArrayLike | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As ``pad``, as arrays."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        lengths = self.lengths[chosen]
        place = np.arange(int(lengths.max()))
        mask = place < lengths[:, None]
        # The last row's places beyond its end would lie outside of the array.
        ids = self.flat[np.minimum(self.starts[chosen][:, None] + place, len(self.flat) - 1)]
        ids = np.where(mask, ids, self.pad_id).astype(np.int64)
        return ids, mask.astype(np.int64)

    def chunk(self, rows: ArrayLike) -> tuple[Tensor, ...]:
        """What an encoder takes of these rows: ids and mask, as ``pad`` gives them."""
        return self.pad(rows)

    def batch(self, rows: ArrayLike, device: torch.device, limit: int | None = None) -> TokenBatch:
        """These rows on ``device`` in chunks of like length, at most ``limit`` rows each."""
        import torch

        chosen = np.asarray(rows, np.int64)
        parts = like_lengths(self.lengths[chosen], CHUNK_COST.get(device.type, CHUNK_COST["cpu"]), limit)
        chunks = [self.chunk(chosen[part]) for part in parts]
        tokens = int(self.lengths[chosen].sum())
        if len(parts) == 1:
            return TokenBatch([self.chunk(chosen)], None, tokens).to(device)
        order = np.empty(len(chosen), np.int64)
        order[np.concatenate(parts)] = np.arange(len(chosen))
        return TokenBatch(chunks, torch.from_numpy(order), tokens).to(device)


def like_lengths(lengths: NDArray[np.int64], cost: int, limit: int | None = None) -> list[NDArray[np.int64]]:
    """Split rows into chunks so that padded tokens plus ``cost`` a chunk are fewest: exact, by dynamic programming.

    A chunk of n rows is n times as many tokens as its longest row has.

    Args:
        lengths: tokens a row. Shape: (B,).
        cost: what a chunk costs besides its tokens, in tokens.
        limit: rows a chunk may hold; longer ones are cut into equal parts.

    Returns:
        Row numbers of each chunk, shortest rows first; within a chunk in the order given.
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
