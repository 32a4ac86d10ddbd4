"""The exported query encoder against the torch one; its folder holds the right model's, whole, or it is made anew.

Needs the extra ``onnx`` (a part of ``dev``); without it these tests are skipped, and pytest's summary says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.encoders import onnx_export, onnx_runtime
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_int8 import by_column, by_row, quantise
from m3gal_cli.encoders.onnx_runtime import OnnxQueryEncoder, open_onnx
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, toy_checkpoint

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed: pip install 'm3gal[onnx]'")
onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed: pip install 'm3gal[onnx]'")

MANY = [*(f"{text} {i}" for i in range(8) for text in TEXTS), "x", "harbour " * 100, *TEXTS]


def xlm_roberta(**settings: Any) -> Checkpoint:
    """A random model of the kind that numbers positions by the padding, with the toy's tokenizer."""
    from transformers import XLMRobertaConfig

    toy = toy_checkpoint()
    config = XLMRobertaConfig(
        vocab_size=len(toy.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        type_vocab_size=1,
        pad_token_id=toy.tokenizer.pad_token_id,
    )
    torch.manual_seed(1)
    return Checkpoint(M3gal(build_text_model(config), ModelSettings(**settings)).eval(), toy.tokenizer)


MODELS: dict[str, Callable[[], Checkpoint]] = {
    "mean": lambda: toy_checkpoint(32, query_prefix="query: "),
    "cls without [SEP]": lambda: toy_checkpoint(32, pooling="cls", append_sep=False, max_length=9),
    "pooler": lambda: toy_checkpoint(32, pooling="pooler", passage_prefix="no query's "),
    "XLM-R": lambda: xlm_roberta(query_prefix="query: "),
}


class Folder:
    """Opens exports in a folder and keeps what was said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        (path / "model").write_text("one")

    @property
    def model(self) -> Fingerprint:
        return Fingerprint((self.path / "model",))

    def open(self, checkpoint: Callable[[], Checkpoint], int8: bool = False) -> OnnxQueryEncoder:
        self.said.clear()
        return open_onnx(checkpoint, self.model, self.path / "made", int8, self.said.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float32 export in it, to be copied."""
    folder = Folder(tmp_path_factory.mktemp("exported"))
    folder.open(MODELS["mean"])
    return folder.path


@pytest.fixture
def filled(exported: Path, tmp_path: Path) -> Folder:
    shutil.copytree(exported, tmp_path / "own")
    return Folder(tmp_path / "own")


def refused() -> Checkpoint:
    raise AssertionError("the model was loaded")


@pytest.mark.parametrize("kind", list(MODELS))
def test_vectors_are_those_of_torch(folder: Folder, kind: str) -> None:
    checkpoint = MODELS[kind]()
    wanted = TorchEncoder(checkpoint).queries(MANY)
    made = folder.open(lambda: checkpoint)
    found = made.queries(MANY)
    assert found.dtype == np.float32
    assert (made.dim, made.device) == (wanted.shape[1], "cpu")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([made.queries([t]) for t in MANY]), wanted, atol=1e-5)
    assert folder.said == [f"{folder.path}/made/onnx-float32: exporting the query encoder, once"]
    assert sorted(p.name for p in (folder.path / "made").iterdir()) == ["onnx-float32"]
    again = folder.open(refused)
    assert folder.said == []
    assert (again.queries(MANY) == found).all()


