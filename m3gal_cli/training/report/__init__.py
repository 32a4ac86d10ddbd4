"""Report of a run: report.html and progress.png.

Both are made from config.yaml, metrics.jsonl and environment.json. They can be made again for any run, also for an
interrupted one: ``python -m m3gal_cli.training.report runs/NAME``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from m3gal_cli.training.environment import Start, describe_environment, read_starts, write_starts
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.report.page import write_page
from m3gal_cli.training.report.picture import write_picture
from m3gal_cli.training.report.run_log import read_run_log

if TYPE_CHECKING:
    from m3gal_cli.training.trainer import Trainer

REPORT_FILE, PICTURE_FILE = "report.html", "progress.png"
PICTURE_SHARE = 0.05  # maximum share of the training time for drawing pictures, without the last one


def write_report(run: Path, picture: bool = True) -> None:
    """Write report.html and progress.png of a run, each atomically.

    Args:
        run: Folder of the run.
        picture: Whether to draw progress.png, which takes a hundred times as long as the page.

    Raises:
        InputError: The folder is no run, or a file cannot be written.
    """
    run_log = read_run_log(run)
    write_page(run_log, run / REPORT_FILE)
    if picture:
        write_picture(run_log, run / PICTURE_FILE)


@contextmanager
def reported(trainer: Trainer, resuming: bool) -> Iterator[None]:
    """Within the block, keep environment.json and the report of the trainer's run up to date."""
    if not trainer.run.main:
        yield
        return
    writer = ReportWriter(trainer, resuming)
    trainer.after_save = writer.update
    try:
        yield
    finally:
        writer.write(picture=True)  # also the report of a training that failed


class ReportWriter:
    """Writes environment.json and the report of a run while it is trained.

    A report that cannot be written never stops a training: the first failure is a warning.
    """

    def __init__(self, trainer: Trainer, resuming: bool) -> None:
        self.trainer = trainer
        self.began = self.picture_drawn = time.monotonic()
        self.picture_seconds = 1.0  # duration of the last picture; at first an estimate
        self.failed = False
        self.starts = read_starts(trainer.run.path) if resuming else []
        self.start: Start = {"started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": 0.0}
        self.start |= {"stage": trainer.objective.stage, "rows": trainer.objective.rows}
        self.start |= describe_environment(trainer.accelerator)
        self.start |= {"first_step": trainer.state.step, "steps": trainer.total}
        self.start |= {"steps_per_epoch": trainer.steps_per_epoch}
        self.starts.append(self.start)
        self.write(picture=False)

    def update(self) -> None:
        """Write the report, with the picture if drawing it takes at most ``PICTURE_SHARE`` of the time."""
        since = time.monotonic() - self.picture_drawn
        self.write(picture=since >= self.picture_seconds / PICTURE_SHARE)

    def write(self, picture: bool) -> None:
        """Write environment.json and the report."""
        now, run = time.monotonic(), self.trainer.run.path
        self.start |= {"seconds": round(now - self.began, 1), "last_step": self.trainer.state.step}
        try:
            write_starts(run, self.starts)
            write_report(run, picture)
            if picture:
                self.picture_drawn = time.monotonic()
                self.picture_seconds = self.picture_drawn - now
        except Exception as error:  # noqa: BLE001 - matplotlib and file systems raise many types
            if not self.failed:
                _warn(error, run, self.trainer.listener)
            self.failed = True


def update_report(run: Path, listener: Listener) -> None:
    """Write the report of a finished run again; a failure is a warning."""
    try:
        write_report(run)
    except Exception as error:  # noqa: BLE001 - as in ReportWriter
        _warn(error, run, listener)


def _warn(error: Exception, run: Path, listener: Listener) -> None:
    text = f"cannot write the report ({type(error).__name__}: {error}); the training continues. "
    text += f"Write it later with: python -m m3gal_cli.training.report {run}"
    listener.warning({"kind": "warning", "text": text})
