"""Encoding a POI table into an index: shards as they come, by one process or by many.

A shard is on the disk whole or not at all, so that a kill costs the shards in work alone; the next start goes on. Of N
processes each takes every N-th shard; they meet in the folder alone, so that machines which share a file system share
the work.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.encoders.encoder import Progress, TorchEncoder
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, remove_folder
from m3gal_cli.index.index import (
    BUILDING,
    COLUMNS,
    FORMAT,
    MANIFEST,
    POIS,
    SHARDS,
    Index,
    Shard,
    read_json,
    rest_path,
    shard_count,
    shard_path,
    write_pois,
)

if TYPE_CHECKING:
    import pandas as pd

SHARD_ROWS = 8192
POLL_S = 0.2
WORTH_TELLING_S = 10.0
Log = Callable[[str], None]


@dataclass(frozen=True)
class Share:
    """Which of how many processes this one is."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Sources:
    """What an index is made of.

    Args:
        model, table: identities; an index of others is not taken.
        read: gives the POI table (poi_id, address, lng, lat; degrees, WGS-84). Only called where there is work.
        embedder: gives the model. Only called where there is work.
    """

    model: Fingerprint
    table: Fingerprint
    read: Callable[[], pd.DataFrame]
    encoder: Callable[[], TorchEncoder]


def open_or_build(path: Path, sources: Sources, log: Log, progress: Progress, share: Share = Share()) -> Index | None:
    """The index in ``path``, made, finished or made anew where it must be.

    Args:
        say: is told, in words, why an index that is there is not taken, and what is gone on with.
        progress: rows done and rows in all, of this process's shards.

    Returns:
        The index; None in the processes besides the first, whose work is done.

    Raises:
        InputError: unreadable table, a folder of something else, a damaged index, a full disk.
    """
    if share.rank == 0 and (why := stale(path, sources)):
        log(f"index {path}: {why}; it is made anew")
        remove_folder(path)
    if share.rank or read_json(path / MANIFEST) is None:
        _build(path, sources, log, progress, share)
    elif (path / BUILDING).exists():
        _tidy(path)
    return Index(path) if share.rank == 0 else None


def stale(path: Path, sources: Sources) -> str | None:
    """Why what lies in ``path`` cannot be used or gone on with; None where it can, or where nothing lies there.

    Raises:
        InputError: something else than an index lies there.
    """
    if not path.exists() or (path.is_dir() and all(left.name.startswith(".") for left in path.iterdir())):
        return None
    record = read_json(path / MANIFEST) or read_json(path / BUILDING)
    if not isinstance(record, dict) or "format" not in record or "table" not in record:
        hint = "Choose another folder with --index-dir."
        raise InputError("holds something else than an index", where=path, hint=hint)
    if record["format"] != FORMAT:
        return "an index of another version of m3gal"
    changed = [name for name in ("model", "table") if not getattr(sources, name).is_that_of(record.get(name))]
    if changed:
        return f"an index of another {' and another '.join(changed)}"
    return None


def _build(path: Path, sources: Sources, log: Log, progress: Progress, share: Share) -> None:
    began = time.monotonic()
    pois = distinct(sources.read())
    encoder = sources.encoder()
    record = {"format": FORMAT, "model": sources.model.record(), "table": sources.table.record()}
    record |= {"rows": len(pois), "dim": encoder.dim, "shard_rows": SHARD_ROWS}
    if share.rank == 0:
        _prepare(path, record, pois, log)
    else:
        _await(lambda: _same(path, record))
    everyone = range(shard_count(len(pois), SHARD_ROWS))
    missing = [i for i in everyone[share.rank :: share.world] if not _there(path, i)]
    encode_shards(path, pois, encoder, missing, progress)
    if share.rank:
        return
    if not all(_there(path, i) for i in everyone):
        log(f"index {path}: waits for the shards of the other processes")
        _await(lambda: all(_there(path, i) for i in everyone))
    record["largest_norm"] = max(_largest_norm(shard_path(path, i)) for i in everyone)
    record["largest_rest"] = max(_largest_norm(rest_path(path, i)) for i in everyone)
    with _unless_there(path / MANIFEST), atomic_text(path / MANIFEST) as file:
        json.dump(record, file, indent=1, ensure_ascii=False)
    _tidy(path)
    if (seconds := time.monotonic() - began) >= WORTH_TELLING_S:
        log(f"index {path}: {len(pois):,} POIs in {seconds:,.0f} s")


