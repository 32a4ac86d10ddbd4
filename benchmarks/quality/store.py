"""What was found, a JSON line a run of a method. A run that is in it is not done again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quality.job import Result


@dataclass(frozen=True)
class Key:
    """Which run: labels are the training queries, None for all; ``hash`` is that of all that the result depends on."""

    method: str
    fold: str
    seed: int
    labels: int | None
    hash: str


class Store:
    """The lines of a file. A line that a kill cut short is passed over, and the next one starts anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines, in the order in which they were written."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def done(self) -> set[Key]:
        """The runs that are there."""
        return {key_of(line) for line in self.lines()}

    def add(self, key: Key, ids: Iterable[int], result: Result, about: dict[str, Any]) -> None:
        """Append a run; it is on the disk when this returns.

        Args:
            ids: of the test queries, in the order of the rows' lists.
            about: what else is worth knowing: settings, sizes.
        """
        line = vars(key) | {"ids": list(ids), "minutes": result.minutes, "before": result.before}
        line |= {"rows": {name: row.to_json() for name, row in result.rows.items()}, "about": about}
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


def key_of(line: dict[str, Any]) -> Key:
    """Which run a line is of."""
    return Key(*(line[name] for name in ("method", "fold", "seed", "labels", "hash")))


def newest(lines: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The lines of each method's newest settings, the last one of each run, and how many others there are."""
    lines = list(lines)
    settings = {line["method"]: line["hash"] for line in lines}
    kept = {key_of(line): line for line in lines if line["hash"] == settings[line["method"]]}
    return list(kept.values()), len(lines) - len(kept)
