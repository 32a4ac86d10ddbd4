"""Read the files of a run for its report. Damaged or unexpected content is skipped, never trusted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
from m3gal_cli.files import require_file
from m3gal_cli.training.environment import read_starts
from m3gal_cli.training.run_directory import METRICS_FILE, RERANKER_ROW
from m3gal_cli.training.trainer import SELECTION_METRIC, SELECTION_SCORE

Row = dict[str, Any]


@dataclass
class RunLog:
    """The content of a run directory: config.yaml, environment.json and the rows of metrics.jsonl by kind."""

    name: str  # of the folder
    config: str  # text of config.yaml
    starts: list[Row]  # of environment.json, one per start of the run
    steps: list[Row] = field(default_factory=list)
    validations: list[Row] = field(default_factory=list)
    warnings: list[Row] = field(default_factory=list)
    reranker: Row | None = None  # the reranker fit, with the reranked metrics of the best checkpoint
    unreadable: int = 0  # lines that are no valid row

    @property
    def best(self) -> Row | None:
        """The validation that selects the best checkpoint: the first with the highest recall@1 of the fused score."""
        values = [(row, metric(row, SELECTION_SCORE, SELECTION_METRIC)) for row in self.validations]
        known = [(row, value) for row, value in values if value is not None]
        return max(known, key=lambda item: item[1])[0] if known else None

    @property
    def last_step(self) -> int:
        """The last logged step."""
        return max((row["step"] for row in (*self.steps, *self.validations)), default=0)

    @property
    def seconds(self) -> float | None:
        """Duration of all starts of the run; None if unknown."""
        known = [s for start in self.starts if (s := number(start.get("seconds"))) is not None]
        return sum(known) if known else None


def read_run_log(run: Path) -> RunLog:
    """Read a run. Raises InputError if the folder has no config.yaml."""
    require_file(run / CONFIG_FILE, "config.yaml of a run")
    config = (run / CONFIG_FILE).read_text(encoding="utf-8", errors="replace")
    run_log, file = RunLog(run.resolve().name, config, read_starts(run)), run / METRICS_FILE
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n") if file.exists() else []
    kinds = {"step": run_log.steps, "validation": run_log.validations, "warning": run_log.warnings}
    for line in lines:
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            run_log.unreadable += 1
        elif row["kind"] == RERANKER_ROW:
            run_log.reranker = row
        elif row["kind"] in kinds:
            kinds[row["kind"]].append(row)
    return run_log


def _row(line: str) -> Row | None:
    """Return a line of metrics.jsonl as a row; None if it is cut short or has unexpected fields."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("kind"), str):
        return None
    step = row.get("step", 0 if row["kind"] == "warning" else None)
    if isinstance(step, bool) or not isinstance(step, int):
        return None
    if row["kind"] in ("validation", RERANKER_ROW) and not isinstance(row.get("metrics"), dict):
        return None
    return row | {"step": step}


def number(value: Any) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def metric(row: Row, score: str, name: str) -> float | None:
    """Return a metric of a validation row; None if it is missing."""
    metrics = row["metrics"].get(score)
    return number(metrics.get(name)) if isinstance(metrics, dict) else None
