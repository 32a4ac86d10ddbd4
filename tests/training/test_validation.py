"""What is kept between validations is what did not change, and never what did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.momentum_queue import update_ema
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.training.validation import LastingEmbedder
from tests.helpers.cli import m3gal, validations
from tests.helpers.sample_town import write_town
from tests.helpers.toy_models import TEXTS, toy_checkpoint

LNG, LAT = [120.1, 120.2, 120.1], [30.1, 30.2, 30.1]
KINDS = {"encoder_q": "queries", "encoder_k": "poi_texts", "gc_encoder_shadow": "locations"}


def all_vectors(encoder: TorchEncoder) -> dict[str, np.ndarray]:
    return {
        "queries": encoder.queries(TEXTS),
        "poi_texts": encoder.poi_texts(TEXTS),
        "locations": encoder.locations(LNG, LAT),
    }


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[Checkpoint, LastingEmbedder, list[str]]:
    """A checkpoint, an embedder of it, and the names of the parts that were run."""
    checkpoint = toy_checkpoint()
    ran: list[str] = []
    for name in KINDS:
        getattr(checkpoint.model, name).register_forward_pre_hook(lambda *_, own=name: ran.append(own))
    return checkpoint, LastingEmbedder(checkpoint), ran


def write(checkpoint: Checkpoint, part: str, how: str) -> None:
    """Change a part of the model the way that training does."""
    model = checkpoint.model
    parameters = list(getattr(model, part).parameters())
    if how == "ema":
        other = toy_checkpoint(seed=3).model
        update_ema(getattr(model, part), getattr(other, part), 0.9)
    elif how == "weights":
        getattr(model, part).load_state_dict(getattr(toy_checkpoint(seed=4).model, part).state_dict())
    else:
        kind: Any = torch.optim.AdamW if how == "adamw" else torch.optim.SGD
        optimizer = kind(parameters, lr=1e-3, fused=True)
        for p in parameters:
            p.grad = torch.ones_like(p)
        optimizer.step()


@pytest.mark.parametrize("how", ["adamw", "sgd", "ema", "weights"])
@pytest.mark.parametrize("part", list(KINDS))
def test_only_what_was_written_to_is_encoded_again(
    counted: tuple[Checkpoint, LastingEmbedder, list[str]], part: str, how: str
) -> None:
    checkpoint, encoder, ran = counted
    before = all_vectors(encoder)
    assert set(ran) == set(KINDS)
    ran.clear()
    again = all_vectors(encoder)
    assert ran == [], "nothing has changed"
    write(checkpoint, part, how)
    after = all_vectors(encoder)
    assert set(ran) == {part}
    fresh = all_vectors(TorchEncoder(checkpoint))
    for kind, vectors in after.items():
        assert np.array_equal(again[kind], before[kind])
        assert np.array_equal(vectors, fresh[kind])
        assert np.array_equal(vectors, before[kind]) == (kind != KINDS[part])


def test_other_rows_are_encoded(counted: tuple[Checkpoint, LastingEmbedder, list[str]]) -> None:
    checkpoint, encoder, _ = counted
    plain = TorchEncoder(checkpoint)
    for texts in (TEXTS, TEXTS[:2], TEXTS[::-1], TEXTS):
        assert np.array_equal(encoder.queries(texts), plain.queries(texts))
    for lng in (LNG, [120.3, 120.2, 120.1]):
        assert np.array_equal(encoder.locations(lng, LAT), plain.locations(lng, LAT))


def test_texts_are_tokenised_once(counted: tuple[Checkpoint, LastingEmbedder, list[str]]) -> None:
    checkpoint, encoder, _ = counted
    encoder.queries(TEXTS)
    write(checkpoint, "encoder_q", "sgd")
    encoder.tokenize = None  # type: ignore[assignment]
    assert encoder.queries(TEXTS).shape == (len(TEXTS), checkpoint.model.dim)


def test_a_training_that_freezes_parts_validates_as_one_that_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = write_town(tmp_path / "town")

    def found(name: str) -> list[Any]:
        given = ("--config", profile, "--runs-dir", tmp_path / "runs", "--output-name", name, "--batch-size", 4)
        run = m3gal("finetune", *given, "--set", "optim.freeze=[encoder_k]").run
        return [row["metrics"] for row in validations(run)]

    kept = found("kept")
    monkeypatch.setattr("m3gal_cli.training.validation.LastingEmbedder", TorchEncoder)
    assert len(kept) == 3
    assert found("forgot") == kept
