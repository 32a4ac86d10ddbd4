"""Cache of the vectors of a table's distinct texts: in memory if they are small, else on disk.

FOLDER/
  texts.json          fingerprint of texts and model, and the dimensions; written first
  vectors/000000.npy  (shard_rows, D) float32 per shard, the last one shorter; memory-mapped

A shard is written atomically. After a kill, the next run encodes only the missing shards.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Encoder, Progress, Vectors
from m3gal_cli.encoders.vector_shards import SHARDS, open_mapped, release_pages, shard_path, write_shard
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, make_folder, read_json, remove_folder

FORMAT = 1
RECORD, KIND = "texts.json", "vectors of texts"
SHARD_ROWS = 8192
MEMORY_BUDGET = 1 << 30  # bytes
Log = Callable[[str], None]


@dataclass(frozen=True)
class TextVectors:
    """Vectors by the number of their text, in shards of ``shard_rows`` rows, in memory or memory-mapped."""

    shards: list[Vectors]
    shard_rows: int
    dim: int

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        """Return the vectors of these texts. Shape: (n,) -> (n, D)."""
        if len(self.shards) == 1:
            return self.shards[0][numbers]
        out = np.empty((len(numbers), self.dim), np.float32)
        owner = numbers // self.shard_rows
        for number in np.unique(owner):
            own = owner == number
            out[own] = self.shards[number][numbers[own] - number * self.shard_rows]
            release_pages(self.shards[number])
        return out


@dataclass(frozen=True)
class EmbeddingCache:
    """Encode texts and keep their vectors.

    Args:
        folder: Folder on disk; None: always keep the vectors in memory.
        model: Fingerprint of the model. Vectors of another model in ``folder`` are encoded again.
        budget: Maximum size in bytes of vectors in memory; larger ones are stored in ``folder``. 0: always on disk.
        log: Called with a message if cached vectors are resumed, reused or discarded.
        shard_rows: Rows per file.
    """

    folder: Path | None = None
    model: Fingerprint = field(default_factory=lambda: Fingerprint(()))
    budget: int = MEMORY_BUDGET
    log: Log = print
    shard_rows: int = SHARD_ROWS

    def encode(self, texts: Sequence[str], encoder: Encoder, progress: Progress | None = None) -> TextVectors:
        """Return the vectors of distinct POI texts; ``progress`` counts those that are not cached.

        Raises:
            InputError: The folder holds other files, is damaged or not writable, or the disk is full.
        """
        if self.folder is None or 4 * len(texts) * encoder.dim <= self.budget:
            return TextVectors([encoder.encode_poi_texts(list(texts), progress)], len(texts), encoder.dim)
        return self._encode_to_disk(self.folder, texts, encoder, progress)

    def _encode_to_disk(
        self, folder: Path, texts: Sequence[str], encoder: Encoder, progress: Progress | None
    ) -> TextVectors:
        began = time.monotonic()
        self._prepare(folder, texts, encoder.dim)
        starts = range(0, len(texts), self.shard_rows)
        missing = [start for start in starts if not shard_path(folder, start // self.shard_rows).exists()]
        total = sum(len(texts[start : start + self.shard_rows]) for start in missing)
        if 0 < total < len(texts):
            self.log(f"{folder}: resuming after {len(texts) - total:,} of {len(texts):,} texts")
        done = 0
        for start in missing:
            part = list(texts[start : start + self.shard_rows])

            def shard_progress(encoded: int, _rows: int, before: int = done) -> None:
                if progress is not None:
                    progress(before + encoded, total)

            write_shard(shard_path(folder, start // self.shard_rows), encoder.encode_poi_texts(part, shard_progress))
            done += len(part)
        for leftover in (folder / SHARDS).glob(".*.tmp"):  # of killed processes
            leftover.unlink(missing_ok=True)
        spent = f"{total:,} encoded into {folder}, {time.monotonic() - began:,.0f} s" if missing else f"from {folder}"
        self.log(f"texts: {spent}")
        sizes = (min(self.shard_rows, len(texts) - start) for start in starts)
        shards = [_open_shard(shard_path(folder, i), (size, encoder.dim)) for i, size in enumerate(sizes)]
        return TextVectors(shards, self.shard_rows, encoder.dim)

    def _prepare(self, folder: Path, texts: Sequence[str], dim: int) -> None:
        """Remove vectors of other texts or another model from ``folder``, and write the record of these."""
        own: dict[str, Any] = {"kind": KIND, "format": FORMAT, "texts": hash_texts(texts), "rows": len(texts)}
        own |= {"dim": dim, "shard_rows": self.shard_rows}
        if reason := self._mismatch(folder, own):
            self.log(f"{folder}: {reason}; encoding the texts again")
            remove_folder(folder)
        if not (folder / RECORD).exists():
            make_folder(folder)
            with atomic_text(folder / RECORD) as file:  # before the shards, so that a killed run can be resumed
                json.dump(own | {"model": self.model.record()}, file, indent=1, ensure_ascii=False)

    def _mismatch(self, folder: Path, own: dict[str, Any]) -> str | None:
        """Return the reason why the vectors in ``folder`` cannot be used, or None if they can or there are none."""
        if not folder.exists() or (folder.is_dir() and all(file.name.startswith(".") for file in folder.iterdir())):
            return None
        record = read_json(folder / RECORD)
        if not isinstance(record, dict) or record.get("kind") != KIND:
            hint = "Choose another folder with --text-dir."
            raise InputError("the folder holds other files than vectors of texts", where=folder, hint=hint)
        changed = ["model"] if not self.model.matches(record.get("model")) else []
        changed += ["table"] if any(record.get(name) != own[name] for name in ("texts", "rows")) else []
        if changed:
            return f"vectors of another {' and another '.join(changed)}"
        return None if own.items() <= record.items() else "vectors of another version of m3gal"


def _open_shard(path: Path, shape: tuple[int, int]) -> Vectors:
    """Open a shard. Raises InputError if it is damaged or of another shape."""
    try:
        shard = open_mapped(path)
        if shard.shape != shape or shard.dtype != np.float32:
            raise ValueError(f"shape {shard.shape} {shard.dtype}, expected {shape} float32")
    except (OSError, ValueError, EOFError) as error:
        hint = "Delete it; the next run encodes it again."
        raise InputError(f"the shard is damaged ({error})", where=path, hint=hint) from error
    return shard


def hash_texts(texts: Sequence[str]) -> str:
    """Return the SHA-256 of the lengths and the bytes of texts, in their order."""
    total = hashlib.sha256()
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()
