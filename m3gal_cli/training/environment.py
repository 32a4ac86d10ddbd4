"""environment.json of a run: library versions, processor, threads and device of each start. No personal data."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from m3gal_cli.files import atomic_path, read_json, write_json

ENVIRONMENT_FILE = "environment.json"
Start = dict[str, Any]  # environment and progress of one start of a run, by name
LIBRARIES = ("m3gal", "torch", "transformers", "accelerate", "tokenizers", "numpy")


def describe_environment(accelerator: Any) -> Start:
    """Return versions, machine and devices of this process."""
    device = accelerator.device
    facts: Start = {"python": platform.python_version()}
    facts |= {name: _version(name) for name in LIBRARIES}
    facts |= {"system": platform.platform(), "cpu": _cpu_name(), "cpus": os.cpu_count()}
    facts |= {"threads": torch.get_num_threads(), "processes": accelerator.num_processes, "device": str(device)}
    if device.type == "cuda":
        facts |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return facts | {"precision": {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """Return the processor name that the system reports."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor() or platform.machine()


def read_starts(run: Path) -> list[Start]:
    """Return the starts of a run: the first one and each resumption. Unreadable files give an empty list."""
    content = read_json(run / ENVIRONMENT_FILE)
    starts = content.get("starts") if isinstance(content, dict) else None
    return [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []


def write_starts(run: Path, starts: list[Start]) -> None:
    """Write environment.json atomically. Raises InputError if that fails."""
    with atomic_path(run / ENVIRONMENT_FILE) as path:
        write_json(path, {"starts": starts})
