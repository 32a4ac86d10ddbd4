"""The run directory: configuration, logged rows, checkpoints and report of one training.

runs/NAME/config.yaml           resolved configuration; ``${run}`` stands for this folder
runs/NAME/metrics.jsonl         one object per logged step, validation, warning and fitted reranker
runs/NAME/environment.json      versions, machine and duration of each start of the run
runs/NAME/checkpoints/          step-00000012/ …; a second save of a step becomes step-00000012-2
runs/NAME/last, best            links to two of the checkpoints
runs/NAME/members/1/ …          the runs of a model soup, if the checkpoints are the mean of their weights
runs/NAME/reranker_before_training.safetensors   reranker weights from before the first step
runs/NAME/report.html, progress.png   made from config.yaml, metrics.jsonl and environment.json

A checkpoint is written under a temporary name and then renamed; no checkpoint is ever replaced.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from m3gal_cli.core.checkpoint import Checkpoint, save_checkpoint, save_error
from m3gal_cli.core.checkpoint_layout import is_checkpoint
from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, make_folder, remove_folder, remove_leftovers, replace_link

METRICS_FILE = "metrics.jsonl"
RERANKER_ROW = "reranker"  # kind of the row that the reranker fit writes
_CHECKPOINT_NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?")


class RunDirectory:
    """The files of a run.

    Args:
        path: Folder of the run.
        main: Whether this is the main process. Other processes write nothing.
        keep: Number of older checkpoints to keep besides the last and the best one.

    Attributes:
        last: Link to the last checkpoint.
        best: Link to the best checkpoint.
        metrics: The file of logged rows.
    """

    def __init__(self, path: Path, main: bool = True, keep: int = 0) -> None:
        self.path, self.main, self.keep = path, main, keep
        self.last, self.best, self.metrics = path / "last", path / "best", path / METRICS_FILE

    @classmethod
    def named(cls, folder: str, name: str | None, command: str, main: bool = True, keep: int = 0) -> RunDirectory:
        """Return the run ``folder/name``. A name with a slash is a path; None gives a name of command and time."""
        if name is None:
            name = f"{command}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        return cls(Path(name) if "/" in name else Path(folder) / name, main, keep)

    def check(self, resuming: bool) -> None:
        """Raise InputError if a new run would overwrite an existing one."""
        if not resuming and is_checkpoint(self.last):
            hint = "Continue it with --resume auto, or choose another --run-name."
            raise InputError("the run already exists", where=self.path, hint=hint)

    def start(self, config: str, resuming: bool) -> None:
        """Create the folder and write config.yaml; a new run drops the rows of a run that saved no checkpoint.

        Raises:
            InputError: The folder is not writable.
        """
        if not self.main:
            return
        make_folder(self.path)
        with atomic_text(self.path / CONFIG_FILE) as file:
            file.write(config)
        if not resuming:
            self.metrics.unlink(missing_ok=True)

    def drop_rows_after(self, step: int) -> None:
        """Drop rows that an interrupted run logged after its last checkpoint, and rows of the reranker fit."""
        if self.main and self.metrics.exists():
            kept = [r for r in self.rows() if r.get("step", 0) <= step and r.get("kind") != RERANKER_ROW]
            with atomic_text(self.metrics) as file:
                file.writelines(json.dumps(row) + "\n" for row in kept)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl. Raises InputError if it cannot be written."""
        if not self.main:
            return
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            what, hint = f"cannot write ({error.strerror or error})", "Free disk space, then --resume auto."
            raise InputError(what, where=self.metrics, hint=hint) from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of metrics.jsonl, without a line that a crash cut short."""
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def save(self, checkpoint: Checkpoint, is_best: bool) -> Path:
        """Save a checkpoint, link it as last (and best), and remove older ones beyond ``keep``.

        If the process is killed at any moment, ``last`` and ``best`` still lead to complete checkpoints.

        Raises:
            InputError: The checkpoint cannot be written, e.g. because the disk is full.
        """
        folder = self.path / "checkpoints"
        path = folder / f"step-{checkpoint.step:08d}"
        if not self.main:
            return path
        remove_leftovers(folder)
        copies = 1
        while os.path.lexists(path):
            copies += 1
            path = folder / f"step-{checkpoint.step:08d}-{copies}"
        save_checkpoint(path, checkpoint)
        try:
            # best first: if killed in between, the run resumes from the old last one and finds the same best again
            if is_best or not self.best.exists():
                replace_link(self.best, path)
            replace_link(self.last, path)
        except OSError as error:
            raise save_error(error, path) from error
        self._remove_old(checkpoint.step)
        return path

    def _remove_old(self, step: int) -> None:
        """Remove checkpoints that no link points to, except the newest ``keep`` before ``step``, one per step."""
        names = {path: _CHECKPOINT_NAME.fullmatch(path.name) for path in (self.path / "checkpoints").iterdir()}
        versions = {path: (int(name[1]), int(name[2] or 1)) for path, name in names.items() if name}
        linked = {self.last.resolve(), self.best.resolve()}
        linked_steps = {version[0] for path, version in versions.items() if path.resolve() in linked}
        newest = {version[0]: path for path, version in sorted(versions.items(), key=lambda item: item[1])}
        older = [path for at, path in sorted(newest.items()) if at < step and at not in linked_steps]
        kept = {path.resolve() for path in older[max(len(older) - self.keep, 0) :]} | linked
        for path in versions:
            if path.resolve() not in kept:
                with suppress(OSError):  # a checkpoint that cannot be removed must not stop the training
                    remove_folder(path)
