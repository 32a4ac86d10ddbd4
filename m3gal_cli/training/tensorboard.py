"""TensorBoard events of a training."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tensorboard_tracker(run: Path) -> Callable[[dict[str, Any]], None] | None:
    """Return a function that writes every number of a logged row as a scalar; None if TensorBoard is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(run / "tensorboard"))

    def track(row: dict[str, Any]) -> None:
        step = row["step"]
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(f"train/{name}", value, step)
        for score, metrics in row.get("metrics", {}).items():
            for name, value in metrics.items():
                writer.add_scalar(f"validation/{score}/{name}", value, step)
        writer.flush()

    return track
