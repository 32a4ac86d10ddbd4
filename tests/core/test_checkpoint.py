"""Checkpoints: there and back, whole or not at all, and every way in which one can be bad."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from m3gal_cli.compat.checkpoints import load_published, save_published
from m3gal_cli.core import checkpoint as module
from m3gal_cli.core import checkpoint_parts as layout
from m3gal_cli.core.bi_encoder import PARTS
from m3gal_cli.core.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_torch,
    save_checkpoint,
)
from m3gal_cli.core.checkpoint_layout import is_checkpoint
from m3gal_cli.core.checkpoint_parts import FILES
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.errors import InputError
from tests.helpers.toy_models import TEXTS, toy_checkpoint

WEIGHTS_FILES = list(FILES)
WEIGHTS = "encoder_q.text_encoder.embeddings.word_embeddings.weight"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint on disk."""
    path = tmp_path / "last"
    save_checkpoint(path, toy_checkpoint())
    return path


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("location_encoder", ["mlp", "fourier"])
def test_all_of_it_comes_back(tmp_path: Path, location_encoder: str) -> None:
    settings = {"pooling": "cls", "append_sep": False, "max_length": 12, "query_prefix": "问: "}
    settings |= {"location_encoder": location_encoder, "normalizer": Normalizer(120.1, 0.1, 30.1, 0.2)}
    checkpoint = toy_checkpoint(**settings)
    checkpoint.stage, checkpoint.epoch, checkpoint.step, checkpoint.metrics = "pretrain", 3, 41, {"recall@1": 0.25}
    checkpoint.trainer = {"queue": {"queue": torch.randn(16, 5)}, "m_location": 0.5, "random": [1, (2, "three")]}
    save_checkpoint(tmp_path / "runs" / "best", checkpoint)
    assert is_checkpoint(tmp_path / "runs" / "best")
    assert os.listdir(tmp_path / "runs") == ["best"]
    loaded = load_checkpoint(tmp_path / "runs" / "best", with_trainer=True)
    assert same_weights(loaded.model, checkpoint.model)
    assert loaded.model.settings == checkpoint.model.settings
    assert (loaded.stage, loaded.epoch, loaded.step, loaded.metrics) == ("pretrain", 3, 41, {"recall@1": 0.25})
    assert torch.equal(loaded.trainer["queue"].pop("queue"), checkpoint.trainer["queue"].pop("queue"))
    assert loaded.trainer == checkpoint.trainer
    assert load_checkpoint(tmp_path / "runs" / "best").trainer is None
    own, other = TorchEncoder(checkpoint), TorchEncoder(loaded)
    assert (own.queries(TEXTS) == other.queries(TEXTS)).all()
    assert (own.locations([120.2], [30.3]) == other.locations([120.2], [30.3])).all()


@pytest.mark.parametrize("parts", [("query",), ("poi", "location"), ("query", "poi", "location")])
@pytest.mark.parametrize("location_encoder", ["mlp", "fourier"])
def test_the_parts_that_are_asked_for(tmp_path: Path, parts: tuple[str, ...], location_encoder: str) -> None:
    """The same vectors, without a number drawn; what was left out takes no memory and says so."""
    checkpoint = toy_checkpoint(location_encoder=location_encoder, pooling="pooler")
    save_checkpoint(tmp_path / "last", checkpoint)
    state = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path / "last", parts=parts)
    assert torch.equal(torch.get_rng_state(), state)
    wanted = checkpoint.model.state_dict()
    found = loaded.model.state_dict()
    assert set(found) == {name for name in wanted if name.startswith(tuple(PARTS[part] for part in parts))}
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    own, other = TorchEncoder(checkpoint), TorchEncoder(loaded)
    calls: dict[str, Callable[[TorchEncoder], Any]] = {
        "query": lambda e: e.queries(TEXTS),
        "poi": lambda e: e.poi_texts(TEXTS),
    }
    calls["location"] = lambda e: e.locations([120.2], [30.3])
    for part, call in calls.items():
        if part in parts:
            assert (call(own) == call(other)).all()
        else:
            with pytest.raises(RuntimeError, match="not loaded"):
                call(other)


