"""Observe every change to the disk before it happens, and run work in forked processes that may be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Audit events (PEP 578) of changes to the disk; each is raised before the change.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate"}
KILLED = 9  # exit code of a process that ends itself without cleaning up
_NOW: list[Callable[[], None]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """Call the listener at every change. An audit hook cannot be removed, so it stays and does nothing."""
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if _NOW and (writes or event in CHANGES):
        _NOW[0]()


sys.addaudithook(_hook)


def listening(listener: Callable[[], None], work: Callable[[], Any]) -> None:
    """Run ``work`` and call ``listener`` before every change to the disk."""
    _NOW.append(listener)
    try:
        work()
    finally:
        _NOW.clear()


def in_child(work: Callable[[], Any]) -> int:
    """Run ``work`` in a forked process and return its pid. Its exit code is 0, or 70 if ``work`` raises."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setsid()
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def killed_at_each_change(work: Callable[[], Any], step: int = 1) -> Iterator[int]:
    """Kill ``work`` before the first change to the disk, and again before every ``step``-th later one.

    The number of changes that were made is yielded after each kill, and at last after a run that is not killed. The
    caller then restores what ``work`` changed.
    """
    changes, code = 0, KILLED
    while code == KILLED:
        left = [changes]

        def die(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)

        code = code_of(in_child(lambda die=die: listening(die, work)))
        assert code in (0, KILLED)
        yield changes
        changes += step


def code_of(pid: int) -> int:
    """Wait for a forked process; return its exit code, or minus the number of the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
