"""Runs of the command line inside the process of the tests, which imports torch once."""

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
# Environment of separate processes.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """Return stdout, which must be one JSON object."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value

    def lines(self) -> list[dict[str, Any]]:
        """Return stdout, which must be JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def run(self) -> Path:
        """Return the path of the run, the only line that a training prints on stdout."""
        assert self.code == 0, self.err
        assert self.out.count("\n") == 1, self.out
        return Path(self.out.strip())


def m3gal(*args: object, stdin: str | None = None) -> Answer:
    """Run ``m3gal ARGS``. An exception other than an exit is raised."""
    torch.set_num_threads(1)  # the models are tiny
    result = CliRunner().invoke(app, [str(a) for a in args], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)


def done(answer: Answer) -> Answer:
    """Return the answer of a command that must succeed."""
    assert answer.code == 0, answer.err
    return answer


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def steps(run: Path) -> list[dict[str, Any]]:
    """Return the logged steps of a run."""
    return [row for row in _rows(run) if row["kind"] == "step"]


def validations(run: Path) -> list[dict[str, Any]]:
    """Return the logged validations of a run."""
    return [row for row in _rows(run) if row["kind"] == "validation"]


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Return all weights of a checkpoint directory by published name, sorted by name."""
    return dict(sorted(read_weights(checkpoint).items()))


def _rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
