"""Checkpoint directories: round trips, atomic saves, moved folders, and refusals of damaged or foreign files."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

from m3gal_cli.core import checkpoint as module
from m3gal_cli.core.bi_encoder import PARTS, M3gal
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint, read_torch, save_checkpoint
from m3gal_cli.core.checkpoint_parts import FILES
from m3gal_cli.core.model_card import TrainingData
from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.core.text_encoder import load_text_model, load_tokenizer
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, same_weights, toy_checkpoint


def test_everything_is_read_back(tmp_path: Path) -> None:
    settings = {"pooling": "cls", "append_sep": False, "max_length": 12, "query_prefix": "问: "}
    checkpoint = toy_checkpoint(**settings, location_encoder="fourier", normalizer=Normalizer(120.1, 0.1, 30.1, 0.2))
    checkpoint.stage, checkpoint.epoch, checkpoint.step, checkpoint.metrics = "pretrain", 3, 41, {"recall@1": 0.25}
    checkpoint.data = TrainingData(("© OpenStreetMap contributors, ODbL 1.0",), ("zh", "en"), "odbl")
    checkpoint.trainer = {"queue": {"queue": torch.randn(16, 5)}, "m_location": 0.5, "random": [1, (2, "three")]}
    save_checkpoint(tmp_path / "runs" / "best", checkpoint)
    assert os.listdir(tmp_path / "runs") == ["best"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*.safetensors")} == {0o644}
    loaded = load_checkpoint(tmp_path / "runs" / "best", with_trainer=True)
    assert same_weights(loaded.model, checkpoint.model)
    assert loaded.model.settings == checkpoint.model.settings
    assert (loaded.stage, loaded.epoch, loaded.step, loaded.metrics) == ("pretrain", 3, 41, {"recall@1": 0.25})
    assert loaded.data == checkpoint.data
    assert torch.equal(loaded.trainer["queue"].pop("queue"), checkpoint.trainer["queue"].pop("queue"))
    assert loaded.trainer == checkpoint.trainer
    assert load_checkpoint(tmp_path / "runs" / "best").trainer is None


@pytest.mark.parametrize("parts", [("query",), ("poi", "location")])
def test_inference_loads_only_some_encoders_and_draws_no_random_number(tmp_path: Path, parts: tuple[str, ...]) -> None:
    checkpoint = toy_checkpoint(location_encoder="fourier", pooling="pooler")
    save_checkpoint(tmp_path / "last", checkpoint)
    rng_state = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path / "last", parts=parts)
    assert torch.equal(torch.get_rng_state(), rng_state)
    wanted, state = checkpoint.model.state_dict(), loaded.model.state_dict()
    assert set(state) == {name for name in wanted if name.startswith(tuple(PARTS[part] for part in parts))}
    calls: dict[str, Callable[[TorchEncoder], Any]] = {
        "query": lambda e: e.encode_queries(TEXTS),
        "poi": lambda e: e.encode_poi_texts(TEXTS),
        "location": lambda e: e.encode_locations([120.2], [30.3]),
    }
    for part, call in calls.items():
        if part in parts:
            assert (call(TorchEncoder(checkpoint)) == call(TorchEncoder(loaded))).all()
        else:
            with pytest.raises(RuntimeError, match="not loaded"):
                call(TorchEncoder(loaded))


def test_format_1_is_still_read(tmp_path: Path) -> None:
    """In the first format all weights are in one file, config and tokenizer in one folder."""
    path, checkpoint = tmp_path, toy_checkpoint(append_sep=False, location_encoder="fourier", pooling="pooler")
    checkpoint.model.encoder_q.text_encoder.config.save_pretrained(path / "text_encoder")
    checkpoint.tokenizer.save_pretrained(path / "text_encoder")
    save_file(checkpoint.model.state_dict(), path / "model.safetensors")
    torch.save({"m_location": 0.5}, path / "trainer.pt")
    meta = {"format": 1, "stage": "pretrain", "epoch": 3, "step": 41, "metrics": {"fused.recall@1": 0.25}}
    (path / "m3gal.json").write_text(json.dumps(meta | {"settings": checkpoint.model.settings.to_json()}))
    loaded = load_checkpoint(path, with_trainer=True)
    assert same_weights(loaded.model, checkpoint.model)
    assert (loaded.stage, loaded.epoch, loaded.step, loaded.metrics) == tuple(meta.values())[1:]
    assert loaded.trainer == {"m_location": 0.5}
    assert (TorchEncoder(loaded).encode_queries(TEXTS) == TorchEncoder(checkpoint).encode_queries(TEXTS)).all()
    queries = load_checkpoint(path, parts=("query",)).model
    assert same_weights(queries.encoder_q, checkpoint.model.encoder_q)
    assert len(queries.state_dict()) == len(checkpoint.model.encoder_q.state_dict())


def test_a_checkpoint_holds_no_path_and_can_be_moved(tmp_path: Path) -> None:
    source, toy = tmp_path / "source encoder", toy_checkpoint()
    toy.model.encoder_q.text_encoder.save_pretrained(source)
    toy.tokenizer.save_pretrained(source)
    checkpoint = Checkpoint(M3gal(load_text_model(str(source)), toy.model.settings), load_tokenizer(str(source)))
    save_checkpoint(tmp_path / "run" / "last", checkpoint)
    shutil.rmtree(source)
    moved = (tmp_path / "run").rename(tmp_path / "moved") / "last"
    assert [p for p in moved.rglob("*") if p.is_file() and str(tmp_path).encode() in p.read_bytes()] == []
    assert same_weights(load_checkpoint(moved).model, checkpoint.model)


def test_an_existing_checkpoint_is_never_replaced(saved: Path) -> None:
    with pytest.raises(InputError, match=r"cannot save the checkpoint \(the path exists\)"):
        save_checkpoint(saved, toy_checkpoint(seed=1))
    assert os.listdir(saved.parent) == ["last"]
    assert same_weights(load_checkpoint(saved).model, toy_checkpoint().model)


def test_a_checkpoint_replaced_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = toy_checkpoint(seed=1)
    save_checkpoint(tmp_path / "a", toy_checkpoint())
    (tmp_path / "last").symlink_to("a")
    read = module.read_weights

    def read_after_replacing(*args: Any) -> Any:
        if (tmp_path / "a").exists():
            save_checkpoint(tmp_path / "b", new)
            (tmp_path / "last").unlink()
            (tmp_path / "last").symlink_to("b")
            shutil.rmtree(tmp_path / "a")
        return read(*args)

    monkeypatch.setattr(module, "read_weights", read_after_replacing)
    loaded = load_checkpoint(tmp_path / "last")
    assert same_weights(loaded.model, new.model)
    assert loaded.path == tmp_path / "last"


FAILURES = [(module.torch, "save", OSError), (Path, "rename", OSError), (os, "fsync", OSError)]
FAILURES += [(PreTrainedTokenizerFast, "save_pretrained", Exception)]


@pytest.mark.parametrize(("where", "name", "error"), FAILURES)
def test_a_failed_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, error: type[Exception]
) -> None:
    new = toy_checkpoint(seed=1)
    new.trainer = {"m_location": 1.0}
    monkeypatch.setattr(where, name, Mock(side_effect=error("No space left on device (os error 28)")))
    with pytest.raises(InputError, match=r"cannot save the checkpoint.*No space left") as caught:
        save_checkpoint(tmp_path / "last", new)
    assert caught.value.where == str(tmp_path / "last")
    assert os.listdir(tmp_path) == []


def truncate(name: str) -> Callable[[Path], None]:
    return lambda path: os.truncate(path / name, (path / name).stat().st_size // 2)


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        meta = json.loads((path / "m3gal.json").read_text(encoding="utf-8"))
        (path / "m3gal.json").write_text(json.dumps(change(meta) or meta), encoding="utf-8")

    return damage


def other_width(path: Path) -> None:
    save_checkpoint(path.with_name("wide"), toy_checkpoint(hidden=32))
    shutil.copy(path.with_name("wide") / list(FILES)[1], path / list(FILES)[1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such checkpoint"),
        (lambda path: (path / "m3gal.json").unlink(), "is no checkpoint"),
        *((truncate(file), "damaged") for file in (*FILES, "m3gal.json")),
        (edit(lambda meta: meta.update(format=4)), "format 4, this m3gal reads 1, 2, 3"),
        (edit(lambda meta: meta.update(kind="cross-encoder")), "is a cross-encoder, which m3gal no longer reads"),
        (edit(lambda meta: meta.pop("settings") and None), "damaged"),
        (edit(lambda meta: meta["settings"].update(location_encoder="fourier")), r"gc_encoder"),
        (lambda path: (path / "query_encoder" / "config.json").unlink(), "no config.json"),
        (lambda path: (path / "query_encoder" / "tokenizer.json").write_text("{}"), "cannot load the text encoder"),
        (other_width, r"another width: .* is \(.*32,?\), the encoder's is \(.*16,?\) "),
    ],
)
def test_a_damaged_checkpoint_is_refused(saved: Path, damage: Callable[[Path], Any], words: str) -> None:
    damage(saved)
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(saved)
    assert str(saved) in caught.value.render()
    assert caught.value.hint


class Foreign:
    """An object that creates a folder if it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_foreign_code_is_not_run(saved: Path, tmp_path: Path, legacy: bool) -> None:
    content = {"epoch": 1, "state_dict": Foreign(tmp_path / "run")}
    torch.save(content, saved / "trainer.pt", _use_new_zipfile_serialization=not legacy)
    for load in (lambda: read_torch(saved / "trainer.pt"), lambda: load_checkpoint(saved, with_trainer=True)):
        with pytest.raises(InputError, match="foreign code"):
            load()
    assert not (tmp_path / "run").exists()
    torch.load(saved / "trainer.pt", weights_only=False)
    assert (tmp_path / "run").is_dir(), "the file would have run code"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_any_damage_to_a_torch_file_is_an_input_error(tmp_path: Path, legacy: bool) -> None:
    path, draw = tmp_path / "x.pth.tar", random.Random(5)
    with pytest.raises(InputError, match="no such checkpoint"):
        read_torch(path)
    torch.save({"state_dict": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    for length in range(0, len(content), 1 + len(content) // 150):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_torch(path)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        with suppress(InputError):  # three bytes may also change nothing but a number
            read_torch(path)
