"""Devices, processes and precision of a training, through Hugging Face accelerate."""

from __future__ import annotations

from typing import Any

import torch

from m3gal_cli.config.schema import Config
from m3gal_cli.core.devices import resolve_device, resolve_precision


def make_accelerator(config: Config) -> Any:
    """Return an ``accelerate.Accelerator`` for the settings. Raises InputError if the device is not available."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    device = resolve_device(config.device)
    if device.type == "cuda" and config.device != "auto":
        torch.cuda.set_device(device.index or 0)
    AcceleratorState._reset_state(True)  # an earlier training in this process may have used another device
    GradientState._reset_state()
    precision = {"bf16": "bf16", "fp32": "no"}[resolve_precision(config.optim.precision, device)]
    # Without cpu=True the processes of torchrun would each train alone on a machine without a GPU.
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision)


def leave_process_group(accelerator: Any) -> None:
    """Wait for the other processes, then leave their group; they would fail if this process exited earlier."""
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        torch.distributed.destroy_process_group()