def _tidy(path: Path) -> None:
    """Remove from a whole index what its making needed, and what processes that were killed left."""
    with suppress(OSError):  # it is no reason to fail
        for left in (path / BUILDING, *path.rglob(".*.tmp")):
            left.unlink(missing_ok=True)


def distinct(pois: pd.DataFrame) -> pd.DataFrame:
    """Rows equal in text and coordinates are one place: the first keeps its poi_id."""
    return pois[list(COLUMNS)].drop_duplicates(["address", "lng", "lat"]).reset_index(drop=True)


def _prepare(path: Path, record: dict[str, Any], pois: pd.DataFrame, log: Log) -> None:
    make_folder(path)
    if _same(path, record):
        done = sum(_there(path, i) for i in range(shard_count(len(pois), SHARD_ROWS)))
        log(f"index {path}: goes on after {min(done * SHARD_ROWS, len(pois)):,} of {len(pois):,} POIs")
    else:
        if (path / SHARDS).exists():  # of other measures
            remove_folder(path / SHARDS)
        # First, so that a folder that a kill leaves is known for an index.
        with atomic_text(path / BUILDING) as file:
            json.dump(record, file, indent=1, ensure_ascii=False)
    with _unless_there(path / POIS), atomic_path(path / POIS) as temporary:
        write_pois(pois, temporary)


def encode_shards(
    path: Path, pois: pd.DataFrame, encoder: TorchEncoder, numbers: list[int], progress: Progress
) -> None:
    """Encode these shards and write each as it is done. Raises InputError for a model that gives no finite vectors."""
    texts: list[str] = pois["address"].tolist()
    places = pois["lng"].to_numpy(np.float64), pois["lat"].to_numpy(np.float64)
    total, done = sum(min(SHARD_ROWS, len(pois) - i * SHARD_ROWS) for i in numbers), 0
    for number in numbers:
        rows = slice(number * SHARD_ROWS, (number + 1) * SHARD_ROWS)
        address, (lng, lat) = texts[rows], (column[rows] for column in places)

        def tell(encoded: int, of: int, before: int = done, own: int = len(address)) -> None:
            progress(before + own * encoded // of, total)

        vectors = encoder.poi_texts(address, tell) + encoder.locations(lng, lat)
        with np.errstate(over="ignore"):
            rounded = vectors.astype(np.float16)
        wrong = ~np.isfinite(rounded).all(axis=1)
        if wrong.any():
            what = f"the model gives no finite vector for {address[int(np.argmax(wrong))]!r}"
            raise InputError(what, where=path, hint="Take another checkpoint of the run.")
        _write(rest_path(path, number), (vectors - rounded).astype(np.float16))
        _write(shard_path(path, number), rounded)  # last: where it is, its rest is
        done += len(address)


def _write(path: Path, vectors: Shard) -> None:
    content = io.BytesIO()
    np.save(content, vectors)
    with _unless_there(path), atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


@contextmanager
def _unless_there(path: Path) -> Iterator[None]:
    """Forgive a failure where the file is there nevertheless: somebody builds the very index at the same time."""
    try:
        yield
    except InputError:
        if not path.exists():
            raise


def _largest_norm(path: Path) -> float:
    shard = np.load(path, mmap_mode="r")
    return float(np.sqrt(np.square(shard, dtype=np.float32).sum(axis=1, dtype=np.float64).max()))


def _there(path: Path, number: int) -> bool:
    return shard_path(path, number).exists()


def _same(path: Path, record: dict[str, Any]) -> bool:
    """Whether the index being made in ``path`` is this one."""
    found = read_json(path / BUILDING) or read_json(path / MANIFEST)
    return isinstance(found, dict) and _content(found) == _content(record)


def _content(record: dict[str, Any]) -> str:
    """What an index is made of and its measures, whenever and wherever the files were written."""
    plain: dict[str, Any] = {name: record.get(name) for name in ("format", "rows", "dim", "shard_rows")}
    for name in ("model", "table"):
        own = record.get(name)
        plain[name] = {key: own.get(key) for key in ("sha256", "also")} if isinstance(own, dict) else None
    return json.dumps(plain, sort_keys=True)


def _await(ready: Callable[[], bool]) -> None:
    while not ready():
        time.sleep(POLL_S)
