"""Ctrl-C and SIGTERM as a wish, not an end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGINT and SIGTERM only set a flag, so that the step in progress ends and is saved.

    A second Ctrl-C means it; but within a second it may be the first one's echo, as torchrun and make pass signals on.
    """
    seen: dict[int, float] = {}

    def note(number: int, _frame: Any) -> None:
        now = time.monotonic()
        if now - seen.setdefault(number, now) > 1.0:
            raise KeyboardInterrupt

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the host program keeps its signals
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
