"""Choice of device, precision and attention implementation."""

from __future__ import annotations

import torch
from torch import nn

from m3gal_cli.errors import InputError


def resolve_device(name: str) -> torch.device:
    """Return the torch device of a name. ``auto`` is CUDA if available, else MPS (Apple), else the CPU.

    Raises:
        InputError: The name is unknown, or this machine has no such device.
    """
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if counts[kind])
    try:
        device = torch.device(name)
        available = counts[device.type]
    except (RuntimeError, KeyError) as error:
        raise InputError(f"--device {name}: unknown device", hint="Use auto, cpu, cuda, cuda:N or mps.") from error
    if (device.index or 0) >= available:
        what = f"--device {name}: this machine has no such device"
        raise InputError(what, hint="Use --device cpu, or --device auto for the best device that is available.")
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Return ``fp32`` or ``bf16``; ``auto`` is bf16 if the device has instructions for it.

    On a CPU without them, ``bf16`` also becomes fp32: a training step in emulated bf16 takes 20 to 30 times as long.
    """
    if name == "fp32" or (device.type == "cpu" and not has_bf16()):
        return "fp32"
    if name == "auto" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp32"
    return "bf16" if name == "bf16" or device.type in ("cpu", "cuda") else "fp32"


def has_bf16() -> bool:
    """Return whether this CPU has instructions for bf16 (AMX or AVX-512 BF16)."""
    checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def choose_attention(model: nn.Module, device: torch.device, precision: str) -> None:
    """Set the attention that is fastest according to benchmarks/training.py: eager for bf16 on a CPU, else sdpa."""
    name = "eager" if device.type == "cpu" and precision == "bf16" else "sdpa"
    for part, encoder in model.named_modules():
        set_attention = getattr(encoder, "set_attn_implementation", None)
        if part.rpartition(".")[2] == "text_encoder" and callable(set_attention):
            try:
                set_attention(name)
            except (ValueError, ImportError):  # the architecture has only one implementation
                return
