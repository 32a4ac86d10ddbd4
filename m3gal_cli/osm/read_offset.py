"""How far a library has read a file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class Offset:
    """How far osmium has read a file: it tells nobody, but the descriptor that it reads through is one of ours."""

    def __init__(self, path: Path) -> None:
        stat = path.stat()
        self._file = (stat.st_dev, stat.st_ino)
        self._descriptor: int | None = None
        self._searches = 16  # left; a small file is read and closed before anybody looks
        self._last = 0

    def bytes(self) -> int:
        """Bytes read, never less than before; stays where it is once osmium has closed the file."""
        if self._descriptor is None and self._searches:
            self._searches -= 1
            self._descriptor = next(filter(self._is_ours, range(256)), None)
        if self._descriptor is not None and self._is_ours(self._descriptor):
            with suppress(OSError):  # closed since, by a thread of osmium's
                self._last = max(self._last, os.lseek(self._descriptor, 0, os.SEEK_CUR))
        return self._last

    def _is_ours(self, descriptor: int) -> bool:
        try:
            stat = os.fstat(descriptor)
        except OSError:
            return False
        return (stat.st_dev, stat.st_ino) == self._file
