"""The run directory: resolved configuration, metrics.jsonl, checkpoints.

runs/NAME/config.yaml        resolved configuration
runs/NAME/metrics.jsonl      one object a logged step and one a validation
runs/NAME/checkpoints/       step-00000012/ …, written whole and then renamed; none is ever replaced: a step that is
                             saved once more becomes step-00000012-2
runs/NAME/environment.json   what each start of the run ran on, and for how long
runs/NAME/members/1/ …       a run of each member of a finetuning of several, whose mean the checkpoints are
runs/NAME/hybrid_before.json   weights of the hybrid score that the training records taught before the first step
runs/NAME/report.html, progress.png   curves and figures, made from the three above
runs/NAME/last, best         links to two of them, switched in one rename
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

from m3gal_cli.core.checkpoint import Stored, save_checkpoint, unsaved
from m3gal_cli.core.checkpoint_layout import is_checkpoint
from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, make_folder, remove_folder, remove_leftovers, replace_link

METRICS_FILE = "metrics.jsonl"
_NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?")


class RunDirectory:
    """A run's files.

    Args:
        main: False in all but one of several processes, which then write nothing.
        keep: older checkpoints that stay besides the last and the best one.
    """

    def __init__(self, path: Path, main: bool = True, keep: int = 0) -> None:
        self.path = path
        self.main = main
        self.keep = keep

    @classmethod
    def named(cls, folder: str, name: str | None, command: str, main: bool = True, keep: int = 0) -> RunDirectory:
        """``folder/name``; without a name, command and time. A name with a slash is a path of its own."""
        if name is None:
            return cls(Path(folder) / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}", main, keep)
        return cls(Path(name) if "/" in name else Path(folder) / name, main, keep)

    @property
    def last(self) -> Path:
        return self.path / "last"

    @property
    def best(self) -> Path:
        return self.path / "best"

    @property
    def metrics(self) -> Path:
        return self.path / METRICS_FILE

    def check(self, resuming: bool) -> None:
        """Raise InputError where a run would be overwritten."""
        if not resuming and is_checkpoint(self.last):
            hint = "Continue it with --resume auto, or choose another --output-name."
            raise InputError("the run exists already", where=self.path, hint=hint)

    def start(self, config: str, resuming: bool) -> None:
        """Make the directory and write the configuration. Raises InputError where a run would be overwritten."""
        self.check(resuming)
        if not self.main:
            return
        make_folder(self.path)
        with atomic_text(self.path / CONFIG_FILE) as file:
            file.write(config)
        if not resuming:
            self.metrics.unlink(missing_ok=True)

    def forget_after(self, step: int) -> None:
        """Drop logged lines beyond ``step``: they belong to what an interrupted run did after its checkpoint."""
        if self.main and self.metrics.exists():
            kept = [row for row in self.lines() if row.get("step", 0) <= step]
            with atomic_text(self.metrics) as file:
                file.writelines(json.dumps(row) + "\n" for row in kept)

    def log(self, row: dict[str, Any]) -> None:
        """Append one object to metrics.jsonl. Raises InputError (disk full, …)."""
        if not self.main:
            return
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            what, hint = f"cannot write ({error.strerror or error})", "Free space and resume."
            raise InputError(what, where=self.metrics, hint=hint) from error

    def lines(self) -> Iterator[dict[str, Any]]:
        """The objects of metrics.jsonl; a line that a crash cut short is passed over."""
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue

    def save(self, checkpoint: Stored[Any], is_best: bool) -> Path:
        """Save a checkpoint as the last (and the best) one; of older ones that are neither, the ``keep`` newest stay.

        Whenever it is killed, ``last`` and ``best`` lead to whole checkpoints. Raises InputError (disk full, …).
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
            # The best first: killed in between, the run goes on from the old last one and finds the same best again.
            if is_best or not self.best.exists():
                replace_link(self.best, path)
            replace_link(self.last, path)
        except OSError as error:
            raise unsaved(error, path) from error
        self._drop_old(checkpoint.step)
        return path

    def _drop_old(self, step: int) -> None:
        """Remove what no link leads to: all beyond ``step`` (of a try given up), second copies, too old ones."""
        names = {path: _NAME.fullmatch(path.name) for path in (self.path / "checkpoints").iterdir()}
        found = {path: (int(name[1]), int(name[2] or 1)) for path, name in names.items() if name}
        linked = {self.last.resolve(), self.best.resolve()}
        taken = {order[0] for path, order in found.items() if path.resolve() in linked}
        newest = {order[0]: path for path, order in sorted(found.items(), key=lambda item: item[1])}
        older = [path for at, path in sorted(newest.items()) if at < step and at not in taken]
        kept = {path.resolve() for path in older[max(len(older) - self.keep, 0) :]} | linked
        for path in found:
            if path.resolve() not in kept:
                with suppress(OSError):  # what cannot go is no reason to stop a training
                    remove_folder(path)
