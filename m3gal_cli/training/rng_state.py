"""What is drawn: the order of the rows, and the random states that a resumed run takes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.distributed import gather


def epoch_order(rows: int, epoch: int, config: Config) -> NDArray[np.int64]:
    """The order of the rows in an epoch: file order, or a permutation that seed and epoch alone decide."""
    if not config.data.shuffle:
        return np.arange(rows)
    return np.random.default_rng([config.seed, epoch]).permutation(rows)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The random states of all processes, a row each: that of the CPU and, on a GPU, the device's."""
    states = {"rng": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda_rng"] = torch.cuda.get_rng_state(device)
    return {name: gather(state[None].to(device)).cpu() for name, state in states.items()}


def set_random_states(states: dict[str, Any], device: torch.device, process: int) -> None:
    """Take back this process's states; of processes that were not there, none."""
    rng, cuda_rng = states["rng"].reshape(-1, states["rng"].shape[-1]), states.get("cuda_rng")
    if process < len(rng):
        torch.set_rng_state(rng[process].clone())  # it reads the storage, whose start is the first process's
    if device.type == "cuda" and isinstance(cuda_rng, Tensor) and process < len(cuda_rng):
        torch.cuda.set_rng_state(cuda_rng[process].clone(), device)
