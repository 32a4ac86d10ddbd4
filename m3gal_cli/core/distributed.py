"""Gather the rows of all processes, with and without gradient. A single process gets its own rows."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Return whether torch.distributed runs more than one process."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes in order of rank, without gradient.

    Shape:
        (B, D), the same B in every process -> (world size * B, D).
    """
    if not is_distributed():
        return rows
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes as ``gather`` does, with gradient.

    The gradient of a row is summed over the losses of all processes. Data-parallel training averages the gradients of
    parameters over processes. The result is the gradient of the mean loss of all processes.
    """
    if not is_distributed():
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
