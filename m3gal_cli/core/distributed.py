"""Rows of several processes as one table, with and without gradient. Alone, the rows themselves."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def several() -> bool:
    """Whether other processes take part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """Rows of every process, in order of rank; every process must bring equally many. Without gradient."""
    if not several():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """As ``gather``; the gradient of a row is the sum of what the losses of all processes make of it.

    Where gradients of parameters are then averaged over processes, as data-parallel training does, they are those of
    the mean of the processes' losses.
    """
    if not several():
        return rows
    out: Tensor = _Gather.apply(rows)
    return out


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        return gather(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.count
        return total[start : start + ctx.count]
