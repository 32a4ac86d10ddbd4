"""Embedding in bulk: order, prefixes, and equal rows equal to the bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.encoders.encoder import TorchEncoder
from tests.helpers.toy_models import TEXTS, toy_checkpoint

MANY = [f"{text} {i % 7}" * (1 + i % 3) for i, text in enumerate(TEXTS * 8)]  # of several lengths, with repeats


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return toy_checkpoint(query_prefix="harbour: ", passage_prefix="castle ", normalizer=Normalizer(120, 0.1, 30, 0.2))


def one_by_one(checkpoint: Checkpoint, part: str, texts: list[str], prefix: str) -> np.ndarray:
    """The encoder's own answer to each text alone, without our tokenisation, batching or padding."""
    encoder = getattr(checkpoint.model, part)
    rows = [torch.tensor([checkpoint.tokenizer(prefix + text)["input_ids"]]) for text in texts]
    with torch.no_grad():
        return np.concatenate([encoder(row, torch.ones_like(row)).numpy() for row in rows])


@pytest.mark.parametrize("batch_tokens", [1, 50, 4096])
def test_texts_in_their_order_by_their_own_encoder_and_prefix(checkpoint: Checkpoint, batch_tokens: int) -> None:
    checkpoint.model.train()  # with dropout the numbers would be others
    encoder = TorchEncoder(checkpoint, batch_tokens=batch_tokens)
    queries, pois = encoder.queries(MANY), encoder.poi_texts(MANY)
    assert queries.dtype == np.float32
    assert queries.shape == (len(MANY), encoder.dim)
    np.testing.assert_allclose(queries, one_by_one(checkpoint, "encoder_q", MANY, "harbour: "), atol=1e-6)
    np.testing.assert_allclose(pois, one_by_one(checkpoint, "encoder_k", MANY, "castle "), atol=1e-6)


def test_places_in_their_order_by_the_key_location_encoder(checkpoint: Checkpoint) -> None:
    lng = [120.1, 119.9, 120.1, 120.0, 120.1]
    lat = [30.1, 30.2, 30.1, 29.7, 30.2]
    found = TorchEncoder(checkpoint).locations(lng, lat)
    z = torch.tensor([[(x - 120) / 0.1, (y - 30) / 0.2] for x, y in zip(lng, lat, strict=True)])
    with torch.no_grad():
        wanted = checkpoint.model.gc_encoder_shadow(z)
    np.testing.assert_allclose(found, (wanted / wanted.norm(dim=1, keepdim=True)).numpy(), atol=1e-5)
    assert (found[0] == found[2]).all()
    settings = checkpoint.model.settings
    checkpoint.model.settings = replace(settings, location_weight=0.25)
    np.testing.assert_allclose(TorchEncoder(checkpoint).locations(lng, lat), 0.25 * found, rtol=1e-6)
    checkpoint.model.settings = settings


@pytest.mark.parametrize("batch_tokens", [30, 90])
def test_equal_texts_and_places_are_equal_to_the_bit(checkpoint: Checkpoint, batch_tokens: int) -> None:
    encoder = TorchEncoder(checkpoint, batch_tokens=batch_tokens)
    texts = [*MANY, *MANY[::-1]]
    for vectors in (encoder.queries(texts), encoder.poi_texts(texts)):
        first: dict[str, np.ndarray] = {}
        for text, vector in zip(texts, vectors, strict=True):
            assert (first.setdefault(text, vector) == vector).all()
    place = np.random.default_rng(1).uniform((120, 30), (121, 31), (9000, 2))  # more than go through at once
    both = np.concatenate([place, place[::-1]])
    vectors = encoder.locations(both[:, 0], both[:, 1])
    assert (vectors[:9000] == vectors[:8999:-1]).all()


def test_nothing_in_nothing_out(checkpoint: Checkpoint) -> None:
    encoder = TorchEncoder(checkpoint)
    for found in (encoder.queries([]), encoder.poi_texts([]), encoder.locations([], [])):
        assert found.shape == (0, encoder.dim)


def test_progress_counts_distinct_texts(checkpoint: Checkpoint) -> None:
    told: list[tuple[int, int]] = []
    TorchEncoder(checkpoint, batch_tokens=1).queries([*TEXTS, *TEXTS], lambda done, total: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