def test_parts_of_format_1_and_of_a_published_file(tmp_path: Path, saved: Path) -> None:
    model = toy_checkpoint().model
    shutil.copytree(saved / "query_encoder", tmp_path / "old" / "text_encoder")
    save_file(model.state_dict(), tmp_path / "old" / "model.safetensors")
    meta = {"format": 1, "settings": model.settings.to_json()}
    (tmp_path / "old" / "m3gal.json").write_text(json.dumps(meta))
    torch.save({"epoch": 1, "state_dict": model.state_dict(), "optimizer": {}}, tmp_path / "x.pth.tar")
    for loaded in (
        load_checkpoint(tmp_path / "old", parts=("query",)),
        load_published(tmp_path / "x.pth.tar", str(saved / "query_encoder"), ModelSettings(), ("query",)),
    ):
        assert same_weights(loaded.model.encoder_q, model.encoder_q)
        assert len(loaded.model.state_dict()) == len(model.encoder_q.state_dict())


def test_each_weight_is_stored_once_as_float32_that_all_may_read(saved: Path) -> None:
    found = {name: value for file in FILES for name, value in load_file(saved / file).items()}
    model = toy_checkpoint().model
    numbers = sum(value.numel() for file in FILES for value in load_file(saved / file).values())
    assert numbers == sum(value.numel() for value in model.state_dict().values())
    assert {t.dtype for t in found.values()} == {torch.float32}
    assert {path.stat().st_mode & 0o777 for path in saved.rglob("*.safetensors")} == {0o644}
    assert set(saved.rglob("*.safetensors")) == {saved / file for file in FILES}
    assert not (saved / "trainer.pt").exists()


def test_nothing_is_replaced(saved: Path) -> None:
    with pytest.raises(InputError, match=r"cannot save the checkpoint \(the name is taken\)") as caught:
        save_checkpoint(saved, toy_checkpoint(seed=1))
    assert caught.value.where == str(saved)
    assert os.listdir(saved.parent) == ["last"]
    assert same_weights(load_checkpoint(saved).model, toy_checkpoint().model)


@pytest.mark.parametrize("settings", [{}, {"append_sep": False, "location_encoder": "fourier", "pooling": "pooler"}])
def test_format_1_is_still_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    """The layout of before: all weights in one file, one folder for config and tokenizer."""
    checkpoint = toy_checkpoint(**settings)
    save_file(checkpoint.model.state_dict(), tmp_path / "model.safetensors")
    checkpoint.model.encoder_q.text_encoder.config.save_pretrained(tmp_path / "text_encoder")
    checkpoint.tokenizer.save_pretrained(tmp_path / "text_encoder")
    torch.save({"m_location": 0.5}, tmp_path / "trainer.pt")
    meta = {"format": 1, "stage": "pretrain", "epoch": 3, "step": 41, "metrics": {"fused.recall@1": 0.25}}
    (tmp_path / "m3gal.json").write_text(json.dumps(meta | {"settings": checkpoint.model.settings.to_json()}))
    loaded = load_checkpoint(tmp_path, with_trainer=True)
    assert same_weights(loaded.model, checkpoint.model)
    assert (loaded.stage, loaded.epoch, loaded.step, loaded.metrics) == ("pretrain", 3, 41, meta["metrics"])
    assert loaded.trainer == {"m_location": 0.5}
    assert (TorchEncoder(loaded).queries(TEXTS) == TorchEncoder(checkpoint).queries(TEXTS)).all()
    save_checkpoint(tmp_path / "new", loaded)
    assert same_weights(load_checkpoint(tmp_path / "new").model, checkpoint.model)


