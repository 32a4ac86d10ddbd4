"""Tells of every change to a disk before it happens, and runs work in copies of this process, which may die of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

# Audit events (PEP 578) of what changes a disk; each is told before it happens.
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.link", "os.chmod", "os.truncate"}
_NOW: list[Callable[[], None]] = []


def _hook(event: str, args: tuple[Any, ...]) -> None:
    """Tell the listener of every change; a hook cannot be removed, so that it stays and mostly does nothing."""
    writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if _NOW and (writes or event in CHANGES):
        _NOW[0]()


sys.addaudithook(_hook)


def listening(listener: Callable[[], None], work: Callable[[], Any]) -> None:
    """Do a piece of work, ``listener`` being called before every change to a disk."""
    _NOW.append(listener)
    try:
        work()
    finally:
        _NOW.clear()


def in_child(work: Callable[[], Any]) -> int:
    """Run ``work`` in a copy of this process; its number. A copy that ends by itself ends with 0, or 70 if it fails."""
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


def code_of(pid: int) -> int:
    """The exit code of a copy, or minus the signal that ended it; waits for that."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
