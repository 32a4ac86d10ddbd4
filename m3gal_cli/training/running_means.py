"""Means and rates of the steps between two logged lines."""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch import Tensor


class RunningMeans:
    """Sums of what steps saw, on the device until read.

    Args:
        batch_size: rows a step, of all processes.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = 0
        self.began = time.perf_counter()

    def add(self, names: list[str], values: Tensor) -> None:
        """Values of one step, the mean of all processes, with their names."""
        self.names = names
        self.sums = values if self.sums is None else self.sums + values
        self.steps += 1

    def read(self, processes: int, device: torch.device) -> dict[str, float]:
        """Means a step, tokens and rows a second, memory of the device (on a CPU: of the process) at its highest."""
        assert self.sums is not None
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        seconds = max(time.perf_counter() - self.began, 1e-9)
        tokens = means.pop("tokens", 0.0) * self.steps * processes
        means["samples_per_second"] = round(self.steps * self.batch_size / seconds, 1)
        means["tokens_per_second"] = round(tokens / seconds, 1)
        means["device_memory_mb"] = round(memory(device) / 1e6, 1)
        self.reset()
        return means


def memory(device: torch.device) -> float:
    """The most bytes that were in use at once: on a CUDA device, else by the process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