def test_a_link_that_is_switched_while_one_reads_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training saves anew and removes what we read: the new one is read then, whole."""
    new = toy_checkpoint(seed=1)
    save_checkpoint(tmp_path / "a", toy_checkpoint())
    (tmp_path / "last").symlink_to("a")
    read = module.read_weights

    def slow(*given: Any) -> Any:
        if (tmp_path / "a").exists():
            save_checkpoint(tmp_path / "b", new)
            (tmp_path / "last").unlink()
            (tmp_path / "last").symlink_to("b")
            shutil.rmtree(tmp_path / "a")
        return read(*given)

    monkeypatch.setattr(module, "read_weights", slow)
    loaded = load_checkpoint(tmp_path / "last")
    assert same_weights(loaded.model, new.model)
    assert loaded.path == tmp_path / "last"


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def no_tokenizer(*_: Any, **__: Any) -> None:
    raise Exception("No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("where", "name", "stand_in"),
    [
        (module.torch, "save", full_disk),
        (layout, "save_file", full_disk),
        (Path, "rename", full_disk),
        (os, "fsync", full_disk),
        (PreTrainedTokenizerFast, "save_pretrained", no_tokenizer),
    ],
    ids=["trainer state", "weights", "last rename", "sync", "tokenizer"],
)
def test_a_failed_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, stand_in: Callable[..., Any]
) -> None:
    new = toy_checkpoint(seed=1)
    new.trainer = {"m_location": 1.0}
    monkeypatch.setattr(where, name, stand_in)
    with pytest.raises(InputError, match=r"cannot save the checkpoint.*No space left") as caught:
        save_checkpoint(tmp_path / "last", new)
    assert caught.value.where == str(tmp_path / "last")
    assert os.listdir(tmp_path) == []


def test_an_interrupted_save_leaves_no_checkpoint_and_does_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    new = toy_checkpoint(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "publish_folder", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "last", new)
    assert not (tmp_path / "last").exists()
    save_checkpoint(tmp_path / "last", new)
    assert same_weights(load_checkpoint(tmp_path / "last").model, new.model)
    assert os.listdir(tmp_path) == ["last"]


def test_no_checkpoint(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "none", "no such checkpoint"), (tmp_path, "is no checkpoint")):
        with pytest.raises(InputError, match=words):
            load_checkpoint(path)


def cut(name: str, share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: int(share * len(content))])

    return damage


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        meta = json.loads((path / "m3gal.json").read_text(encoding="utf-8"))
        (path / "m3gal.json").write_text(json.dumps(change(meta) or meta), encoding="utf-8")

    return damage


def other_width(path: Path) -> None:
    save_checkpoint(path.with_name("wide"), toy_checkpoint(hidden=32))
    shutil.copy(path.with_name("wide") / WEIGHTS_FILES[1], path / WEIGHTS_FILES[1])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        *((cut(file, share), "damaged") for file in WEIGHTS_FILES for share in (0.0, 0.001, 0.5, 0.9999)),
        *((lambda path, file=file: (path / file).unlink(), "damaged") for file in WEIGHTS_FILES),
        *((cut("m3gal.json", share), "damaged") for share in (0.0, 0.5)),
        (edit(lambda meta: meta.update(format=3)), "format 3, this m3gal reads 1 and 2"),
        (edit(lambda meta: meta.update(format=1)), "damaged"),
        (edit(lambda meta: meta.pop("settings") and None), "damaged"),
        (edit(lambda meta: [meta]), "damaged"),
        (edit(lambda meta: meta["settings"].update(colour="blue")), "damaged"),
        (edit(lambda meta: meta["settings"].update(normalizer=None)), "damaged"),
        (edit(lambda meta: meta["settings"].update(location_encoder="fourier")), r"gc_encoder"),
        (lambda path: (path / "query_encoder" / "config.json").unlink(), "no config.json"),
        (lambda path: shutil.rmtree(path / "query_encoder"), "damaged"),
        (lambda path: shutil.rmtree(path / "location_encoder"), "damaged"),
        (lambda path: (path / "query_encoder" / "tokenizer.json").write_text("{}"), "cannot load the text encoder"),
        (other_width, r"another width: .* is \(.*32,?\), the encoder's is \(.*16,?\) "),
    ],
)
def test_bad_checkpoints(saved: Path, damage: Callable[[Path], Any], words: str) -> None:
    damage(saved)
    with pytest.raises(InputError, match=words) as caught:
        load_checkpoint(saved)
    assert str(saved) in caught.value.render()
    assert caught.value.hint


class Foreign:
    """Unpickled carelessly, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_foreign_code_is_not_run(saved: Path, tmp_path: Path, legacy: bool) -> None:
    content = {"epoch": 1, "state_dict": Foreign(tmp_path / "run"), "queue": torch.zeros(2)}
    for path in (tmp_path / "x.pth.tar", saved / "trainer.pt"):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    for load in (
        lambda: read_torch(tmp_path / "x.pth.tar"),
        lambda: load_published(tmp_path / "x.pth.tar", str(saved / "query_encoder"), ModelSettings()),
        lambda: load_checkpoint(saved, with_trainer=True),
    ):
        with pytest.raises(InputError, match="foreign code"):
            load()
    assert not (tmp_path / "run").exists()
    torch.load(tmp_path / "x.pth.tar", weights_only=False)
    assert (tmp_path / "run").is_dir(), "the file would have run code, had it been let"


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_any_damage_to_a_torch_file_is_an_input_error(tmp_path: Path, legacy: bool) -> None:
    path, draw = tmp_path / "x.pth.tar", random.Random(5)
    torch.save({"state_dict": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=not legacy)
    content, refused = path.read_bytes(), 0
    for length in range(0, len(content), 1 + len(content) // 150):
        path.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_torch(path)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            read_torch(path)
        except InputError:
            refused += 1
    assert refused > 20
    with pytest.raises(InputError, match="no such checkpoint"):
        read_torch(tmp_path / "none.pth.tar")


@pytest.fixture
def published(tmp_path: Path, saved: Path) -> tuple[Path, Checkpoint]:
    """A file of the published form, and what was written."""
    checkpoint = toy_checkpoint(seed=2)
    checkpoint.epoch = 7
    queue = {"queue": torch.randn(16, 4), "gc_queue": torch.randn(16, 4), "queue_ptr": torch.tensor([2])}
    save_published(tmp_path / "x.pth.tar", checkpoint, queue | {"filled": torch.tensor([4])}, {"state": {0: 1}})
    checkpoint.trainer = {"queue": queue, "published_optimizer": {"state": {0: 1}}}
    return tmp_path / "x.pth.tar", checkpoint


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_form_comes_back(saved: Path, published: tuple[Path, Checkpoint], prefix: str) -> None:
    """Also with the names that data-parallel training gives, and the constant that old transformers saved."""
    path, checkpoint = published
    content = torch.load(path, weights_only=True)
    assert set(content) == {"epoch", "arch", "state_dict", "optimizer"}
    content["state_dict"]["encoder_q.text_encoder.embeddings.position_ids"] = torch.arange(512)
    content["state_dict"] = {prefix + name: value for name, value in content["state_dict"].items()}
    torch.save(content, path)
    loaded = load_published(path, str(saved / "query_encoder"), checkpoint.model.settings)
    assert same_weights(loaded.model, checkpoint.model)
    assert loaded.epoch == 7
    queue, wanted = loaded.trainer.pop("queue"), checkpoint.trainer.pop("queue")
    assert set(queue) == set(wanted)
    assert all(torch.equal(queue[name], wanted[name]) for name in wanted)
    assert loaded.trainer == checkpoint.trainer


@pytest.mark.parametrize("pooling", ["pooler", "mean"])
def test_a_missing_pooler_matters_only_where_it_is_used(
    saved: Path, published: tuple[Path, Checkpoint], pooling: str
) -> None:
    path, _ = published
    content = torch.load(path, weights_only=True)
    content["state_dict"] = {k: v for k, v in content["state_dict"].items() if ".pooler." not in k}
    torch.save(content, path)
    settings = ModelSettings(pooling=pooling)
    if pooling == "mean":
        loaded = load_published(path, str(saved / "query_encoder"), settings)
        assert torch.equal(loaded.model.state_dict()[WEIGHTS], content["state_dict"][WEIGHTS])
    else:
        with pytest.raises(InputError, match=r"lacks weights: encoder_q\.text_encoder\.pooler"):
            load_published(path, str(saved / "query_encoder"), settings)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "no state_dict"),
        ({"epoch": 1}, "no state_dict"),
        ({"state_dict": {WEIGHTS: 3}}, "no state_dict of tensors"),
        ({"state_dict": {3: "four"}}, "no state_dict of tensors"),
        ({"state_dict": {}}, "lacks weights"),
        ({"state_dict": {WEIGHTS: torch.zeros(5, 768)}}, r"another width: .* is \(5, 768\)"),
        ({"state_dict": {"encoder_q.colour": torch.zeros(1)}}, "has unknown weights: encoder_q.colour"),
    ],
)
def test_bad_published_files(saved: Path, published: tuple[Path, Checkpoint], content: Any, words: str) -> None:
    path, _ = published
    if "unknown" in words:
        content["state_dict"] |= torch.load(path, weights_only=True)["state_dict"]
    torch.save(content, path)
    with pytest.raises(InputError, match=words) as caught:
        load_published(path, str(saved / "query_encoder"), ModelSettings())
    assert caught.value.where == str(path)


def test_a_failed_save_of_the_published_form_leaves_the_old_file(
    published: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, checkpoint = published
    content = path.read_bytes()

    def half(_: Any, target: Path) -> None:
        target.write_bytes(b"half")
        full_disk()

    monkeypatch.setattr(module.torch, "save", half)
    with pytest.raises(InputError, match="No space left"):
        save_published(path, checkpoint, {}, {})
    assert path.read_bytes() == content
    assert sorted(os.listdir(path.parent)) == ["last", "x.pth.tar"]
