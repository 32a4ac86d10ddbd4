"""The bi-encoder: which part embeds what, and which part learns when."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from m3gal_cli.core.bi_encoder import M3gal, choose_attention, count_parameters, resolve_device, resolve_precision
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.core.tiny_encoder import small_config
from m3gal_cli.core.token_batches import TokenBatch
from m3gal_cli.core.tokenizer import TextTokenizer
from tests.helpers.toy_models import TEXTS, toy_checkpoint

PARTS = ("encoder_q", "encoder_k", "gc_encoder", "gc_encoder_shadow")


def tokens(first: int = 0, last: int = 2) -> tuple[Tensor, Tensor]:
    tokenize = TextTokenizer(toy_checkpoint().tokenizer, ModelSettings(), 512)
    return tokenize(TEXTS[first:last]).pad()


def test_query_and_key_parts_start_equal_and_share_nothing() -> None:
    model = M3gal(build_text_model(small_config(50, 16, 1, 2, 0.0)), ModelSettings())
    for one, other in (("encoder_q", "encoder_k"), ("gc_encoder", "gc_encoder_shadow")):
        pairs = zip(getattr(model, one).parameters(), getattr(model, other).parameters(), strict=True)
        assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    assert {name.split(".")[0] for name in model.state_dict()} == set(PARTS)


def test_each_part_embeds_its_own() -> None:
    model, z = toy_checkpoint().model, torch.randn(2, 2)
    ids, mask = tokens()
    wanted = {
        "encoder_q": model.encoder_q(ids, mask),
        "encoder_k": model.encoder_k(ids, mask),
        "gc_encoder": nn.functional.normalize(model.gc_encoder(z)),
        "gc_encoder_shadow": nn.functional.normalize(model.gc_encoder_shadow(z)),
    }
    found = {
        "encoder_q": model.embed_query(ids, mask),
        "encoder_k": model.embed_poi_text(ids, mask),
        "gc_encoder": model.embed_location(z),
        "gc_encoder_shadow": model.embed_poi_location(z),
    }
    for name, value in found.items():
        assert value.shape == (2, model.dim)
        torch.testing.assert_close(value.norm(dim=1), torch.ones(2))
        assert torch.equal(value, wanted[name])
    assert len({v.sum().item() for v in found.values()}) == 4, "no two parts are one"


def test_one_call_gives_what_a_step_of_either_stage_needs() -> None:
    model, z = toy_checkpoint().model, torch.randn(3, 2)
    query, key = tokens(), tokens(2, 5)
    found = model(TokenBatch([query], None, 0), z)
    assert all(
        torch.equal(a, b) for a, b in zip(found, (model.embed_query(*query), model.embed_location(z)), strict=True)
    )
    found = model(TokenBatch([query], None, 0), z, TokenBatch([key], None, 0))
    wanted = (model.embed_query(*query), model.embed_poi_text(*key), model.embed_poi_location(z))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
@pytest.mark.parametrize(
    ("stage", "learning"),
    [("pretrain", {"encoder_q", "gc_encoder"}), ("finetune", {"encoder_q", "encoder_k", "gc_encoder_shadow"})],
)
def test_exactly_the_parts_of_a_stage_get_gradients(stage: str, learning: set[str], pooling: str) -> None:
    model = toy_checkpoint(pooling=pooling).model
    model.train_for("finetune" if stage == "pretrain" else "pretrain")
    model.train_for(stage)
    query, key = (TokenBatch([tokens(*cut)], None, 0) for cut in ((), (2, 4)))
    out = model(query, torch.randn(2, 2), None if stage == "pretrain" else key)
    torch.cat(out).sum(dim=0)[0].backward()
    asked = {name for name, p in model.named_parameters() if p.requires_grad}
    got = {name for name, p in model.named_parameters() if p.grad is not None}
    assert got == asked, "a parameter without gradient stops data-parallel training"
    assert {name.split(".")[0] for name in got} == learning
    assert any(".pooler." in name for name in got) == (pooling == "pooler")


def test_device_names_and_counts() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == wanted
    assert count_parameters(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))) == 3 * 4 + 4 + 4 * 2


@pytest.mark.parametrize(
    ("name", "device", "instructions", "wanted"),
    [
        *(("fp32", device, True, "fp32") for device in ("cpu", "cuda", "mps")),
        ("auto", "cpu", True, "bf16"),
        ("auto", "cpu", False, "fp32"),
        ("bf16", "cpu", True, "bf16"),
        ("bf16", "cpu", False, "fp32"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp32"),
        ("bf16", "cuda", False, "bf16"),
        ("auto", "mps", True, "fp32"),
        ("bf16", "mps", False, "bf16"),
    ],
)
def test_precision(monkeypatch: pytest.MonkeyPatch, name: str, device: str, instructions: bool, wanted: str) -> None:
    for asked in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, asked, lambda: instructions)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: instructions)
    assert resolve_precision(name, torch.device(device)) == wanted


@pytest.mark.parametrize(
    ("device", "precision", "wanted"), [("cpu", "fp32", "sdpa"), ("cpu", "bf16", "eager"), ("cuda", "bf16", "sdpa")]
)
def test_attention(device: str, precision: str, wanted: str) -> None:
    """Whichever it is, the vectors are the same."""
    model = toy_checkpoint().model
    before = model.embed_query(*tokens())
    choose_attention(model, torch.device(device), precision)
    assert model.encoder_q.text_encoder.config._attn_implementation == wanted
    torch.testing.assert_close(model.embed_query(*tokens()), before, atol=1e-6, rtol=0)


def test_keys_take_no_gradient_and_leave_none_asked() -> None:
    model = toy_checkpoint().model
    model.train_for("pretrain")
    key = TokenBatch([tokens(), tokens(2, 4)], torch.tensor([3, 2, 1, 0]), 0)
    found = model.keys(key)
    assert not found.requires_grad
    wanted = torch.cat([model.embed_poi_text(*chunk) for chunk in key.chunks]).flip(0)
    torch.testing.assert_close(found, wanted.detach())
    assert not any(p.requires_grad for p in model.encoder_k.parameters())


@pytest.mark.parametrize("kind", ["mlp", "fourier"])
def test_places_are_as_exact_under_autocast(kind: str) -> None:
    model = toy_checkpoint(location_encoder=kind).model
    z = torch.randn(20, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.embed_poi_location(z), model.embed_location(z)
    assert torch.equal(found[0], model.embed_poi_location(z))
    assert torch.equal(found[1], model.embed_location(z))
