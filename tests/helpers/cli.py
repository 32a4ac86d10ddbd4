"""Runs the command line inside the test's own process: torch is imported once, not once a command."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from m3gal_cli.cli.app import app
from m3gal_cli.core.checkpoint_parts import read_weights

ROOT = Path(__file__).resolve().parents[2]
# Of a program of its own.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Answer:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """stdout as the one JSON object that it must be."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def lines(self) -> list[dict[str, Any]]:
        """stdout as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def run(self) -> Path:
        """The run path, the one line that a training prints on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return Path(self.out.strip())


def m3gal(*args: object, stdin: str | None = None) -> Answer:
    """``m3gal ARGS``. An exception other than an exit is a crash and is raised here."""
    torch.set_num_threads(1)  # the models are tiny
    result = CliRunner().invoke(app, [str(a) for a in args], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def done(answer: Answer) -> Answer:
    """The answer of a command that did its work."""
    assert answer.code == 0, answer.err
    return answer


def steps(run: Path) -> list[dict[str, Any]]:
    """The logged steps of a run."""
    return [row for row in _rows(run) if row["kind"] == "step"]


def validations(run: Path) -> list[dict[str, Any]]:
    """The logged validations of a run."""
    return [row for row in _rows(run) if row["kind"] == "validation"]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All weights of a checkpoint directory under the model's names (the published ones), in the order of these."""
    return dict(sorted(read_weights(checkpoint).items()))


def _rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
