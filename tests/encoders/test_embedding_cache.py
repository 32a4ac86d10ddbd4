"""Vectors of texts on the disk: the same as in memory, gone on with after a kill, never those of another model."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.encoders import embedding_cache as module
from m3gal_cli.encoders.embedding_cache import EmbeddingCache
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import ToyEncoder

TEXTS = [f"poi {i}" for i in range(23)]


class Counting(ToyEncoder):
    """Knows what it was asked; is killed where it is told to be."""

    def __init__(self, killed_after: int = 99) -> None:
        super().__init__(reach=9)
        self.asked: list[str] = []
        self.left = killed_after

    def poi_texts(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        self.asked += texts
        if progress is not None:
            progress(len(texts), len(texts))
        return super().poi_texts(texts)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_ROWS", 5)


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, said: list[str]) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "own" / "texts", Fingerprint((), {"model": 1}), 0, said.append)


def other(store: EmbeddingCache, model: int) -> EmbeddingCache:
    return EmbeddingCache(store.folder, Fingerprint((), {"model": model}), 0, store.log)


def test_as_in_memory_and_encoded_once(store: EmbeddingCache, said: list[str]) -> None:
    told: list[tuple[int, int]] = []
    encoder = Counting()
    found = store.encode(TEXTS, encoder, lambda done, total: told.append((done, total)))
    assert encoder.asked == TEXTS
    assert told == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    in_memory = EmbeddingCache().encode(TEXTS, encoder)
    for numbers in ([0], [4, 5, 22], list(range(23)), [3, 3, 9]):
        assert (found.vectors(np.array(numbers)) == in_memory.vectors(np.array(numbers))).all()
        assert found.vectors(np.array(numbers)).dtype == np.float32
    again = Counting(0)
    assert (store.encode(TEXTS, again).vectors(np.arange(23)) == in_memory.vectors(np.arange(23))).all()
    assert said[-1] == f"texts: from {store.folder}"


def test_the_budget_decides(store: EmbeddingCache, tmp_path: Path) -> None:
    """23 texts of 3 numbers of 4 bytes."""
    for budget, on_disk in ((23 * 12, False), (23 * 12 - 1, True)):
        EmbeddingCache(store.folder, store.model, budget, store.log).encode(TEXTS, Counting())
        assert (tmp_path / "own").exists() == on_disk


def test_a_kill_costs_a_shard(store: EmbeddingCache, said: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.encode(TEXTS, Counting(2))
    assert store.folder is not None
    (store.folder / "vectors" / ".000002.npy.x.tmp").write_bytes(b"half")
    encoder = Counting()
    found = store.encode(TEXTS, encoder)
    assert encoder.asked == TEXTS[10:]
    assert said[0] == f"{store.folder}: goes on after 10 of 23 texts"
    assert (found.vectors(np.arange(23)) == ToyEncoder(reach=9).poi_texts(TEXTS)).all()
    assert sorted(os.listdir(store.folder / "vectors")) == [f"{i:06d}.npy" for i in range(5)]


def test_of_another_model_or_table_they_are_named_and_made_anew(store: EmbeddingCache, said: list[str]) -> None:
    store.encode(TEXTS, Counting())
    swapped = [TEXTS[1], TEXTS[0], *TEXTS[2:]]
    cases = [
        (other(store, 2), TEXTS, "model"),
        (other(store, 2), swapped, "table"),
        (store, TEXTS, "model and another table"),
    ]
    for own, texts, word in cases:
        encoder = Counting()
        found = own.encode(texts, encoder)
        assert encoder.asked == texts
        assert f"vectors of another {word}; they are made anew" in "".join(said[-2:])
        assert (found.vectors(np.arange(23)) == ToyEncoder(reach=9).poi_texts(texts)).all()
    assert store.folder is not None
    record = json.loads((store.folder / "texts.json").read_text())
    (store.folder / "texts.json").write_text(json.dumps(record | {"shard_rows": 6}))
    store.encode(TEXTS, Counting())
    assert "vectors of another version of m3gal" in said[-2]


def test_a_folder_of_something_else_is_left_alone(store: EmbeddingCache) -> None:
    assert store.folder is not None
    store.folder.mkdir(parents=True)
    (store.folder / "letters.txt").write_text("mine")
    with pytest.raises(InputError, match="something else than vectors of texts"):
        store.encode(TEXTS, Counting())
    assert os.listdir(store.folder) == ["letters.txt"]


def test_a_damaged_shard_is_named(store: EmbeddingCache) -> None:
    store.encode(TEXTS, Counting())
    assert store.folder is not None
    path = store.folder / "vectors" / "000001.npy"
    for content in (b"", path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged shard"):
            store.encode(TEXTS, Counting())
    np.save(path, np.zeros((4, 3), np.float32))
    with pytest.raises(InputError, match="damaged shard"):
        store.encode(TEXTS, Counting())


def test_what_texts_are_is_told_from_where_they_end() -> None:
    assert module.texts_sha256(["ab", "c"]) != module.texts_sha256(["a", "bc"])
    assert module.texts_sha256(TEXTS) == module.texts_sha256(tuple(TEXTS))
