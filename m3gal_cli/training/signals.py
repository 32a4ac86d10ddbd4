"""Handle Ctrl-C and SIGTERM so that a training saves a checkpoint before it stops."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

ECHO_SECONDS = 1.0  # torchrun and make pass signals on, so the same Ctrl-C may arrive twice


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether SIGINT or SIGTERM has arrived within the block.

    The first signal only sets this flag, so the step in progress can end and be saved. The same signal again after
    ``ECHO_SECONDS`` raises KeyboardInterrupt. Outside the main thread the signals of the host program stay unchanged.
    """
    first_seen: dict[int, float] = {}

    def handle(number: int, _frame: Any) -> None:
        now = time.monotonic()
        if now - first_seen.setdefault(number, now) > ECHO_SECONDS:
            raise KeyboardInterrupt

    try:
        previous = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # raised outside the main thread
        previous = {}
    try:
        yield lambda: bool(first_seen)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
