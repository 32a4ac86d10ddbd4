"""Fingerprints: an index records those of its model and table, and is never used with another model or table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from m3gal_cli.files import file_sha256


@dataclass(frozen=True)
class Fingerprint:
    """Content of files, in a fixed order, and settings of JSON types, on which a result depends.

    Files are read at most once: a fingerprint is that of its first use.
    """

    files: tuple[Path, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the hash, the states of the files and the settings as JSON types, for a manifest.

        The record holds no path, so that a folder can be moved, or opened by another user.
        """
        # The states are read before the content: after a change between both, the file differs from its record.
        return {"files": self._file_states, "sha256": self.sha256, "also": self._json_settings()}

    def matches(self, record: Any) -> bool:
        """Return whether a record is of the same content; read files only if path, size or modification time differ."""
        if not isinstance(record, dict) or record.get("also") != self._json_settings():
            return False
        return record.get("files") == self._file_states or record.get("sha256") == self.sha256

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the files' SHA-256 digests, in their order. Raises OSError."""
        return hashlib.sha256(b"".join(bytes.fromhex(file_sha256(path)) for path in self.files)).hexdigest()

    def _json_settings(self) -> Any:
        """Return the settings after a round trip through JSON, where tuples become lists."""
        return json.loads(json.dumps(self.settings))

    @cached_property
    def _file_states(self) -> list[list[Any]]:
        """Path digest, size in bytes and modification time in ns of each file.

        Two checkpoints of one architecture have equal sizes and, from an archive, may have equal times.
        """
        states = []
        for path in self.files:
            digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
            states.append([digest, path.stat().st_size, path.stat().st_mtime_ns])
        return states


@dataclass(frozen=True)
class RecordedFingerprint(Fingerprint):
    """The fingerprint of a record. It matches records of the same content without reading the files."""

    files: tuple[Path, ...] = ()
    recorded: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the record."""
        return self.recorded

    def matches(self, record: Any) -> bool:
        """Return whether a record has the same hash and settings."""
        return isinstance(record, dict) and all(record.get(key) == self.recorded.get(key) for key in ("sha256", "also"))
