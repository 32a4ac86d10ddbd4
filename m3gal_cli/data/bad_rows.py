"""The file that lists the rows of a table that are left out: a JSON object with where, error and row per line."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from m3gal_cli.data.formats import BadRow
from m3gal_cli.files import atomic_text


class BadRows:
    """Writes invalid rows to a file, which appears when ``publish`` is called; without rows there is no file."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0
        self._stack = ExitStack()
        self._file: Any = None

    def add(self, bad: BadRow) -> None:
        """Write a row."""
        if self._file is None:
            self._file = self._stack.enter_context(atomic_text(self.path))
        line = {"where": bad.where, "error": bad.error, "row": bad.row}
        self._file.write(json.dumps(line, ensure_ascii=False, default=_plain) + "\n")
        self.count += 1

    def publish(self) -> None:
        """Complete the file."""
        self._stack.close()

    def discard(self) -> None:
        """Remove what was written, unless ``publish`` was called."""
        self._stack.__exit__(GeneratorExit, GeneratorExit(), None)


def _plain(value: Any) -> str:
    """Return a cell that JSON has no type for."""
    return value.hex() if isinstance(value, bytes) else str(value)
