"""Store of results: one JSON line per run. A stored run is not repeated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality.interface import Result


@dataclass(frozen=True)
class RunKey:
    """Key of a run: ``labels`` are training queries (None: all), ``hash`` is that of the method's settings."""

    method: str
    fold: str
    seed: int
    labels: int | None
    hash: str


class ResultStore:
    """A file of JSON lines. A line that a kill truncated is ignored, and the next one starts on a new line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """Return all complete lines, oldest first."""
        if not self.path.is_file():
            return []
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
        return lines

    def keys(self) -> set[RunKey]:
        """Return the keys of the stored runs."""
        return {run_key(line) for line in self.lines()}

    def add(self, key: RunKey, ids: Iterable[int], result: Result, about: dict[str, Any]) -> None:
        """Append a run and flush it to disk.

        Args:
            key: Key of the run.
            ids: Ids of the test queries, in the order of the lists in ``result``.
            result: The result.
            about: Further values to store: settings, sizes.
        """
        line = vars(key) | {"ids": list(ids), "minutes": result.minutes, "before": result.before}
        self.append(line | {"rows": {name: row.to_json() for name, row in result.rows.items()}, "about": about})

    def append(self, line: dict[str, Any]) -> None:
        """Append a line and flush it to disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            if file.tell() and _last_byte(self.path) != b"\n":
                file.write(b"\n")
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read()


def run_key(line: dict[str, Any]) -> RunKey:
    """Return the key of a stored line."""
    return RunKey(*(line[name] for name in ("method", "fold", "seed", "labels", "hash")))


def newest_runs(lines: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Return the last line of each run with the newest settings of its method, and the number of other lines."""
    lines = list(lines)
    settings = {line["method"]: line["hash"] for line in lines}
    kept = {run_key(line): line for line in lines if line["hash"] == settings[line["method"]]}
    return list(kept.values()), len(lines) - len(kept)
