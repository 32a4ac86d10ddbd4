"""Reading an index: vectors, POI columns, and damaged files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.encoders.vector_shards import shard_path
from m3gal_cli.errors import InputError
from m3gal_cli.index.index import Index
from m3gal_cli.index.segment import residual_path
from tests.helpers.indexes import index_of, index_of_vectors, only_segment, poi_table, segment_of, segment_of_vectors
from tests.helpers.toy_models import ToyEncoder


def test_vectors_and_pois_of_rows_come_back(tmp_path: Path) -> None:
    pois, encoder = poi_table(50), ToyEncoder(5, 3)
    wanted = encoder.encode_poi_texts(pois["address"].tolist()) + encoder.encode_locations(pois["lng"], pois["lat"])
    index = index_of(tmp_path / "index", pois, encoder, 8)
    segment = only_segment(index)
    assert (len(index), index.row_count, index.dim, segment.shard_rows, index.nbytes) == (50, 50, 5, 8, 500)
    rows = np.array([49, 0, 7, 8, 7, 31])
    assert index.vectors(rows).tolist() == wanted[rows].tolist()
    assert index.vectors(rows[:0]).shape == (0, 5)
    for first, shard in segment.shards():
        assert shard.tolist() == wanted[first : first + 8].tolist()
    assert segment.max_norm == pytest.approx(float(np.linalg.norm(wanted, axis=1).max()))
    assert segment.max_residual_norm == 0
    assert index.pois_at(rows) == pois.iloc[rows].to_dict("records")
    assert index.addresses_at(rows) == pois["address"].iloc[rows].tolist()


def test_both_ways_to_add_the_float16_parts_round_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without torch, vectors of any size are the float32 numbers nearest to the sum of both parts."""
    generator = np.random.default_rng(1)
    scale = 10.0 ** generator.integers(-7, 4, (200, 6))
    vectors = (generator.standard_normal((200, 6)) * scale).astype(np.float32)
    index = segment_of_vectors(tmp_path / "index", vectors, 64)
    parts = zip(index._shards, index._residuals, strict=True)
    expected = np.concatenate([a.astype(np.float64) + b.astype(np.float64) for a, b in parts]).astype(np.float32)
    np.testing.assert_allclose(expected, vectors, rtol=2**-21, atol=6e-8)
    residuals = vectors - vectors.astype(np.float16)
    assert index.max_residual_norm == pytest.approx(float(np.linalg.norm(residuals, axis=1).max()), rel=1e-2)
    rows = generator.permutation(200)
    assert index.vectors(rows).tolist() == expected[rows].tolist()
    monkeypatch.delitem(sys.modules, "torch")
    assert index.vectors(rows).tolist() == expected[rows].tolist()


@pytest.mark.parametrize(
    "ids", [["a", "b", "3"], [1, "1", "x"], [{"a": 1}, [2], None], [2**70, 1, 2], [1.5, 2.25, 0.0]]
)
def test_ids_of_any_type_come_back(tmp_path: Path, ids: list[Any]) -> None:
    pois = pd.DataFrame({"poi_id": pd.Series(ids, dtype=object), "address": ["a", "b", "c"], "lng": 1.0, "lat": 2.0})
    index = index_of(tmp_path / "index", pois, ToyEncoder())
    found = [poi["poi_id"] for poi in index.pois_at(np.arange(3))]
    assert found == ids
    assert [type(value) for value in found] == [type(value) for value in ids]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def overwrite(path: Path, start: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(40) + content[start + 40 :])


def changed(**values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        record = json.loads((path / "segment.json").read_text())
        (path / "segment.json").write_text(json.dumps({k: v for k, v in (record | values).items() if v is not None}))

    return change


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "missing shard": lambda path: shard_path(path, 1).unlink(),
    "truncated shard": lambda path: truncate(shard_path(path, 2)),
    "missing residuals": lambda path: residual_path(path, 0).unlink(),
    "shard of another type": lambda path: np.save(shard_path(path, 1), np.zeros((8, 3), np.float32)),
    "residuals of other rows": lambda path: np.save(residual_path(path, 1), np.zeros((7, 3), np.float16)),
    "pickle": lambda path: np.save(shard_path(path, 1), np.array([{}], dtype=object)),
    "truncated POIs": lambda path: truncate(path / "pois.arrow"),
    "another number of rows": changed(rows=19),
    "no norm": changed(largest_norm=None),
    "no record": lambda path: (path / "segment.json").unlink(),
    "missing states": lambda path: (path / "states.1.npy").unlink(),
    "unreadable header of states": lambda path: overwrite(path / "states.1.npy", 40),
    "missing hashes": lambda path: (path / "id_hash.npy").unlink(),
    "truncated hashes": lambda path: truncate(path / "row_hash.npy"),
    "hashes of other rows": lambda path: np.save(path / "text_hash.npy", np.zeros(19, np.uint64)),
    "states of other rows": lambda path: np.save(path / "states.1.npy", np.zeros(19, np.uint8)),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_index_is_reported(tmp_path: Path, damage: str) -> None:
    path = segment_of(tmp_path / "index", poi_table(20), ToyEncoder(), 8).path
    DAMAGES[damage](path)
    with pytest.raises(InputError, match="damaged index") as caught:
        Index(tmp_path / "index")
    assert caught.value.where == str(path)
    assert "m3gal index build --pois FILE" in str(caught.value.hint)


MANIFESTS = {
    None: "no index",
    "{": "damaged index: manifest.json is not readable",
    "[1]": "damaged index: manifest.json is not readable",
    '{"format": 2, "segments": 1}': "damaged index: manifest.json is not readable",
    '{"format": 2, "segments": [{}], "dim": 4}': r"damaged index: manifest.json \(KeyError\('name'\)\)",
    '{"format": 2, "segments": [], "dim": "4"}': "damaged index: manifest.json",
    '{"format": 99}': "an index of another version of m3gal",
}


@pytest.mark.parametrize(("text", "message"), MANIFESTS.items())
def test_a_folder_without_a_valid_manifest_is_not_an_index(tmp_path: Path, text: str | None, message: str) -> None:
    path = index_of(tmp_path / "index", poi_table(20), ToyEncoder(), 8).path
    (path / "manifest.json").unlink() if text is None else (path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        Index(path)


def test_memory_does_not_grow_with_the_rows_read(tmp_path: Path) -> None:
    if not Path("/proc/self/smaps").exists():
        pytest.skip("the system does not report the memory of mapped files")
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
