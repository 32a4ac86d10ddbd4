"""What the files of a run tell: its lines sorted by kind, its settings, its starts. Nothing in them is trusted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
from m3gal_cli.files import require_file
from m3gal_cli.training.environment import read_starts
from m3gal_cli.training.run_directory import METRICS_FILE
from m3gal_cli.training.trainer import BEST_METRIC

BEST_KINDS = ("fused",)
Row = dict[str, Any]


@dataclass
class RunLog:
    """A run: ``steps``, ``validations`` and ``warnings`` are its lines of these kinds, ``broken`` counts the others."""

    name: str
    config: str = ""
    starts: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    warnings: list[Row] = field(default_factory=list)
    broken: int = 0

    @property
    def best(self) -> Row | None:
        """The validation whose checkpoint is the best: the first of those with the highest recall@1."""
        best = None
        for row in self.validations:
            value = _chosen_by(row)
            if value is not None and (best is None or value > (_chosen_by(best) or 0.0)):
                best = row
        return best

    @property
    def last_step(self) -> int:
        """The last step that any line tells of."""
        return max((row["step"] for row in (*self.steps, *self.validations)), default=0)

    @property
    def seconds(self) -> float | None:
        """What the run took, all its starts together; None where it is not known."""
        known = [s for start in self.starts if (s := number(start.get("seconds"))) is not None]
        return sum(known) if known else None


def read_run_log(run: Path) -> RunLog:
    """Read a run. Raises InputError where the folder holds no run."""
    require_file(run / CONFIG_FILE, "settings of a run")
    run_log = RunLog(run.resolve().name, (run / CONFIG_FILE).read_text(encoding="utf-8", errors="replace"))
    run_log.starts = read_starts(run)
    file = run / METRICS_FILE
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []
    kinds = {"step": run_log.steps, "validation": run_log.validations, "warning": run_log.warnings}
    for line in lines:
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            run_log.broken += 1
        elif row["kind"] in kinds:
            kinds[row["kind"]].append(row)
    return run_log


def _row(line: str) -> Row | None:
    """A line of metrics.jsonl; None for one that a crash cut short or that is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    step = row.get("step", 0 if row["kind"] == "warning" else None)
    if isinstance(step, bool) or not isinstance(step, int):
        return None
    if row["kind"] == "validation" and not isinstance(row.get("metrics"), dict):
        return None
    return row | {"step": step}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _chosen_by(row: Row) -> float | None:
    """The metric of a validation that chooses the best checkpoint."""
    return next((v for kind in BEST_KINDS if (v := metric(row, kind, BEST_METRIC)) is not None), None)


def metric(row: Row, kind: str, name: str) -> float | None:
    """A metric of a validation, or None where it is not there."""
    scores = row["metrics"].get(kind)
    return number(scores.get(name)) if isinstance(scores, dict) else None
