"""ONNX exports: vectors and token ids of the torch encoder; damaged or foreign exports are replaced.

Without the extra ``onnx`` (a part of ``dev``) these tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from transformers import XLMRobertaConfig

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.encoders import onnx_export
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_export import open_or_export, require_onnx
from m3gal_cli.encoders.onnx_runtime import OnnxQueryEncoder, usable_cores
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, toy_checkpoint

for library in ("onnxruntime", "onnx"):
    pytest.importorskip(library, reason="the extra onnx is not installed: pip install 'm3gal[onnx]'")

pytestmark = pytest.mark.integration

MANY = [*(f"{text} {i}" for i in range(8) for text in TEXTS), "x", "harbour " * 100, *TEXTS]


def xlm_roberta() -> Checkpoint:
    """Return a random XLM-R, which counts positions from the padding id. Its vocabulary becomes an int8 table."""
    tokenizer = toy_checkpoint().tokenizer
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    sizes |= {"vocab_size": 1100, "max_position_embeddings": 40, "type_vocab_size": 1}
    config = XLMRobertaConfig(pad_token_id=tokenizer.pad_token_id, **sizes)
    torch.manual_seed(1)
    return Checkpoint(M3gal(build_text_model(config), ModelSettings(query_prefix="query: ")).eval(), tokenizer)


MODELS: dict[str, Callable[[], Checkpoint]] = {
    "mean": lambda: toy_checkpoint(32, query_prefix="query: "),
    "cls without [SEP]": lambda: toy_checkpoint(32, pooling="cls", append_sep=False, max_length=9),
    "pooler": lambda: toy_checkpoint(32, pooling="pooler", passage_prefix="not for queries "),
    "XLM-R": xlm_roberta,
}


class ExportFolder:
    """A folder of exports; the fingerprint of the model is that of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        (path / "model").write_text("one")

    def open(self, load: Callable[[], Checkpoint], int8: bool = False) -> OnnxQueryEncoder:
        self.messages.clear()
        model = Fingerprint((self.path / "model",))
        return open_or_export(load, model, self.path / "exports", int8, self.messages.append)


