"""A lock between processes that write to one folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class FolderLock:
    """An advisory lock (flock) of an existing folder, without a lock file.

    Several processes may hold it shared, or one process exclusively. The system releases it when the process ends.
    Where folders cannot be locked (Windows, some network file systems), every request succeeds.
    """

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder, os.O_RDONLY) if fcntl is not None else None
        self.is_exclusive = False  # whether this process really holds the lock exclusively

    def close(self) -> None:
        """Release the lock."""
        if self._handle is not None:
            os.close(self._handle)

    def try_exclusive(self) -> bool:
        """Take the lock exclusively; return False at once if another process holds it."""
        if self._handle is not None:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.is_exclusive = True
            except BlockingIOError:
                return False
            except OSError:  # the file system cannot lock folders
                pass
        return True

    def share(self) -> None:
        """Take the lock shared, or turn an exclusive lock into a shared one; wait for an exclusive lock to end."""
        self.is_exclusive = False
        if self._handle is not None:
            with suppress(OSError):  # the file system cannot lock folders
                fcntl.flock(self._handle, fcntl.LOCK_SH)
