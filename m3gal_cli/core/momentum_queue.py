"""Momentum Contrast's two parts: key encoders that trail by exponential moving average, and a queue of past keys.

He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning".
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m3gal_cli.core.distributed import gather


@torch.no_grad()
def update_ema(key: nn.Module, online: nn.Module, m: float) -> None:
    """key <- m * key + (1 - m) * online, parameter by parameter, in place."""
    keys: list[Tensor] = list(key.parameters())
    onlines = [p.detach() for p in online.parameters()]
    torch._foreach_mul_(keys, m)
    torch._foreach_add_(keys, onlines, alpha=1.0 - m)


def momentum_at(epoch: int, target: float, increment: float) -> float:
    """The location key encoder's momentum during ``epoch`` (from 0): raised before each epoch up to ``target``.

    The published ramp: m_loc starts at 0 and grows by ``increment`` before every epoch.
    """
    return min(target, (epoch + 1) * increment)


class KeyQueue(nn.Module):
    """The last K text keys and location keys, filled together, with the place that each describes: its id and z-score.

    Args:
        size: K, any number of slots; the batch need not divide it.
        dim: width of the keys.
        fill: ``random`` starts with unit noise in every slot (published); ``masked`` starts empty, and empty slots take
            no part in the softmax.

    Shape:
        queue, gc_queue: (dim, K), columns of unit length. place: (K,) int64, -1 for none. z: (K, 2).
    """

    queue: Tensor
    gc_queue: Tensor
    queue_ptr: Tensor
    filled: Tensor
    place: Tensor
    z: Tensor

    def __init__(self, size: int, dim: int, fill: str = "masked") -> None:
        super().__init__()
        self.size = size
        noise = fill == "random"
        for name in ("queue", "gc_queue"):
            start = F.normalize(torch.randn(dim, size), dim=0) if noise else torch.zeros(dim, size)
            self.register_buffer(name, start)
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
        self.register_buffer("filled", torch.tensor([size if noise else 0]))
        self.register_buffer("place", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("z", torch.zeros(size, 2))

    def _apply(self, fn: Any, recurse: bool = True) -> KeyQueue:
        """Move all but the pointer and the fill count: reading them on a GPU would make every step wait for it."""
        kept = {name: self._buffers.pop(name) for name in ("queue_ptr", "filled")}
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self

    def blocked(self, place: Tensor | None) -> Tensor | None:
        """Slots that are no negatives of a row: empty ones and, if ``place`` is given, those of the row's own place.

        Shape:
            place: (B,) int64, -1 where unknown -> (B or 1, K) bool, or None where nothing is blocked.
        """
        empty = None
        if int(self.filled) < self.size:
            empty = (torch.arange(self.size, device=self.place.device) >= int(self.filled)).unsqueeze(0)
        if place is None:
            return empty
        same = (place.unsqueeze(1) == self.place.unsqueeze(0)) & (place >= 0).unsqueeze(1)
        return same if empty is None else same | empty

    @torch.no_grad()
    def enqueue(self, keys: Tensor, locations: Tensor, place: Tensor | None = None, z: Tensor | None = None) -> None:
        """Put a batch in, oldest out. Under torch.distributed the batches of all processes go in, in order of rank.

        Shape:
            keys, locations: (B, dim), B of any size (of more than K rows the last K stay).
            place: (B,) int64. z: (B, 2).
        """
        if place is None:
            place = torch.full((keys.shape[0],), -1, dtype=torch.long, device=keys.device)
        if z is None:
            z = torch.zeros(keys.shape[0], 2, device=keys.device)
        keys, locations, place, z = gather(keys), gather(locations), gather(place), gather(z)
        pointer, count = int(self.queue_ptr), keys.shape[0]
        slots = (pointer + torch.arange(count, device=keys.device)) % self.size
        last = slice(max(0, count - self.size), count)  # index_copy_ with a slot twice would leave either
        slots = slots[last]
        self.queue.index_copy_(1, slots, keys[last].T.to(self.queue.dtype))
        self.gc_queue.index_copy_(1, slots, locations[last].T.to(self.gc_queue.dtype))
        self.place.index_copy_(0, slots, place[last])
        self.z.index_copy_(0, slots, z[last])
        self.queue_ptr[0] = (pointer + count) % self.size
        self.filled[0] = min(int(self.filled) + count, self.size)
