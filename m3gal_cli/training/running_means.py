"""Means and rates of the steps between two logged lines."""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch import Tensor


class RunningMeans:
    """Sums of the values of steps. The sums stay on the device until they are read.

    Args:
        batch_size: Rows per step, of all processes.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.steps = 0
        self.started = time.perf_counter()

    def add(self, names: list[str], values: Tensor) -> None:
        """Add the values of one step (means over all processes) and their names."""
        self.names = names
        self.sums = values if self.sums is None else self.sums + values
        self.steps += 1

    def read(self, processes: int, device: torch.device) -> dict[str, float]:
        """Return the means per step, the rows and tokens per second and the peak memory in MB; start a new interval."""
        assert self.sums is not None
        means = dict(zip(self.names, (self.sums / self.steps).tolist(), strict=True))
        seconds = max(time.perf_counter() - self.started, 1e-9)
        tokens = means.pop("tokens", 0.0) * self.steps * processes
        means["samples_per_second"] = round(self.steps * self.batch_size / seconds, 1)
        means["tokens_per_second"] = round(tokens / seconds, 1)
        means["device_memory_mb"] = round(peak_memory(device) / 1e6, 1)
        self.reset()
        return means


def peak_memory(device: torch.device) -> float:
    """Return the peak memory in bytes: of a CUDA device, otherwise of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
