"""What a training runs on, as environment.json keeps it: versions, processor, threads, device. No names of people."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from m3gal_cli.files import atomic_text

ENVIRONMENT_FILE = "environment.json"
LIBRARIES = ("m3gal", "torch", "transformers", "accelerate", "tokenizers", "numpy")


def surroundings(accelerator: Any) -> dict[str, Any]:
    """Versions, machine and devices of this process."""
    device = accelerator.device
    found: dict[str, Any] = {"python": platform.python_version()}
    found |= {name: _version(name) for name in LIBRARIES}
    found |= {"system": platform.platform(), "cpu": cpu_name(), "cpus": os.cpu_count()}
    found |= {"threads": torch.get_num_threads(), "processes": accelerator.num_processes, "device": str(device)}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found | {"precision": {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    """The processor as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def read_starts(run: Path) -> list[dict[str, Any]]:
    """The starts of a run: the first one, and one each time it was resumed. Empty where nothing can be read."""
    try:
        found = json.loads((run / ENVIRONMENT_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    starts = found.get("starts") if isinstance(found, dict) else None
    return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []


def write_starts(run: Path, starts: list[dict[str, Any]]) -> None:
    """Write environment.json, atomically. Raises InputError where that fails."""
    with atomic_text(run / ENVIRONMENT_FILE) as file:
        json.dump({"starts": starts}, file, ensure_ascii=False, indent=1)
        file.write("\n")
