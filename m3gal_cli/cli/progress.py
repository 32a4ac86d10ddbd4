"""Progress of long work: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from m3gal_cli.cli.console import duration, err, note, progress_bar

EVERY_S = 10.0  # seconds between two lines if stderr is no terminal


class RowProgress:
    """Shows rows done, rows per second and time left on stderr, from the first call on.

    Args:
        action: The name of the work, e.g. "encoding POIs".
        every_s: Seconds between two lines if stderr is no terminal.
        clock: Returns the time in seconds.
    """

    def __init__(self, action: str, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._action, self._every_s, self._clock = action, every_s, clock
        self._stack = ExitStack()
        self._bar: Any = None
        self._task: Any = None
        self._start: tuple[float, int] | None = None  # time and rows of the first call
        self._printed = 0.0  # time of the last line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` rows are done; total 0 means unknown."""
        now = self._clock()
        if self._start is None:
            self._start, self._printed = (now, done), now
            if err().is_terminal:
                self._bar = self._stack.enter_context(progress_bar())
                self._task = self._bar.add_task(self._action, total=total or None, info="")
        speed = (done - self._start[1]) / max(now - self._start[0], 1e-9)
        if self._bar is not None:
            info = f"{speed:,.0f} per second" if speed else ""
            self._bar.update(self._task, completed=done, total=total or None, info=info)
        elif now - self._printed >= self._every_s:
            self._printed = now
            note(f"{self._action}: {progress_text(done, total, speed)}")


@contextmanager
def stage_progress() -> Iterator[Callable[..., None]]:
    """Show a bar of the current stage; call it with the stage and, where known, rows done and rows in total."""
    with progress_bar() as bar:
        current, task = "", bar.add_task("", total=None, info="")

        def update(stage: str, done: int = 0, total: int = 0) -> None:
            nonlocal current
            if stage != current:
                current = stage
                bar.reset(task, description=stage, total=total or None)
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, total=total or None, info=f"{speed:,.0f} per second" if speed else "")

        yield update


def progress_text(done: int, total: int, speed: float) -> str:
    """Return rows done, rows in total, rows per second and time left as text."""
    parts = [f"{done:,} of {total:,}" if total else f"{done:,}", f"{speed:,.0f} per second"]
    if total and speed > 0:
        parts.append(f"{duration((total - done) / speed)} left")
    return ", ".join(parts)
