"""What is trained can leave: others open the parts of a checkpoint and get the vectors that we get."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.core.sentence_transformers_export import standalone_tokenizer
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.encoders.encoder import TorchEncoder
from tests.helpers.toy_models import TEXTS, toy_checkpoint

LONG = "harbour street 莫干山路东村 north gate mall " * 5
ROWS = [*TEXTS, LONG, "x", "Äpfel, 3!"]
NORMALIZER = Normalizer(120.2, 0.13, 30.3, 0.1)
# Settings that together have every pooling, prefix, ending and cut.
CASES: list[dict[str, Any]] = [
    {"pooling": "mean", "query_prefix": "query: ", "passage_prefix": "passage: "},
    {"pooling": "mean", "append_sep": False, "max_length": 7, "passage_prefix": "门 "},
    {"pooling": "cls", "append_sep": False, "query_prefix": "问：", "location_encoder": "fourier"},
    {"pooling": "cls", "max_length": 6},
    {"pooling": "pooler", "append_sep": False, "location_encoder": "fourier"},
    {"pooling": "pooler", "max_length": 4, "query_prefix": "q "},
]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(str(v).strip() for v in case.values()))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Checkpoint]:
    """A checkpoint on disk and in memory."""
    checkpoint = toy_checkpoint(**{"normalizer": NORMALIZER} | request.param)
    checkpoint.stage, checkpoint.step, checkpoint.metrics = "finetune", 12, {"text.recall@1": 0.25, "fused.mrr@5": 0.5}
    checkpoint.tokenizer(["a"], truncation=True, max_length=3, padding="max_length")  # leaves its mark in a tokenizer
    save_checkpoint(tmp_path / "step", checkpoint)
    return tmp_path / "step", checkpoint


def both(checkpoint: Checkpoint, texts: list[str]) -> dict[str, np.ndarray]:
    encoder = TorchEncoder(checkpoint)
    return {"query_encoder": encoder.queries(texts), "poi_encoder": encoder.poi_texts(texts)}


def test_sentence_transformers_opens_both_encoders(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    settings = checkpoint.model.settings
    for name, own in both(checkpoint, ROWS).items():
        other = SentenceTransformer(str(path / name), device="cpu")
        assert other.max_seq_length == settings.max_length
        assert abs(other.encode(ROWS) - own).max() < 1e-6
        prefixed = settings.query_prefix if name == "query_encoder" else settings.passage_prefix
        side = other.encode_query if name == "query_encoder" else other.encode_document
        assert abs(side(ROWS) - own).max() < 1e-6
        assert abs(other.encode([prefixed + text for text in ROWS], prompt="") - own).max() < 1e-6


def code(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (path / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_cards_code_gives_our_vectors(saved: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands, run in the checkpoint's folder: sentence-transformers, transformers, numpy."""
    path, checkpoint = saved
    monkeypatch.chdir(path)
    sentence, plain, place = ({} for _ in range(3))
    for block, names in zip(code(path), (sentence, plain, place), strict=True):
        exec(block, names)
    query, poi = ["north gate of the harbour mall"], ["Harbour Mall, north gate"]
    for names in (sentence, plain):
        assert np.abs(np.asarray(names["query"]) - both(checkpoint, query)["query_encoder"]).max() < 1e-6
        assert np.abs(np.asarray(names["place"]) - both(checkpoint, poi)["poi_encoder"]).max() < 1e-6
    settings = checkpoint.model.settings
    for name, prefix in (("query_encoder", settings.query_prefix), ("poi_encoder", settings.passage_prefix)):
        found = plain["text_vectors"](name, prefix, ROWS)
        assert np.abs(found.numpy() - both(checkpoint, ROWS)[name]).max() < 1e-6
    draw = np.random.default_rng(3)
    lng, lat = 120.2 + 0.2 * draw.standard_normal(300), 30.3 + 0.2 * draw.standard_normal(300)
    found, own = place["place_vectors"]("location_encoder", lng, lat), TorchEncoder(checkpoint).locations(lng, lat)
    # Places tens of kilometres out: of their phases, float32 keeps five digits.
    assert abs(found - own).max() < (1e-4 if settings.location_encoder == "fourier" else 2e-6)


def by_formula(path: Path, lng: float, lat: float) -> np.ndarray:
    """One place by the formula in the card's words, in loops, in double precision."""
    c = json.loads((path / "config.json").read_text())
    weights = {name: value.double().numpy() for name, value in load_file(path / "model.safetensors").items()}
    n = c["normalizer"]
    z = [(lng - n["lng_mean"]) / n["lng_std"], (lat - n["lat_mean"]) / n["lat_std"]]
    h = list(z)
    if c["kind"] == "fourier":
        east = z[0] * n["lng_std"] * c["metres_per_degree"] * np.cos(np.radians(n["lat_mean"]))
        north = z[1] * n["lat_std"] * c["metres_per_degree"]
        phases = [
            2 * np.pi * (east * np.cos(np.radians(a)) + north * np.sin(np.radians(a))) / w
            for a in c["directions_deg"]
            for w in c["wavelengths_m"]
        ]
        h = [*np.sin(phases), *np.cos(phases), *z]
    for name in c["layers"]:
        h = weights[f"{name}.weight"] @ np.array(h) + weights[f"{name}.bias"]
        if name != c["layers"][-1]:
            h = np.maximum(h, 0) if c["activation"] == "relu" else torch.nn.functional.gelu(torch.tensor(h)).numpy()
    return h / np.sqrt((h**2).sum())


