"""An opened index: its vectors and places, and files that are not whole."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.index.index import Index, rest_path, shard_path
from tests.helpers.indexes import index_of, index_of_vectors, table_of
from tests.helpers.toy_models import ToyEncoder


def test_vectors_and_places(tmp_path: Path) -> None:
    pois, encoder = table_of(50), ToyEncoder(5, 3)
    wanted = encoder.poi_texts(pois["address"].tolist()) + encoder.locations(pois["lng"], pois["lat"])
    index = index_of(tmp_path / "index", pois, encoder, 8)
    assert (len(index), index.dim, index.shard_rows, index.nbytes) == (50, 5, 8, 500)
    rows = np.array([49, 0, 7, 8, 7, 31])
    assert index.vectors(rows).tolist() == wanted[rows].tolist()
    assert index.vectors(rows[:0]).shape == (0, 5)
    for first, shard in index.shards():
        assert shard.tolist() == wanted[first : first + 8].tolist()
    assert index.largest_norm == pytest.approx(float(np.linalg.norm(wanted, axis=1).max()))
    assert index.largest_rest == 0
    assert index.places(rows) == pois.iloc[rows].to_dict("records")
    assert index.poi(3) == pois.iloc[3].to_dict()


def test_vectors_are_those_of_float32(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).uniform(-1, 1, (40, 30)).astype(np.float32)
    index = index_of_vectors(tmp_path / "index", vectors, 16)
    np.testing.assert_allclose(index.vectors(np.arange(40)), vectors, rtol=0, atol=6e-8)
    rest = vectors - vectors.astype(np.float16)
    assert index.largest_rest == pytest.approx(float(np.linalg.norm(rest, axis=1).max()), rel=1e-2)


IDS: list[list[Any]] = [
    [4, 2, 9],
    ["a", "b", "3"],
    [1, "1", "x"],
    [{"a": 1}, [2], None],
    [2**70, 1, 2],
    [1.5, 2.25, 0.0],
]


@pytest.mark.parametrize("ids", IDS, ids=str)
def test_ids_of_any_kind_come_back(tmp_path: Path, ids: list[Any]) -> None:
    pois = pd.DataFrame({"poi_id": pd.Series(ids, dtype=object), "address": ["a", "b", "c"], "lng": 1.0, "lat": 2.0})
    index = index_of(tmp_path / "index", pois, ToyEncoder())
    found = [place["poi_id"] for place in index.places(np.arange(3))]
    assert found == ids
    assert [type(value) for value in found] == [type(value) for value in ids]


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def changed(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({k: v for k, v in (manifest | values).items() if v != "gone"}))

    return change


def of_another_type(path: Path) -> None:
    np.save(shard_path(path, 1), np.zeros((8, 3), np.float32))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a shard gone": lambda path: shard_path(path, 1).unlink(),
    "a shard cut": lambda path: cut(shard_path(path, 2)),
    "a shard emptied": lambda path: os.truncate(shard_path(path, 0), 0),
    "a rest gone": lambda path: rest_path(path, 0).unlink(),
    "a rest cut": lambda path: cut(rest_path(path, 2)),
    "a shard of another type": of_another_type,
    "a shard of another width": lambda path: np.save(shard_path(path, 1), np.zeros((8, 4), np.float16)),
    "a shard of other rows": lambda path: np.save(rest_path(path, 1), np.zeros((7, 3), np.float16)),
    "a pickle": lambda path: np.save(shard_path(path, 1), np.array([{}], dtype=object)),
    "pois gone": lambda path: (path / "pois.parquet").unlink(),
    "pois cut": lambda path: cut(path / "pois.parquet"),
    "another count": changed(rows=19),
    "another size": changed(shard_rows=5),
    "no size": changed(shard_rows=0),
    "no width": changed(dim="gone"),
    "no norm": changed(largest_norm="gone"),
    "words": changed(rows="many"),
}


@pytest.mark.parametrize("what", list(DAMAGES))
def test_a_damaged_index(tmp_path: Path, what: str) -> None:
    path = index_of(tmp_path / "index", table_of(20), ToyEncoder(), 8).path
    DAMAGES[what](path)
    with pytest.raises(InputError, match="a damaged index") as caught:
        Index(path)
    assert caught.value.where == str(path)
    assert caught.value.hint == "Delete the folder: it is made anew."


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"format": 99}', "{}"])
def test_what_is_no_index(tmp_path: Path, text: str | None) -> None:
    path = index_of(tmp_path / "index", table_of(20), ToyEncoder(), 8).path
    manifest = path / "manifest.json"
    manifest.unlink() if text is None else manifest.write_text(text)
    with pytest.raises(InputError, match="is no index"):
        Index(path)


def test_rows_read_here_and_there_are_let_go(tmp_path: Path) -> None:
    """What a process holds of the files does not grow with the rows that it has looked at."""
    if not Path("/proc/self/smaps").exists():
        pytest.skip("the system does not tell what is held of a file")
    vectors = np.random.default_rng(0).standard_normal((4096, 256)).astype(np.float32)
    index = index_of_vectors(tmp_path / "i", vectors, shard_rows=1024)
    rows = np.random.default_rng(1).permutation(4096)
    np.testing.assert_allclose(index.vectors(rows), vectors[rows], atol=1e-6)
    held, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split(" ")[0]:
            counts = str(tmp_path) in line
        elif counts and line.startswith("Rss:"):
            held += int(line.split()[1]) * 1024
    assert held < 0.1 * 2 * index.nbytes
