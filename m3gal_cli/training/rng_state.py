"""States of the random number generators, saved in checkpoints so that a resumed run continues the same draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from m3gal_cli.core.distributed import gather


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """Return the states of all processes: of the CPU generator and, on CUDA, of the device generator.

    Shape:
        -> (processes, bytes) uint8 by name.
    """
    states = {"rng": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda_rng"] = torch.cuda.get_rng_state(device)
    return {name: gather(state[None].to(device)).cpu() for name, state in states.items()}


def restore_rng_states(states: dict[str, Any], device: torch.device, process: int) -> None:
    """Restore the states of this process. A process that did not exist when they were saved keeps its own."""
    rng, cuda_rng = states["rng"].reshape(-1, states["rng"].shape[-1]), states.get("cuda_rng")
    if process < len(rng):
        torch.set_rng_state(rng[process].clone())  # without clone() torch would read the row of process 0
    if device.type == "cuda" and isinstance(cuda_rng, Tensor) and process < len(cuda_rng):
        torch.cuda.set_rng_state(cuda_rng[process].clone(), device)
