"""Momentum contrast: exponential moving average of the key encoders, and the queue of past keys.

He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning" (MoCo).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m3gal_cli.core.distributed import gather


@torch.no_grad()
def update_ema(key: nn.Module, online: nn.Module, m: float) -> None:
    """Set key = m * key + (1 - m) * online for each parameter, in place."""
    keys: list[Tensor] = list(key.parameters())
    onlines = [p.detach() for p in online.parameters()]
    torch._foreach_mul_(keys, m)
    torch._foreach_add_(keys, onlines, alpha=1.0 - m)


def location_momentum(epoch: int, target: float, increment: float) -> float:
    """Return the momentum of the key location encoder in ``epoch``, counted from 0, by the published linear ramp."""
    return min(target, (epoch + 1) * increment)


class KeyQueue(nn.Module):
    """Ring buffer of the last K text keys and location keys, with the place id and the z-score of each.

    The names ``queue``, ``gc_queue`` and ``queue_ptr`` are the published ones.

    Args:
        size: K, the number of slots; it need not be a multiple of the batch size.
        dim: Width of the keys.
        fill: ``random``: all slots start as random unit vectors (published). ``masked``: all slots start empty, and the
            softmax excludes empty slots.

    Shape:
        queue, gc_queue: (dim, K), columns of unit length. place: (K,) int64, -1: unknown. z: (K, 2).
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
        """Keep the pointer and the fill count on the CPU: reading them from a GPU would synchronise in every step."""
        kept = {name: self._buffers.pop(name) for name in ("queue_ptr", "filled")}
        super()._apply(fn, recurse)
        self._buffers.update(kept)
        return self

    def blocked(self, place: Tensor | None) -> Tensor | None:
        """Return the slots that are no negatives of a row: empty slots, and keys of the row's own place.

        Shape:
            place: (B,) int64, -1: unknown; None: all are unknown -> (B or 1, K) bool, or None if nothing is blocked.
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
        """Append the batches of all processes in order of rank, and drop all but the last K keys.

        Shape:
            keys, locations: (B, dim). place: (B,) int64. z: (B, 2).
        """
        if place is None:
            place = torch.full((keys.shape[0],), -1, dtype=torch.long, device=keys.device)
        if z is None:
            z = torch.zeros(keys.shape[0], 2, device=keys.device)
        keys, locations, place, z = gather(keys), gather(locations), gather(place), gather(z)
        pointer, count = int(self.queue_ptr), keys.shape[0]
        slots = (pointer + torch.arange(count, device=keys.device)) % self.size
        last = slice(max(0, count - self.size), count)  # the result of index_copy_ with a repeated slot is undefined
        slots = slots[last]
        self.queue.index_copy_(1, slots, keys[last].T.to(self.queue.dtype))
        self.gc_queue.index_copy_(1, slots, locations[last].T.to(self.gc_queue.dtype))
        self.place.index_copy_(0, slots, place[last])
        self.z.index_copy_(0, slots, z[last])
        self.queue_ptr[0] = (pointer + count) % self.size
        self.filled[0] = min(int(self.filled) + count, self.size)
