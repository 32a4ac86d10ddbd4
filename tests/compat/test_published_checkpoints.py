"""Checkpoint files of the published code (.pth.tar): round trip, refusals, and the files that decide POI vectors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.compat.checkpoint_sources import published_poi_sources
from m3gal_cli.compat.checkpoints import load_published, save_published
from m3gal_cli.core.checkpoint import Checkpoint, save_checkpoint
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import same_weights, toy_checkpoint

WEIGHTS = "encoder_q.text_encoder.embeddings.word_embeddings.weight"


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A text encoder's directory, which a published file needs."""
    save_checkpoint(tmp_path / "last", toy_checkpoint())
    return tmp_path / "last" / "query_encoder"


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Checkpoint]:
    """A published file, and the checkpoint that was written."""
    checkpoint = toy_checkpoint(seed=2)
    checkpoint.epoch = 7
    queue = {"queue": torch.randn(16, 4), "gc_queue": torch.randn(16, 4), "queue_ptr": torch.tensor([2])}
    save_published(tmp_path / "x.pth.tar", checkpoint, queue | {"filled": torch.tensor([4])}, {"state": {0: 1}})
    checkpoint.trainer = {"queue": queue, "published_optimizer": {"state": {0: 1}}}
    return tmp_path / "x.pth.tar", checkpoint


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_file_is_read_back(encoder: Path, published: tuple[Path, Checkpoint], prefix: str) -> None:
    """Also with the names that data-parallel training gives, and the constant that old transformers saved."""
    path, checkpoint = published
    content = torch.load(path, weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "optimizer"}
    content["state_dict"]["encoder_q.text_encoder.embeddings.position_ids"] = torch.arange(512)
    content["state_dict"] = {prefix + name: value for name, value in content["state_dict"].items()}
    torch.save(content, path)
    loaded = load_published(path, str(encoder), checkpoint.model.settings)
    assert same_weights(loaded.model, checkpoint.model)
    assert loaded.epoch == 7
    queue, wanted = loaded.trainer.pop("queue"), checkpoint.trainer.pop("queue")
    assert set(queue) == set(wanted)
    assert all(torch.equal(queue[name], wanted[name]) for name in wanted)
    assert loaded.trainer == checkpoint.trainer
    queries = load_published(path, str(encoder), checkpoint.model.settings, ("query",)).model
    assert same_weights(queries.encoder_q, checkpoint.model.encoder_q)
    assert len(queries.state_dict()) == len(checkpoint.model.encoder_q.state_dict())


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_a_missing_pooler_is_refused_only_if_it_is_used(
    encoder: Path, published: tuple[Path, Checkpoint], pooling: str
) -> None:
    path, _ = published
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if ".pooler." not in k}
    torch.save(content, path)
    if pooling == "mean":
        loaded = load_published(path, str(encoder), ModelSettings(pooling=pooling))
        assert torch.equal(loaded.model.state_dict()[WEIGHTS], content["state_dict"][WEIGHTS])
    else:
        with pytest.raises(InputError, match=r"lacks weights: encoder_q\.text_encoder\.pooler"):
            load_published(path, str(encoder), ModelSettings(pooling=pooling))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "no state_dict"),
        ({"state_dict": {WEIGHTS: 3}}, "no state_dict of tensors"),
        ({"state_dict": {}}, "lacks weights"),
        ({"state_dict": {WEIGHTS: torch.zeros(5, 768)}}, r"another width: .* is \(5, 768\)"),
        ({"state_dict": {"encoder_q.colour": torch.zeros(1)}}, "has unknown weights: encoder_q.colour"),
        ({"state_dict": Path("x")}, "foreign code"),
    ],
)
def test_a_file_that_is_not_a_published_checkpoint_is_refused(
    encoder: Path, published: tuple[Path, Checkpoint], content: Any, words: str
) -> None:
    path, _ = published
    if "unknown" in words:
        content["state_dict"] |= torch.load(path, weights_only=True)["state_dict"]
    torch.save(content, path)
    with pytest.raises(InputError, match=words) as caught:
        load_published(path, str(encoder), ModelSettings())
    assert caught.value.where == str(path)


def test_a_failed_save_leaves_the_old_file(published: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoint = published
    content = path.read_bytes()

    def fail_half_way(_: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise RuntimeError("file write failed")

    monkeypatch.setattr(torch, "save", fail_half_way)
    with pytest.raises(InputError, match=r"cannot save the checkpoint \(file write failed\)"):
        save_published(path, checkpoint, {}, {})
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["x.pth.tar"]


def test_the_vectors_of_pois_depend_on_the_file_the_tokenizer_and_the_settings(
    encoder: Path, published: tuple[Path, Checkpoint]
) -> None:
    def state(**settings: Any) -> tuple[str, str]:
        files, values = published_poi_sources(published[0], str(encoder), ModelSettings(**settings))
        return Fingerprint(tuple(files)).sha256, json.dumps(values)

    before = state()
    assert state(query_prefix="q") == before
    assert state(append_sep=False) != before
    (encoder / "model.safetensors").unlink()
    assert state() == before, "the weights of the text encoder are not used"
    files, values = published_poi_sources(published[0], "someone/encoder", ModelSettings())
    assert (files, values["text_encoder"]) == ([published[0]], "someone/encoder")