@pytest.mark.parametrize("kind", ["mean", "XLM-R"])
def test_int8_points_the_same_way(folder: Folder, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3gal_cli.encoders.onnx_int8.TABLE_ROWS", 50)  # the toy's vocabulary is small
    checkpoint = MODELS[kind]()
    wanted = TorchEncoder(checkpoint).queries(MANY)
    made = folder.open(lambda: checkpoint, int8=True)
    found = made.queries(MANY)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert (found * wanted).sum(axis=1).min() >= 0.98
    alone = np.concatenate([made.queries([t]) for t in MANY])
    np.testing.assert_allclose(alone, found, atol=1e-3)  # a number at the edge between two steps may fall either way
    best = (made.queries(TEXTS) @ TorchEncoder(checkpoint).queries(TEXTS).T).argmax(axis=1)
    assert best.tolist() == list(range(len(TEXTS)))


def test_nothing_in_nothing_out(filled: Folder) -> None:
    assert filled.open(refused).queries([]).shape == (0, 32)


def test_progress_counts_distinct_texts(filled: Folder) -> None:
    told: list[tuple[int, int]] = []
    filled.open(refused).queries([*TEXTS, *TEXTS], lambda done, total: told.append((done, total)))
    assert told == [(5, 5)]


def test_another_models_export_is_not_taken(filled: Folder) -> None:
    filled.open(refused)
    (filled.path / "model").write_text("another")
    checkpoint = toy_checkpoint(32, seed=7)
    made = filled.open(lambda: checkpoint)
    assert "onnx-float32: an encoder of another model; it is made anew" in filled.said[0]
    np.testing.assert_allclose(made.queries(MANY), TorchEncoder(checkpoint).queries(MANY), atol=1e-5)
    (filled.path / "model").touch()
    filled.open(refused)


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("query_encoder.onnx", flip, "query_encoder.onnx is damaged"),
        ("query_encoder.onnx", Path.unlink, "query_encoder.onnx cannot be read"),
        ("tokenizer.json", flip, "tokenizer.json is damaged"),
        ("manifest.json", lambda path: path.write_text("{"), "manifest.json is damaged"),
        ("manifest.json", lambda path: path.write_text('{"format": 0}'), "another version"),
        ("manifest.json", lambda path: path.write_text('{"format": 1, "files": {}}'), "manifest.json is damaged"),
    ],
)
def test_damage_is_named_and_made_good(
    exported: Path,
    filled: Folder,
    name: str,
    damage: Callable[[Path], Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = filled.path / "made" / "onnx-float32"
    damage(path / name)
    good = exported / "made" / path.name
    monkeypatch.setattr(onnx_runtime, "export", lambda *given: shutil.copytree(good, given[2]))
    filled.open(toy_checkpoint)
    assert words in filled.said[0]
    assert filled.said[0].endswith("; it is made anew")
    assert filled.said[1:] == [f"{path}: exporting the query encoder, once"]
    filled.open(refused)
    assert filled.said == []


def test_a_copied_export_is_as_good(filled: Folder, tmp_path: Path) -> None:
    """Other paths and times, the same content."""
    shutil.copytree(filled.path, tmp_path / "far")
    Folder(tmp_path / "far").open(refused)


def test_a_failed_export_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx_export, "place", full_disk)
    with pytest.raises(InputError, match=r"cannot write there \(No space left on device\)"):
        folder.open(MODELS["mean"])
    assert list((folder.path / "made").iterdir()) == []


def test_an_export_that_gives_other_vectors_is_refused(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxQueryEncoder, "queries", lambda self, texts: np.zeros((len(texts), 32), np.float32))
    for int8, words in ((False, "gives other vectors"), (True, "int8 does not suit")):
        with pytest.raises(InputError, match=words):
            folder.open(MODELS["mean"], int8)
    assert list((folder.path / "made").iterdir()) == []


def test_a_tokenizer_written_in_python_is_refused(folder: Folder) -> None:
    checkpoint = toy_checkpoint()

    class Slow:
        backend_tokenizer = None

    checkpoint.tokenizer = Slow()
    with pytest.raises(InputError, match="not of the tokenizers library"):
        folder.open(lambda: checkpoint)
    assert list((folder.path / "made").iterdir()) == []


def test_without_the_extra(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"not installed\npip install 'm3gal\[onnx\]'"):
        folder.open(refused)


PROGRAM = """
import json, sys
from pathlib import Path
from m3gal_cli.encoders.onnx_runtime import OnnxQueries
vectors = OnnxQueries(Path(sys.argv[1])).queries(["harbour street 3"])
heavy = sorted({"torch", "transformers", "onnx"} & set(sys.modules))
print(json.dumps({"vector": vectors[0].tolist(), "heavy": heavy}))
"""


def test_an_export_is_run_without_torch(filled: Folder) -> None:
    path = filled.path / "made" / "onnx-float32"
    answer = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
    found = json.loads(answer.stdout)
    assert found["heavy"] == []
    wanted = TorchEncoder(MODELS["mean"]()).queries(["harbour street 3"])[0]
    np.testing.assert_allclose(found["vector"], wanted, atol=1e-5)


def test_int8_product_against_arithmetic() -> None:
    """One product and one look-up: the error of every number is within the steps of its row and column."""
    draw = np.random.default_rng(0)
    table, weight = draw.normal(size=(2000, 24)).astype(np.float32), draw.normal(size=(24, 10)).astype(np.float32)
    table[7] = 0
    helper, array = onnx.helper, onnx.numpy_helper
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x"]), helper.make_node("MatMul", ["x", "weight"], ["y"])]
    ends = [
        helper.make_tensor_value_info(n, t, [None, k] if k else [None]) for n, t, k in (("ids", 7, 0), ("y", 1, 10))
    ]
    constants = [array.from_array(table, "table"), array.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    import onnxruntime

    made = quantise(model)
    assert {t.data_type for t in made.graph.initializer if len(t.dims) == 2 and t.dims[1] > 1} == {
        onnx.TensorProto.INT8
    }
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.array([3, 7, 1999, 3, 5], np.int64)
    found = session.run(None, {"ids": ids})[0]
    x = table[ids]
    step = np.abs(x).max(axis=1, keepdims=True) / 127
    # Half a step by the table and half by the activations, times the weights; half a step of the weights, times both.
    bound = step @ np.abs(weight).sum(axis=0, keepdims=True)
    bound += (np.abs(x) + step).sum(axis=1, keepdims=True) * by_column(weight)[1] / 2
    assert (np.abs(found - x @ weight) <= bound + 1e-5).all()
    assert (found[1] == 0).all()
    assert (found[0] == found[3]).all()
    for i in range(len(ids)):
        assert (session.run(None, {"ids": ids[i : i + 1]})[0][0] == found[i]).all()


def test_rows_of_a_table() -> None:
    values, scale = by_row(np.array([[127, -1, 2], [0, 0, 0], [-0.5, 0.25, 0]], np.float32))
    assert values.tolist() == [[127, -1, 2], [0, 0, 0], [-127, 64, 0]]
    np.testing.assert_allclose(scale[[0, 2]], [[1], [0.5 / 127]], rtol=1e-6)


def test_columns_of_weights_never_overflow_16_bits() -> None:
    weight = np.array([[64, 100, 0, -3], [63, -127, 0, -3], [8, 2, 0, 1]], np.float32)
    values, scale = by_column(weight)
    assert values.tolist() == [[64, 100, 0, -64], [63, -127, 0, -64], [8, 2, 0, 21]]
    np.testing.assert_allclose(scale[[0, 1, 3]], [1, 1, 6 / 127], rtol=1e-6)
    drawn = np.random.default_rng(0).standard_t(3, (385, 400)).astype(np.float32)
    values, scale = by_column(drawn)
    assert (np.abs(values * scale - drawn) <= scale * 0.5001).all()
    even = np.pad(values.astype(int), ((0, 1), (0, 0)))
    pairs = [np.maximum(sign * even, 0) for sign in (1, -1)]
    most = np.max([(part[::2] + part[1::2]).max(axis=0) for part in pairs], axis=0)
    assert 255 * most.max() <= 32767
    assert most.min() >= 126, "nothing is given away"


def test_neighbours_as_large_as_they_may_be() -> None:
    """16 bits are full: a weight is half a step off, a CPU that cuts would lose half of the sum."""
    import onnxruntime

    helper, array = onnx.helper, onnx.numpy_helper
    weight = np.full((64, 16), 1, np.float32)
    weight[:, ::2] = -1
    ends = [helper.make_tensor_value_info(name, 1, [None, k]) for name, k in (("x", 64), ("y", 16))]
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [array.from_array(weight, "weight")])
    model = quantise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array([[1.0] * 64, [-1.0] * 64, [0.5, 1.0] * 32], np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weight, atol=64 * 0.5 / 63 + 0.2)
