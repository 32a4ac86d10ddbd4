"""The packaged model in int8, against the same weights in torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint
from m3gal_cli.core.quantised_weights import BLOCK, compress
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.encoders.onnx_int8 import quantise_columns
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder, graph_weights
from m3gal_cli.encoders.text_batches import equal_length_batches
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from tests.helpers.cli import ENVIRONMENT, ROOT

TEXTS = [
    "hotel kämp",
    "Hesburger, fast food, Kasarmikatu 19, Kaartinkaupunki, Helsinki",
    "莫干山路东村43幢",
    "12",
    "аптека на углу",
    "pharmacy by the north gate " * 12,
]
LARGEST_WHEEL = 30_000_000  # bytes


@pytest.fixture(scope="module")
def encoder() -> PackagedEncoder:
    return PackagedEncoder(PACKAGED_MODEL)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return load_checkpoint(PACKAGED_MODEL)


def test_the_vectors_are_those_of_torch_within_the_rounding_to_int8(
    encoder: PackagedEncoder, checkpoint: Checkpoint
) -> None:
    reference = TorchEncoder(checkpoint)
    for own, other in (
        (encoder.encode_queries(TEXTS), reference.encode_queries(TEXTS)),
        (encoder.encode_poi_texts(TEXTS), reference.encode_poi_texts(TEXTS)),
    ):
        assert own.dtype == np.float32
        assert np.linalg.norm(own, axis=1) == pytest.approx(1.0, abs=1e-5)
        cosines = (own * other).sum(axis=1)
        assert cosines.min() >= 0.98
        assert cosines.mean() >= 0.99
    assert encoder.dim == reference.dim


def test_the_tokens_are_those_of_transformers(encoder: PackagedEncoder, checkpoint: Checkpoint) -> None:
    own, other = (e.tokenize(TEXTS, "query: ") for e in (encoder, TorchEncoder(checkpoint)))
    assert np.array_equal(own.flat, other.flat)
    assert own.lengths.max() == 64


def test_both_text_encoders_and_both_location_encoders_of_the_checkpoint_are_equal(checkpoint: Checkpoint) -> None:
    model, state = checkpoint.model, checkpoint.model.state_dict()
    assert model.settings.location_weight == 0.0
    for name, value in state.items():
        for one, other in (("encoder_q.", "encoder_k."), ("gc_encoder.", "gc_encoder_shadow.")):
            if name.startswith(one) and ".pooler." not in name:
                assert value.equal(state[other + name.removeprefix(one)])


def test_the_vector_of_a_text_does_not_depend_on_the_other_texts(encoder: PackagedEncoder) -> None:
    texts = [f"{number} north street" for number in range(40)] + TEXTS
    together = encoder.encode_poi_texts(texts)
    alone = np.concatenate([encoder.encode_poi_texts([text]) for text in texts])
    assert np.abs(together - alone).max() < 1e-6


def test_locations_are_zeros(encoder: PackagedEncoder) -> None:
    assert encoder.encode_locations([24.9, 25.0], [60.1, 60.2]).tolist() == np.zeros((2, encoder.dim)).tolist()


def test_the_graph_gets_the_matrices_in_int8_and_joins_query_key_and_value() -> None:
    rng, layer = np.random.default_rng(1), "encoder.layer.0"
    names = [f"{layer}.attention.self.{part}" for part in ("query", "key", "value")] + [f"{layer}.output.dense"]
    weights = {f"{name}.weight": rng.normal(size=(4, 2 * BLOCK)).astype(np.float32) for name in names}
    biases = {f"{name}.bias": rng.normal(size=4).astype(np.float16) for name in names}
    made = graph_weights(compress(weights | biases, weights, 3))
    assert set(made) == {
        f"{stem}.{kind}"
        for stem in (f"{layer}.attention.self.qkv", f"{layer}.output.dense")
        for kind in ("int8", "scale", "bias")
    }
    joined = np.concatenate([weights[f"{name}.weight"] for name in names[:3]])
    found = made[f"{layer}.attention.self.qkv.int8"] * made[f"{layer}.attention.self.qkv.scale"]
    assert np.abs(found.T - joined).max() < 0.2 * np.abs(joined).max(), "4 bits, then 8 bits"
    assert made[f"{layer}.attention.self.qkv.bias"].tolist() == [
        v for name in names[:3] for v in biases[f"{name}.bias"]
    ]
    values, scale = quantise_columns(joined.T)
    assert made[f"{layer}.attention.self.qkv.int8"].shape == values.shape
    assert made[f"{layer}.attention.self.qkv.scale"].shape == scale.shape


def test_batches_of_equal_length_have_each_row_once() -> None:
    lengths = np.random.default_rng(3).integers(1, 9, 200)
    batches = list(equal_length_batches(lengths, 32))
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(len(set(lengths[rows].tolist())) == 1 for rows in batches)
    assert all(lengths[rows].sum() <= 32 for rows in batches)
    assert [rows.tolist() for rows in equal_length_batches(np.array([50, 50]), 32)] == [[0], [1]]
    assert list(equal_length_batches(np.array([], np.int64), 32)) == []


@pytest.mark.parametrize("name", ["text_encoder/model.safetensors", "text_encoder/encoder.onnx", "m3gal.json"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, name: str, damage: Callable[[Path], Any]) -> None:
    copy = tmp_path / "model"
    shutil.copytree(PACKAGED_MODEL, copy)
    damage(copy / name)
    words = "m3gal.json is missing or damaged" if name == "m3gal.json" else name
    for opened in (PackagedEncoder, load_checkpoint):
        if (opened, name) != (load_checkpoint, "m3gal.json"):
            with pytest.raises(InputError, match=words):
                opened(copy)


def test_the_record_names_every_file_of_the_encoders() -> None:
    recorded = set(json.loads((PACKAGED_MODEL / "m3gal.json").read_text(encoding="utf-8"))["files"])
    present = {p.relative_to(PACKAGED_MODEL).as_posix() for p in PACKAGED_MODEL.rglob("*") if p.is_file()}
    assert recorded == {name for name in present if "/" in name}


def test_the_encoder_opens_without_torch() -> None:
    code = (
        "import sys; from m3gal_cli.encoders.packaged_encoder import PackagedEncoder as P; "
        "from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL as M; "
        "print(P(M).encode_queries(['a']).shape, sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert out.stdout == "(1, 384) []\n"


def test_the_package_with_the_model_is_small(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((ROOT / "m3gal_cli").rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path)
    assert (tmp_path / "wheel").stat().st_size < LARGEST_WHEEL
