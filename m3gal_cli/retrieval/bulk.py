"""Encoding a POI table into an index: shards as they come, by one process or by many.

A shard is on the disk whole or not at all, so that a kill costs the shards in work alone; the next start goes on. Of N
processes each takes every N-th shard; they meet in the folder alone, so that machines which share a file system share
the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from m3gal_cli.core.durable import discard
from m3gal_cli.data.files import atomic_path, atomic_text, make_folder
from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.embed import Embedder, Progress
from m3gal_cli.retrieval.identity import Identity
from m3gal_cli.retrieval.index import (
    BUILDING,
    COLUMNS,
    FORMAT,
    MANIFEST,
    POIS,
    SHARDS,
    Index,
    Shard,
    read_json,
    shard_count,
    shard_path,
)

SHARD_ROWS = 8192
POLL_S = 0.2
Say = Callable[[str], None]


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

    model: Identity
    table: Identity
    read: Callable[[], pd.DataFrame]
    embedder: Callable[[], Embedder]


def open_or_build(path: Path, sources: Sources, say: Say, progress: Progress, share: Share = Share()) -> Index | None:
    """The index in ``path``, made, finished or made anew where it must be.

    Args:
        say: is told, in words, why an index that is there is not taken, and what is gone on with.
        progress: rows done and rows in all, of this process's shards.

    Returns:
        The index; None in the processes besides the first, whose work is done.

    Raises:
        InputError: unreadable table, a folder of something else, a full disk.
    """
    if share.rank == 0 and (why := stale(path, sources)):
        say(f"{path}: {why}; it is made anew")
        discard(path)
    if read_json(path / MANIFEST) is None or share.rank:
        _build(path, sources, say, progress, share)
    return Index(path) if share.rank == 0 else None


def stale(path: Path, sources: Sources) -> str | None:
    """Why what lies in ``path`` cannot be used or gone on with; None where it can, or where nothing lies there."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
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


def _build(path: Path, sources: Sources, say: Say, progress: Progress, share: Share) -> None:
    pois = distinct(sources.read())
    embedder = sources.embedder()
    record = {"format": FORMAT, "model": sources.model.record(), "table": sources.table.record()}
    record |= {"rows": len(pois), "dim": embedder.dim, "shard_rows": SHARD_ROWS}
    if share.rank == 0:
        _prepare(path, record, pois, say)
    else:
        _await(lambda: _same(path, record))
    missing = [i for i in range(share.rank, shard_count(len(pois), SHARD_ROWS), share.world) if not _there(path, i)]
    encode_shards(path, pois, embedder, missing, progress)
    if share.rank == 0:
        everyone = range(shard_count(len(pois), SHARD_ROWS))
        _await(lambda: all(_there(path, i) for i in everyone))
        norms = [_largest_norm(np.load(shard_path(path, i), mmap_mode="r")) for i in everyone]
        with atomic_text(path / MANIFEST) as file:
            json.dump(record | {"largest_norm": max(norms)}, file, indent=1, ensure_ascii=False)
        (path / BUILDING).unlink(missing_ok=True)


def distinct(pois: pd.DataFrame) -> pd.DataFrame:
    """Rows equal in text and coordinates are one place: the first keeps its poi_id."""
    return pois[list(COLUMNS)].drop_duplicates(["address", "lng", "lat"]).reset_index(drop=True)


def _prepare(path: Path, record: dict[str, Any], pois: pd.DataFrame, say: Say) -> None:
    make_folder(path / SHARDS)
    if _same(path, record):
        done = sum(_there(path, i) for i in range(shard_count(len(pois), SHARD_ROWS)))
        say(f"{path}: goes on after {min(done * SHARD_ROWS, len(pois)):,} of {len(pois):,} POIs")
        return
    with atomic_path(path / POIS) as temporary:
        pq.write_table(pa.Table.from_pandas(pois, preserve_index=False), temporary)
    with atomic_text(path / BUILDING) as file:
        json.dump(record, file, indent=1, ensure_ascii=False)


def encode_shards(path: Path, pois: pd.DataFrame, embedder: Embedder, numbers: list[int], progress: Progress) -> None:
    """Encode these shards and write each as it is done."""
    texts, lng, lat = pois["address"].tolist(), pois["lng"].to_numpy(np.float64), pois["lat"].to_numpy(np.float64)
    total, done = sum(min(SHARD_ROWS, len(pois) - i * SHARD_ROWS) for i in numbers), 0
    for number in numbers:
        rows = slice(number * SHARD_ROWS, (number + 1) * SHARD_ROWS)
        address = texts[rows]

        def tell(encoded: int, of: int, before: int = done, own: int = len(address)) -> None:
            progress(before + own * encoded // of, total)

        vectors = embedder.poi_texts(address, tell) + embedder.locations(lng[rows], lat[rows])
        with atomic_path(shard_path(path, number)) as temporary, temporary.open("wb") as file:
            np.save(file, vectors.astype(np.float16))
        done += len(address)


def _largest_norm(shard: Shard) -> float:
    return float(np.sqrt(np.square(shard, dtype=np.float32).sum(axis=1, dtype=np.float64).max()))


def _there(path: Path, number: int) -> bool:
    return shard_path(path, number).exists()


def _same(path: Path, record: dict[str, Any]) -> bool:
    """Whether the index being made in ``path`` is this one."""
    found = read_json(path / BUILDING) or read_json(path / MANIFEST)
    if not isinstance(found, dict):
        return False
    plain = ("format", "rows", "dim", "shard_rows")
    identical = all(found.get(n, {}).get("sha256") == record[n]["sha256"] for n in ("model", "table"))
    return identical and all(found.get(n) == record[n] for n in plain)


def _await(ready: Callable[[], bool]) -> None:
    while not ready():
        time.sleep(POLL_S)
