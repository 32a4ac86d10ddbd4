"""The embedding cache: the vectors of memory, resumed after a kill, and never those of another model or table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.encoders.embedding_cache import EmbeddingCache, hash_texts
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import ToyEncoder

TEXTS = [f"poi {i}" for i in range(23)]
ALL = np.arange(23)


class RecordingEncoder(ToyEncoder):
    """Records the texts that it encodes, and stops after a number of texts like a killed process."""

    def __init__(self, texts_before_kill: int = 99) -> None:
        super().__init__(reach=9)
        self.encoded: list[str] = []
        self.texts_before_kill = texts_before_kill

    def encode_poi_texts(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        if len(self.encoded) >= self.texts_before_kill:
            raise KeyboardInterrupt
        self.encoded += texts
        if progress is not None:
            progress(len(texts), len(texts))
        return super().encode_poi_texts(texts)


def wanted(texts: Sequence[str] = TEXTS) -> np.ndarray:
    return ToyEncoder(reach=9).encode_poi_texts(texts)


@pytest.fixture
def messages() -> list[str]:
    return []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own" / "texts"


@pytest.fixture
def cache(folder: Path, messages: list[str]) -> EmbeddingCache:
    return EmbeddingCache(folder, Fingerprint((), {"model": 1}), 0, messages.append, shard_rows=5)


def test_vectors_on_disk_equal_those_in_memory_and_are_encoded_once(cache: EmbeddingCache) -> None:
    progress: list[tuple[int, int]] = []
    encoder = RecordingEncoder()
    on_disk = cache.encode(TEXTS, encoder, lambda done, total: progress.append((done, total)))
    assert encoder.encoded == TEXTS
    assert progress == [(5, 23), (10, 23), (15, 23), (20, 23), (23, 23)]
    in_memory = EmbeddingCache().encode(TEXTS, encoder)
    for numbers in ([4, 5, 22], list(range(23)), [3, 3, 9]):
        vectors = on_disk.vectors(np.array(numbers))
        assert vectors.dtype == np.float32
        assert (vectors == in_memory.vectors(np.array(numbers))).all()
        assert (vectors == wanted()[numbers]).all()
    reused = cache.encode(TEXTS, RecordingEncoder(texts_before_kill=0))
    assert (reused.vectors(ALL) == wanted()).all()


@pytest.mark.parametrize(("budget", "on_disk"), [(23 * 3 * 4, False), (23 * 3 * 4 - 1, True)])
def test_vectors_larger_than_the_budget_are_stored_on_disk(
    cache: EmbeddingCache, folder: Path, budget: int, on_disk: bool
) -> None:
    replace(cache, budget=budget).encode(TEXTS, RecordingEncoder())
    assert folder.exists() == on_disk


def test_a_killed_run_is_resumed_at_the_first_missing_shard(
    cache: EmbeddingCache, folder: Path, messages: list[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        cache.encode(TEXTS, RecordingEncoder(texts_before_kill=10))
    (folder / "vectors" / ".000002.npy.x.tmp").write_bytes(b"half")
    encoder = RecordingEncoder()
    assert (cache.encode(TEXTS, encoder).vectors(ALL) == wanted()).all()
    assert encoder.encoded == TEXTS[10:]
    assert messages[0] == f"{folder}: resuming after 10 of 23 texts"
    assert sorted(os.listdir(folder / "vectors")) == [f"{i:06d}.npy" for i in range(5)]


SWAPPED = [TEXTS[1], TEXTS[0], *TEXTS[2:]]


@pytest.mark.parametrize(
    ("model", "texts", "words"),
    [(2, TEXTS, "another model"), (1, SWAPPED, "another table"), (2, SWAPPED, "another model and another table")],
)
def test_vectors_of_another_model_or_table_are_encoded_again(
    cache: EmbeddingCache, messages: list[str], model: int, texts: list[str], words: str
) -> None:
    cache.encode(TEXTS, RecordingEncoder())
    encoder = RecordingEncoder()
    other = replace(cache, model=Fingerprint((), {"model": model}))
    assert (other.encode(texts, encoder).vectors(ALL) == wanted(texts)).all()
    assert encoder.encoded == texts
    assert f"{cache.folder}: vectors of {words}; encoding the texts again" in messages


def test_vectors_of_another_version_are_encoded_again(cache: EmbeddingCache, messages: list[str]) -> None:
    cache.encode(TEXTS, RecordingEncoder())
    replace(cache, shard_rows=6).encode(TEXTS, RecordingEncoder())
    assert "vectors of another version of m3gal" in messages[-2]


def test_a_folder_with_other_files_is_left_alone(cache: EmbeddingCache, folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files than vectors of texts"):
        cache.encode(TEXTS, RecordingEncoder())
    assert os.listdir(folder) == ["letters.txt"]


@pytest.mark.parametrize("damage", ["empty", "truncated", "other shape"])
def test_a_damaged_shard_is_refused(cache: EmbeddingCache, folder: Path, damage: str) -> None:
    cache.encode(TEXTS, RecordingEncoder())
    path = folder / "vectors" / "000001.npy"
    if damage == "other shape":
        np.save(path, np.zeros((4, 3), np.float32))
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"000001.npy: the shard is damaged"):
        cache.encode(TEXTS, RecordingEncoder())


def test_the_hash_depends_on_the_bounds_of_texts() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])
