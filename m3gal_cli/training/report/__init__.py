"""report.html and progress.png: what a run did, for a person to look at.

Both are made from config.yaml, metrics.jsonl and environment.json alone, so that they can be made again for any run,
an interrupted one too: ``python -m m3gal_cli.training.report runs/NAME``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.training.environment import read_starts, surroundings, write_starts
from m3gal_cli.training.report.page import write_page
from m3gal_cli.training.report.picture import write_picture
from m3gal_cli.training.report.run_log import read_run_log

if TYPE_CHECKING:
    from m3gal_cli.training.trainer import Listener, Trainer

REPORT_FILE, PICTURE_FILE = "report.html", "progress.png"
PICTURE_SHARE = 0.05  # of the time of a training that goes into pictures at most, the last one not counted
PICTURE_SECONDS = 1.0  # what a picture takes, until one was drawn


def write_report(run: Path, picture: bool = True) -> None:
    """Write both files of a run, each atomically. Raises InputError or OSError where that fails.

    ``picture`` false leaves progress.png as it is: drawing it takes a hundred times as long as the page.
    """
    run_log = read_run_log(run)
    write_page(run_log, run / REPORT_FILE)
    if picture:
        write_picture(run_log, run / PICTURE_FILE)


@contextmanager
def reported(trainer: Trainer, resuming: bool) -> Iterator[None]:
    """Within the block the trainer's run keeps its environment.json and its report; in one of several processes."""
    if not trainer.run.main:
        yield
        return
    trainer.listener = reporter = Reporter(trainer, resuming)
    try:
        yield
    finally:
        reporter.end()


class Reporter:
    """A listener that passes on what it hears, and writes the report whenever a checkpoint is saved.

    A report that fails never stops a training: the first failure is told as a warning.
    """

    def __init__(self, trainer: Trainer, resuming: bool) -> None:
        self.listener: Listener = trainer.listener
        self.run = trainer.run.path
        self.began = self.drawn = time.monotonic()
        self.drawing = PICTURE_SECONDS
        self.last_step = 0
        self.stale = self.failed = False
        self.starts = read_starts(self.run) if resuming else []
        self.start: dict[str, Any] = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": 0.0}
        self.start |= {"stage": trainer.task.stage, "rows": trainer.task.rows} | surroundings(trainer.accelerator)
        self.starts.append(self.start)

    def part(self, name: str) -> None:
        self.listener.part(name)

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        self.last_step = done
        self.start |= {"first_step": done, "steps": total_steps, "steps_per_epoch": steps_per_epoch}
        self._write(report=False)
        self.listener.begin(total_steps, done, steps_per_epoch)

    def advance(self, done: int) -> None:
        self.last_step = done
        self.listener.advance(done)

    def step(self, row: dict[str, Any]) -> None:
        self.stale = True
        self.listener.step(row)

    def validation(self, row: dict[str, Any]) -> None:
        self.stale = True
        self.listener.validation(row)

    def warning(self, row: dict[str, Any]) -> None:
        self.stale = True
        self.listener.warning(row)

    def saved(self, path: Any, best: bool) -> None:
        self.stale = True
        self._write(picture=time.monotonic() - self.drawn >= self.drawing / PICTURE_SHARE)
        self.listener.saved(path, best)

    def end(self) -> None:
        """Write what is not written yet: the last picture, and what a training that failed has logged."""
        if self.stale:
            self._write(picture=True)

    def _write(self, report: bool = True, picture: bool = False) -> None:
        now = time.monotonic()
        self.start |= {"seconds": round(now - self.began, 1), "last_step": self.last_step}
        try:
            write_starts(self.run, self.starts)
            if report:
                write_report(self.run, picture)
            if picture:
                self.stale, self.drawn = False, time.monotonic()
                self.drawing = self.drawn - now
        except Exception as error:  # noqa: BLE001 - whatever a library or a disk may come up with
            if not self.failed:
                text = f"the report could not be written ({type(error).__name__}: {error}); the training goes on."
                text += f" Later: python -m m3gal_cli.training.report {self.run}"
                self.listener.warning({"kind": "warning", "step": self.last_step, "text": text})
            self.failed = True
