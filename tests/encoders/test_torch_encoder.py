"""The torch encoder: order, prefixes, equal vectors for equal inputs, and progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from tests.helpers.toy_models import TEXTS, toy_checkpoint

MANY = [f"{text} {i % 7}" * (1 + i % 3) for i, text in enumerate(TEXTS * 8)]  # several lengths, with repetitions


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return toy_checkpoint(query_prefix="harbour: ", passage_prefix="castle ", normalizer=Normalizer(120, 0.1, 30, 0.2))


def encode_one_by_one(checkpoint: Checkpoint, part: str, prefix: str) -> np.ndarray:
    """Encode ``MANY`` one text at a time, without our tokenization, batching or padding."""
    encoder = getattr(checkpoint.model, part)
    rows = [torch.tensor([checkpoint.tokenizer(prefix + text)["input_ids"]]) for text in MANY]
    with torch.no_grad():
        return np.concatenate([encoder(row, torch.ones_like(row)).numpy() for row in rows])


@pytest.mark.parametrize("batch_tokens", [1, 50])
def test_texts_are_encoded_in_order_with_prefix_and_without_dropout(checkpoint: Checkpoint, batch_tokens: int) -> None:
    checkpoint.model.train()
    encoder = TorchEncoder(checkpoint, batch_tokens=batch_tokens)
    queries, pois = encoder.encode_queries(MANY), encoder.encode_poi_texts(MANY)
    assert queries.dtype == np.float32
    np.testing.assert_allclose(queries, encode_one_by_one(checkpoint, "encoder_q", "harbour: "), atol=1e-6)
    np.testing.assert_allclose(pois, encode_one_by_one(checkpoint, "encoder_k", "castle "), atol=1e-6)


def test_locations_are_encoded_in_order_with_the_location_weight(checkpoint: Checkpoint) -> None:
    lng, lat = [120.1, 119.9, 120.1, 120.0, 120.1], [30.1, 30.2, 30.1, 29.7, 30.2]
    vectors = TorchEncoder(checkpoint).encode_locations(lng, lat)
    z = torch.tensor([[(x - 120) / 0.1, (y - 30) / 0.2] for x, y in zip(lng, lat, strict=True)])
    with torch.no_grad():
        wanted = checkpoint.model.gc_encoder_shadow(z)
    np.testing.assert_allclose(vectors, (wanted / wanted.norm(dim=1, keepdim=True)).numpy(), atol=1e-5)
    settings = checkpoint.model.settings
    checkpoint.model.settings = replace(settings, location_weight=0.25)
    np.testing.assert_allclose(TorchEncoder(checkpoint).encode_locations(lng, lat), 0.25 * vectors, rtol=1e-6)
    checkpoint.model.settings = settings


def test_equal_texts_and_locations_have_identical_vectors(checkpoint: Checkpoint) -> None:
    encoder = TorchEncoder(checkpoint, batch_tokens=30)
    texts = [*MANY, *MANY[::-1]]
    for vectors in (encoder.encode_queries(texts), encoder.encode_poi_texts(texts)):
        first: dict[str, np.ndarray] = {}
        for text, vector in zip(texts, vectors, strict=True):
            assert (first.setdefault(text, vector) == vector).all()
    locations = np.random.default_rng(1).uniform((120, 30), (121, 31), (9000, 2))  # more than one batch
    both = np.concatenate([locations, locations[::-1]])
    vectors = encoder.encode_locations(both[:, 0], both[:, 1])
    assert (vectors[:9000] == vectors[:8999:-1]).all()


def test_empty_input_gives_no_vectors_and_progress_counts_distinct_texts(checkpoint: Checkpoint) -> None:
    progress: list[tuple[int, int]] = []
    encoder = TorchEncoder(checkpoint, batch_tokens=1)
    for vectors in (encoder.encode_queries([]), encoder.encode_poi_texts([]), encoder.encode_locations([], [])):
        assert vectors.shape == (0, encoder.dim)
    encoder.encode_queries([*TEXTS, *TEXTS], lambda done, total: progress.append((done, total)))
    assert progress == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
