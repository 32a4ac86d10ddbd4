"""Vectors of the distinct texts of a table: in memory while they are few, else in shards on the disk.

    FOLDER/
      texts.json          what the vectors were made of and their measures; written first
      vectors/000000.npy  (SHARD_ROWS, D) float32 each, the last one shorter; mapped, not read

A shard is on the disk whole or not at all, so that a kill costs the shard in work alone; the next start goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Progress, TorchEncoder, Vectors
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, remove_folder
from m3gal_cli.index.index import SHARDS, let_go, read_json, shard_count, shard_path

FORMAT = 1
RECORD, KIND = "texts.json", "vectors of texts"
SHARD_ROWS = 8192
BUDGET = 1 << 30  # bytes
HINT = "Choose another folder with --text-dir."
Log = Callable[[str], None]


class TextVectors(Protocol):
    """Vectors by the number of their text."""

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        """Shape: (n,) rising -> (n, D)."""
        ...


@dataclass(frozen=True)
class EmbeddingCache:
    """Where vectors of texts are kept.

    Args:
        folder: on the disk; None: in memory, however many they are.
        model: what they are made by; belongs to ``folder``.
        budget: bytes that they may take in memory; beyond, or with 0, they go to ``folder``.
        say: is told, in words, why what lies in ``folder`` is not taken, and what is gone on with.
    """

    folder: Path | None = None
    model: Fingerprint = field(default_factory=lambda: Fingerprint(()))
    budget: int = BUDGET
    log: Log = print

    def encode(self, texts: Sequence[str], encoder: TorchEncoder, progress: Progress | None = None) -> TextVectors:
        """Vectors of distinct texts, each encoded once.

        Args:
            progress: texts done and texts in all, of those that are to be encoded.

        Raises:
            InputError: a folder of something else, a damaged or full one.
        """
        if self.folder is None or 4 * len(texts) * encoder.dim <= self.budget:
            return _InMemory(encoder.poi_texts(list(texts), progress))
        return _fill(self.folder, self, texts, encoder, progress)


@dataclass(frozen=True)
class _InMemory:
    all: Vectors

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        return self.all[numbers]


class _OnDisk:
    def __init__(self, folder: Path, rows: int, dim: int) -> None:
        self._dim = dim
        self._shards: list[Vectors] = []
        for number in range(shard_count(rows, SHARD_ROWS)):
            path = shard_path(folder, number)
            try:
                shard = np.load(path, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise InputError(
                    f"a damaged shard ({error})", where=path, hint="Delete it: it is made anew."
                ) from error
            if shard.shape != (min(SHARD_ROWS, rows - number * SHARD_ROWS), dim) or shard.dtype != np.float32:
                raise InputError("a damaged shard: not of its size", where=path, hint="Delete it: it is made anew.")
            self._shards.append(shard)

    def vectors(self, numbers: NDArray[np.int64]) -> Vectors:
        out = np.empty((len(numbers), self._dim), np.float32)
        owner = numbers // SHARD_ROWS
        for number in np.unique(owner):
            own = owner == number
            out[own] = self._shards[number][numbers[own] - number * SHARD_ROWS]
            let_go(self._shards[number])
        return out


def _fill(
    folder: Path, store: EmbeddingCache, texts: Sequence[str], encoder: TorchEncoder, progress: Progress | None
) -> TextVectors:
    """Encode the shards that are not there."""
    began = time.monotonic()
    own = {"kind": KIND, "format": FORMAT, "texts": texts_sha256(texts), "rows": len(texts)}
    own |= {"dim": encoder.dim, "shard_rows": SHARD_ROWS}
    if why := _stale(folder, own, store.model):
        store.log(f"{folder}: {why}; they are made anew")
        remove_folder(folder)
    count = shard_count(len(texts), SHARD_ROWS)
    missing = [i for i in range(count) if not shard_path(folder, i).exists()]
    if (folder / RECORD).exists():
        done = len(texts) - sum(_length(i, len(texts)) for i in missing)
        store.log(f"{folder}: goes on after {done:,} of {len(texts):,} texts" if missing else f"texts: from {folder}")
    else:
        make_folder(folder)
        with atomic_text(folder / RECORD) as file:  # first, so that what a kill leaves is known for what it is
            json.dump(own | {"model": store.model.record()}, file, indent=1, ensure_ascii=False)
    total, done = sum(_length(i, len(texts)) for i in missing), 0
    for number in missing:

        def tell(some: int, of: int, before: int = done, rows: int = _length(number, len(texts))) -> None:
            if progress is not None:
                progress(before + rows * some // of, total)

        part = texts[number * SHARD_ROWS : (number + 1) * SHARD_ROWS]
        write_shard(shard_path(folder, number), encoder.poi_texts(list(part), tell))
        done += len(part)
    for left in (folder / SHARDS).glob(".*.tmp"):  # of programs that were killed
        left.unlink(missing_ok=True)
    if missing:
        store.log(f"texts: {total:,} encoded into {folder}, {time.monotonic() - began:,.0f} s")
    return _OnDisk(folder, len(texts), encoder.dim)


def _length(number: int, rows: int) -> int:
    return min(SHARD_ROWS, rows - number * SHARD_ROWS)


def _stale(folder: Path, own: dict[str, Any], model: Fingerprint) -> str | None:
    """Why what lies there cannot be used or gone on with; None where it can, or where nothing lies there."""
    if not folder.exists() or (folder.is_dir() and all(left.name.startswith(".") for left in folder.iterdir())):
        return None
    found = read_json(folder / RECORD)
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise InputError("holds something else than vectors of texts", where=folder, hint=HINT)
    changed = ["model"] if not model.is_that_of(found.get("model")) else []
    changed += ["table"] if any(found.get(name) != own[name] for name in ("texts", "rows")) else []
    if changed:
        return f"vectors of another {' and another '.join(changed)}"
    return None if own.items() <= found.items() else "vectors of another version of m3gal"


def texts_sha256(texts: Sequence[str]) -> str:
    """Of texts in their order."""
    total = hashlib.sha256()
    for start in range(0, len(texts), SHARD_ROWS):
        for text in list(texts[start : start + SHARD_ROWS]):
            content = text.encode("utf-8", "surrogatepass")
            total.update(len(content).to_bytes(8, "little"))
            total.update(content)
    return total.hexdigest()


def write_shard(path: Path, rows: NDArray[Any]) -> None:
    """An array in a file that is there whole or not at all. Raises InputError (disk full, …)."""
    content = io.BytesIO()  # np.save into a full disk raises what tells nothing
    np.save(content, rows)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
