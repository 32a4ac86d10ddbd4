"""Summaries of the runs in a folder, read from their checkpoints' metadata. Importing this module imports no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from m3gal_cli.core.checkpoint_layout import META_FILE, is_checkpoint
from m3gal_cli.errors import InputError


@dataclass(frozen=True)
class RunSummary:
    """A run: its stage, steps and best validation metric.

    Args:
        name: Folder of the run.
        stage: pretrain or finetune.
        steps: Steps of the last checkpoint.
        metric: Name of the validation metric, e.g. fused.recall@1; None without validation.
        value: Its value at the best checkpoint.
        date: Local time of the last checkpoint, YYYY-MM-DD HH:MM.
        checkpoint: The best checkpoint.
    """

    name: str
    stage: str
    steps: int
    metric: str | None
    value: float | None
    date: str
    checkpoint: Path

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints."""
        return asdict(self) | {"checkpoint": str(self.checkpoint)}


def run_summaries(folder: Path) -> list[RunSummary]:
    """Return the runs of a folder that have a checkpoint, the newest first. Raises InputError for damaged metadata."""
    runs = [p for p in folder.glob("*") if is_checkpoint(p / "last")] if folder.is_dir() else []
    return [_summary(run) for run in sorted(runs, key=_saved_at, reverse=True)]


def _saved_at(run: Path) -> float:
    return (run / "last" / META_FILE).stat().st_mtime


def _summary(run: Path) -> RunSummary:
    best = run / "best" if is_checkpoint(run / "best") else run / "last"
    try:
        last_meta, best_meta = (json.loads((p / META_FILE).read_text(encoding="utf-8")) for p in (run / "last", best))
        metrics = best_meta.get("metrics", {})
        metric = next((n for n in ("fused.recall@1", *metrics) if n in metrics and n.endswith(".recall@1")), None)
        date = datetime.fromtimestamp(_saved_at(run)).strftime("%Y-%m-%d %H:%M")
        value = None if metric is None else metrics[metric]
        return RunSummary(run.name, last_meta["stage"] or "", last_meta["step"], metric, value, date, best)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"cannot read {META_FILE}", where=run, hint="Remove the damaged run.") from error