@pytest.fixture
def folder(tmp_path: Path) -> ExportFolder:
    return ExportFolder(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float32 export, to be copied."""
    folder = ExportFolder(tmp_path_factory.mktemp("exported"))
    folder.open(MODELS["mean"])
    return folder.path


@pytest.fixture
def filled(exported: Path, tmp_path: Path) -> ExportFolder:
    shutil.copytree(exported, tmp_path / "own")
    return ExportFolder(tmp_path / "own")


def never_load() -> Checkpoint:
    raise AssertionError("the model was loaded")


@pytest.mark.parametrize("kind", list(MODELS))
def test_float32_vectors_equal_those_of_torch(folder: ExportFolder, kind: str) -> None:
    checkpoint = MODELS[kind]()
    wanted = TorchEncoder(checkpoint).encode_queries(MANY)
    encoder = folder.open(lambda: checkpoint)
    vectors = encoder.encode_queries(MANY)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([encoder.encode_queries([t]) for t in MANY]), wanted, atol=1e-5)
    assert folder.messages == [f"{folder.path}/exports/onnx-float32: exporting the query encoder (once)"]
    assert (folder.open(never_load).encode_queries(MANY) == vectors).all()
    assert folder.messages == []


@pytest.mark.parametrize("kind", ["mean", "XLM-R"])
def test_int8_vectors_point_in_the_same_direction(folder: ExportFolder, kind: str) -> None:
    checkpoint = MODELS[kind]()
    wanted = TorchEncoder(checkpoint).encode_queries(MANY)
    encoder = folder.open(lambda: checkpoint, int8=True)
    vectors = encoder.encode_queries(MANY)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * wanted).sum(axis=1).min() >= 0.98
    alone = np.concatenate([encoder.encode_queries([t]) for t in MANY])
    np.testing.assert_allclose(alone, vectors, atol=1e-3)  # a value between two steps may be rounded either way


def test_no_texts_give_no_vectors_and_progress_counts_distinct_texts(filled: ExportFolder) -> None:
    encoder = filled.open(never_load)
    assert encoder.encode_queries([]).shape == (0, 32)
    progress: list[tuple[int, int]] = []
    encoder.encode_queries([*TEXTS, *TEXTS], lambda done, total: progress.append((done, total)))
    assert progress == [(5, 5)]


def test_the_export_of_another_model_is_replaced(filled: ExportFolder) -> None:
    (filled.path / "model").write_text("another")
    checkpoint = toy_checkpoint(32, seed=7)
    encoder = filled.open(lambda: checkpoint)
    assert "onnx-float32: the export is of another model; exporting again" in filled.messages[0]
    np.testing.assert_allclose(encoder.encode_queries(MANY), TorchEncoder(checkpoint).encode_queries(MANY), atol=1e-5)


def test_a_moved_export_is_used_and_holds_no_path(filled: ExportFolder, exported: Path, tmp_path: Path) -> None:
    contents = [path.read_bytes() for path in (filled.path / "exports").rglob("*.*")]
    assert not any(str(place).encode() in content for content in contents for place in (exported, Path.cwd()))
    filled.path.rename(tmp_path / "moved")
    ExportFolder(tmp_path / "moved").open(never_load)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("query_encoder.onnx", flip_a_bit, "query_encoder.onnx is damaged"),
        ("query_encoder.onnx", Path.unlink, "query_encoder.onnx cannot be read"),
        ("tokenizer.json", flip_a_bit, "tokenizer.json is damaged"),
        ("manifest.json", lambda path: path.write_text("{"), "manifest.json is damaged"),
        ("manifest.json", lambda path: path.write_text('{"format": 0}'), "another version"),
    ],
)
def test_a_damaged_export_is_replaced(
    filled: ExportFolder, name: str, damage: Callable[[Path], Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled.path / "exports" / "onnx-float32"
    undamaged = shutil.copytree(path, filled.path / "undamaged")
    damage(path / name)
    monkeypatch.setattr(onnx_export, "export", lambda *args: shutil.copytree(undamaged, args[2]))
    filled.open(toy_checkpoint)
    assert words in filled.messages[0]
    assert filled.messages[0].endswith("; exporting again")
    filled.open(never_load)


ZEROS = Mock(return_value=np.zeros((len(onnx_export.SAMPLES), 32), np.float32))
FULL_DISK = Mock(side_effect=OSError(28, "No space left on device"))


@pytest.mark.parametrize(
    ("name", "replacement", "int8", "words"),
    [
        ("publish_folder", FULL_DISK, False, r"cannot write there \(No space left on device\)"),
        ("OnnxQueryEncoder.encode_queries", ZEROS, False, "gives other vectors"),
        ("OnnxQueryEncoder.encode_queries", ZEROS, True, "int8 changes the vectors"),
    ],
)
def test_a_failed_export_leaves_nothing(
    folder: ExportFolder, monkeypatch: pytest.MonkeyPatch, name: str, replacement: Mock, int8: bool, words: str
) -> None:
    monkeypatch.setattr(f"m3gal_cli.encoders.onnx_export.{name}", replacement)
    with pytest.raises(InputError, match=words):
        folder.open(MODELS["mean"], int8)
    assert list((folder.path / "exports").iterdir()) == []


def test_a_tokenizer_written_in_python_is_refused(folder: ExportFolder) -> None:
    checkpoint = toy_checkpoint()
    checkpoint.tokenizer = SimpleNamespace(backend_tokenizer=None)
    with pytest.raises(InputError, match="not of the tokenizers library"):
        folder.open(lambda: checkpoint)


def test_a_missing_extra_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"onnx is not installed\npip install 'm3gal\[onnx\]'"):
        require_onnx(find=lambda name: None)


def test_the_number_of_threads_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_cores() == 3
    for value in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert usable_cores() >= 1
