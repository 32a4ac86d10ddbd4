"""How far a long work is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from m3gal_cli.cli.console import err, note, progress_bar

EVERY_S = 10.0  # between two lines off a terminal


class RowProgress:
    """Rows done, rows a second and time left, on stderr. Without a call nothing is shown.

    Args:
        what: what is done to the rows.
    """

    def __init__(self, what: str) -> None:
        self._what, self._stack = what, ExitStack()
        self._bar: Any = None
        self._task: Any = None
        self._began: tuple[float, int] | None = None  # time and rows of the first call
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, done: int, total: int) -> None:
        """Tell of ``done`` rows of ``total`` (0: nobody knows)."""
        now = time.monotonic()
        if self._began is None:
            self._began, self._told = (now, done), now
            if err().is_terminal:
                self._bar = self._stack.enter_context(progress_bar())
                self._task = self._bar.add_task(self._what, total=total or None, info="")
        speed = (done - self._began[1]) / max(now - self._began[0], 1e-9)
        if self._bar is not None:
            info = f"{speed:,.0f} a second" if speed else ""
            self._bar.update(self._task, completed=done, total=total or None, info=info)
        elif now - self._told >= EVERY_S:
            self._told = now
            note(f"{self._what}: {told(done, total, speed)}")


def told(done: int, total: int, speed: float) -> str:
    """Rows done, of how many, how fast and how long yet, in words."""
    parts = [f"{done:,} of {total:,}" if total else f"{done:,}", f"{speed:,.0f} a second"]
    if total and speed > 0:
        seconds = round((total - done) / speed)
        parts.append(f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left")
    return ", ".join(parts)