@pytest.mark.parametrize("kind", ["mlp", "fourier"])
def test_the_location_encoder_by_its_formula(tmp_path: Path, kind: str) -> None:
    checkpoint = toy_checkpoint(location_encoder=kind, normalizer=NORMALIZER, fourier_min_m=150.0)
    save_checkpoint(tmp_path / "step", checkpoint)
    places = [(120.2, 30.3), (120.21, 30.29), (120.15, 30.34), (120.199, 30.3)]
    for lng, lat in places:
        (own,) = TorchEncoder(checkpoint).locations([lng], [lat])
        assert abs(by_formula(tmp_path / "step" / "location_encoder", lng, lat) - own).max() < 1e-5
    online = load_file(tmp_path / "step" / "location_encoder" / "online.safetensors")
    for name, value in checkpoint.model.gc_encoder.state_dict().items():
        assert torch.equal(online[name], value)


def test_the_card_says_what_it_is(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    card = (path / "README.md").read_text(encoding="utf-8")
    assert "Stage: finetune. Step: 12." in card
    assert "| text | 0.25 |  |" in card
    assert "| fused |  | 0.5 |" in card
    (settings,) = re.findall(r"^```json\n(.*?)^```", card, flags=re.M | re.S)
    assert json.loads(settings) == checkpoint.model.settings.to_json()
    assert ("without [SEP]" in card) is not checkpoint.model.settings.append_sep


def test_our_own_tokens_come_back_from_a_tokenizer_without_sep(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """Saved, read and saved again, it is the same; what others get from it is what we get."""
    path, checkpoint = saved
    settings = checkpoint.model.settings
    again = load_checkpoint(path)
    save_checkpoint(tmp_path / "again", again)
    own = TextTokenizer(checkpoint.tokenizer, settings, 512)(ROWS)
    for folder in (path, tmp_path / "again"):
        tokenizer = AutoTokenizer.from_pretrained(folder / "query_encoder")
        assert tokenizer.model_max_length == settings.max_length
        found = tokenizer(ROWS, truncation=True)["input_ids"]
        assert found == [row.tolist() for row in own]
        ours = TextTokenizer(tokenizer, settings, 512)(ROWS)
        assert [row.tolist() for row in ours] == found
    for name in ("query_encoder/tokenizer.json", "poi_encoder/config.json", "location_encoder/model.safetensors"):
        assert (path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_bert_own_tokenizer_class_can_leave_sep_out(tmp_path: Path) -> None:
    """BertTokenizer puts its own template back when it is read; what we write is no BertTokenizer."""
    made = toy_checkpoint().tokenizer
    words = sorted(made.get_vocab(), key=made.get_vocab().get)
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    bert = transformers.BertTokenizer.from_pretrained(tmp_path)
    own = TextTokenizer(bert, ModelSettings(append_sep=False, max_length=8), 512)(ROWS)
    standalone_tokenizer(bert, False, 8).save_pretrained(tmp_path / "bare")
    found = AutoTokenizer.from_pretrained(tmp_path / "bare")
    assert found(ROWS, truncation=True)["input_ids"] == [row.tolist() for row in own]
    assert bert(["x"])["input_ids"][0][-1] == bert.sep_token_id, "the given one is left as it was"


SIZES = {"vocab_size": 100, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 40}
FAMILIES = {
    "Bert": {},
    "Roberta": {"pad_token_id": 1},
    "XLMRoberta": {"pad_token_id": 1},
    "MPNet": {"pad_token_id": 1},
    "Electra": {"embedding_size": 16},
    "Albert": {"embedding_size": 16},
    "Ernie": {},
    "ModernBert": {"pad_token_id": 0},
    "DistilBert": {},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_encoders_of_other_families(tmp_path: Path, family: str) -> None:
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES[family])
    torch.manual_seed(0)
    text_model = build_text_model(config)
    pooled = getattr(text_model, "pooler", None) is not None
    tokenizer = toy_checkpoint().tokenizer
    model = M3gal(text_model, ModelSettings(pooling="pooler" if pooled else "cls", max_length=64))
    checkpoint = Checkpoint(model.eval(), tokenizer)
    save_checkpoint(tmp_path / "step", checkpoint)
    loaded = AutoModel.from_pretrained(tmp_path / "step" / "query_encoder")
    torch.testing.assert_close(loaded.state_dict(), dict(model.encoder_q.text_encoder.state_dict()), rtol=0, atol=0)
    other = SentenceTransformer(str(tmp_path / "step" / "query_encoder"), device="cpu")
    assert other.max_seq_length == max_positions(config)
    if config.pad_token_id == tokenizer.pad_token_id:  # else the toy's padding would move RoBERTa's positions
        assert abs(other.encode(ROWS) - TorchEncoder(checkpoint).queries(ROWS)).max() < 1e-6
    texts = TorchEncoder(load_checkpoint(tmp_path / "step")).queries(ROWS)
    assert (texts == TorchEncoder(checkpoint).queries(ROWS)).all()


def test_a_pooler_that_sentence_transformers_does_not_know(tmp_path: Path) -> None:
    checkpoint = toy_checkpoint(pooling="pooler")
    for encoder in (checkpoint.model.encoder_q, checkpoint.model.encoder_k):
        encoder.text_encoder.pooler.activation = torch.nn.ReLU()
    save_checkpoint(tmp_path / "step", checkpoint)
    assert not (tmp_path / "step" / "query_encoder" / "modules.json").exists()
    assert "has no module for this encoder's pooler" in (tmp_path / "step" / "README.md").read_text(encoding="utf-8")
    load_checkpoint(tmp_path / "step")
