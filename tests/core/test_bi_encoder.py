"""The bi-encoder: which encoder gives which vectors, and which one is trained in which stage."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.core.tiny_encoder import small_config
from m3gal_cli.core.token_batches import TokenBatch
from m3gal_cli.core.tokenizer import TextTokenizer
from tests.helpers.toy_models import TEXTS, toy_checkpoint


def tokens(start: int = 0, end: int = 2) -> tuple[Tensor, Tensor]:
    tokenize = TextTokenizer(toy_checkpoint().tokenizer, ModelSettings(), 512)
    return tokenize(TEXTS[start:end]).pad()


def test_query_and_key_encoders_start_equal_and_share_no_weights() -> None:
    model = M3gal(build_text_model(small_config(50, 16, 1, 2, 0.0)), ModelSettings())
    for one, other in (("encoder_q", "encoder_k"), ("gc_encoder", "gc_encoder_shadow")):
        pairs = zip(getattr(model, one).parameters(), getattr(model, other).parameters(), strict=True)
        assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    names = {"encoder_q", "encoder_k", "gc_encoder", "gc_encoder_shadow"}
    assert {name.split(".")[0] for name in model.state_dict()} == names


def test_each_method_uses_its_encoder_and_gives_unit_vectors() -> None:
    model, z = toy_checkpoint().model, torch.randn(2, 2)
    ids, mask = tokens()
    pairs = [
        (model.embed_query(ids, mask), model.encoder_q(ids, mask)),
        (model.embed_poi_text(ids, mask), model.encoder_k(ids, mask)),
        (model.embed_location(z), nn.functional.normalize(model.gc_encoder(z))),
        (model.embed_poi_location(z), nn.functional.normalize(model.gc_encoder_shadow(z))),
    ]
    for vectors, wanted in pairs:
        assert vectors.shape == (2, model.dim)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
        assert torch.equal(vectors, wanted)
    assert len({vectors.sum().item() for vectors, _ in pairs}) == 4, "four different encoders"


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
@pytest.mark.parametrize(
    ("stage", "trained"),
    [("pretrain", {"encoder_q", "gc_encoder"}), ("finetune", {"encoder_q", "encoder_k", "gc_encoder_shadow"})],
)
def test_exactly_the_encoders_of_a_stage_get_gradients(stage: str, trained: set[str], pooling: str) -> None:
    model = toy_checkpoint(pooling=pooling).model
    model.set_trainable("finetune" if stage == "pretrain" else "pretrain")
    model.set_trainable(stage)
    query, key = (TokenBatch([tokens(*rows)], None, 0) for rows in ((), (2, 4)))
    out = model(query, torch.randn(2, 2), None if stage == "pretrain" else key)
    torch.cat(out).sum(dim=0)[0].backward()
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    got = {name for name, p in model.named_parameters() if p.grad is not None}
    assert got == wanted, "a parameter without gradient stops data-parallel training"
    assert {name.split(".")[0] for name in got} == trained
    assert any(".pooler." in name for name in got) == (pooling == "pooler")


def test_keys_are_encoded_without_gradient_and_in_the_order_of_the_batch() -> None:
    model = toy_checkpoint().model
    model.set_trainable("pretrain")
    batch = TokenBatch([tokens(), tokens(2, 4)], torch.tensor([3, 2, 1, 0]), 0)
    keys = model.encode_keys(batch)
    assert not keys.requires_grad
    wanted = torch.cat([model.embed_poi_text(*chunk) for chunk in batch.chunks]).flip(0)
    torch.testing.assert_close(keys, wanted.detach())
    assert not any(p.requires_grad for p in model.encoder_k.parameters())


def test_locations_are_encoded_in_float32_under_autocast() -> None:
    model, z = toy_checkpoint(location_encoder="fourier").model, torch.randn(20, 2)
    for embed in (model.embed_poi_location, model.embed_location):
        with torch.autocast("cpu", torch.bfloat16):
            vectors = embed(z)
        assert torch.equal(vectors, embed(z))
