"""What an index was made of, so that one of another model or another table is never taken for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HASHED_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Fingerprint:
    """The content of some files, and whatever else decides what is made of them.

    Sizes and times of change are compared first: only where these differ are the files read and hashed.
    """

    files: tuple[Path, ...]
    also: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What a manifest keeps; JSON types alone."""
        return {"sha256": self.sha256(), "files": self._stats(), "also": self._plain()}

    def is_that_of(self, record: Any) -> bool:
        """Whether a manifest's record is of the same content."""
        if not isinstance(record, dict) or record.get("also") != self._plain():
            return False
        return record.get("files") == self._stats() or record.get("sha256") == self.sha256()

    def sha256(self) -> str:
        """Of the contents, file after file in the order given. Raises OSError."""
        total = hashlib.sha256()
        for path in self.files:
            own = hashlib.sha256()
            with path.open("rb") as file:
                while part := file.read(HASHED_AT_ONCE):
                    own.update(part)
            total.update(own.digest())
        return total.hexdigest()

    def _plain(self) -> Any:
        """As it comes back from a manifest."""
        return json.loads(json.dumps(self.also))

    def _stats(self) -> list[list[Any]]:
        found = ((path.resolve(), path.stat()) for path in self.files)
        return [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in found]
