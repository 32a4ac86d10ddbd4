"""The encoder of validations reuses exactly the vectors and tokens that did not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.momentum_queue import update_ema
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.training.validation import CachedEncoder
from tests.helpers.toy_models import TEXTS, toy_checkpoint

LNG, LAT = [120.1, 120.2, 120.1], [30.1, 30.2, 30.1]
KINDS = {"encoder_q": "queries", "encoder_k": "poi_texts", "gc_encoder_shadow": "locations"}


def all_vectors(encoder: TorchEncoder) -> dict[str, np.ndarray]:
    return {
        "queries": encoder.encode_queries(TEXTS),
        "poi_texts": encoder.encode_poi_texts(TEXTS),
        "locations": encoder.encode_locations(LNG, LAT),
    }


@pytest.fixture
def cached() -> tuple[Checkpoint, CachedEncoder, list[str]]:
    """A checkpoint, its encoder, and a list of the model parts that have run."""
    checkpoint = toy_checkpoint()
    ran: list[str] = []
    for name in KINDS:
        getattr(checkpoint.model, name).register_forward_pre_hook(lambda *_, own=name: ran.append(own))
    return checkpoint, CachedEncoder(checkpoint), ran


def change(checkpoint: Checkpoint, part: str, how: str) -> None:
    """Change a part of the model as a training does."""
    module = getattr(checkpoint.model, part)
    if how == "ema":
        update_ema(module, getattr(toy_checkpoint(seed=3).model, part), 0.9)
        return
    kind: Any = torch.optim.AdamW if how == "adamw" else torch.optim.SGD
    optimizer = kind(module.parameters(), lr=1e-3, fused=True)
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()


@pytest.mark.parametrize(
    ("part", "how"), [("encoder_q", "adamw"), ("encoder_k", "ema"), ("gc_encoder_shadow", "sgd"), ("encoder_k", "sgd")]
)
def test_only_the_changed_part_encodes_again(
    cached: tuple[Checkpoint, CachedEncoder, list[str]], part: str, how: str
) -> None:
    checkpoint, encoder, ran = cached
    before = all_vectors(encoder)
    assert set(ran) == set(KINDS)
    ran.clear()
    again = all_vectors(encoder)
    assert ran == [], "nothing has changed"
    change(checkpoint, part, how)
    after = all_vectors(encoder)
    assert set(ran) == {part}
    fresh = all_vectors(TorchEncoder(checkpoint))
    for kind, vectors in after.items():
        assert np.array_equal(again[kind], before[kind])
        assert np.array_equal(vectors, fresh[kind])
        assert np.array_equal(vectors, before[kind]) == (kind != KINDS[part])


def test_other_rows_are_encoded(cached: tuple[Checkpoint, CachedEncoder, list[str]]) -> None:
    checkpoint, encoder, _ = cached
    uncached = TorchEncoder(checkpoint)
    for texts in (TEXTS, TEXTS[:2], TEXTS[::-1], TEXTS):
        assert np.array_equal(encoder.encode_queries(texts), uncached.encode_queries(texts))
    for lng in (LNG, [120.3, 120.2, 120.1]):
        assert np.array_equal(encoder.encode_locations(lng, LAT), uncached.encode_locations(lng, LAT))
