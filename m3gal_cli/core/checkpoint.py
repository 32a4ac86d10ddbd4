"""Checkpoint directories. Inference weights (safetensors and JSON) are apart from the trainer state.

CHECKPOINT/
  query_encoder/, poi_encoder/, location_encoder/   the encoders, which other libraries can open (see checkpoint_parts)
  README.md    model card
  trainer.pt   queue, optimiser and RNG states; read weights-only
  m3gal.json   format version, model settings, stage, epoch, step, metrics, training data; written last
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from m3gal_cli.core.bi_encoder import PARTS, M3gal
from m3gal_cli.core.checkpoint_layout import (
    CARD_FILE,
    FORMATS,
    META_FILE,
    WRITTEN_FORMAT,
    check_kind,
    is_checkpoint,
    read_checked_meta,
    text_folder,
)
from m3gal_cli.core.checkpoint_parts import read_weights, write_parts
from m3gal_cli.core.model_card import TrainingData, model_card
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model, load_text_config, load_tokenizer, skip_weight_init
from m3gal_cli.errors import InputError
from m3gal_cli.files import publish_folder, write_json

TRAINER_FILE = "trainer.pt"
ALL_PARTS = (*PARTS.values(), "gc_encoder.")


@dataclass
class Checkpoint:
    """A model, its tokenizer and the state of its training.

    Args:
        model: The bi-encoder with its settings.
        tokenizer: A transformers tokenizer.
        path: Where it was read from.
        stage: ``pretrain`` or ``finetune``; None: not trained.
        epoch: Number of epochs begun.
        step: Number of optimiser steps.
        metrics: Last validation, as ``{"fused.recall@1": value}``.
        trainer: State that a resumed training needs: queue, optimiser, RNG.
        data: Licence, attribution and languages of the training data, for the model card.
    """

    model: M3gal
    tokenizer: Any
    path: Path | None = None
    stage: str | None = None
    epoch: int = 0
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    trainer: dict[str, Any] | None = None
    data: TrainingData = field(default_factory=TrainingData)

    def write(self, folder: Path) -> None:
        """Write all files of a checkpoint directory. Raises OSError, SafetensorError or RuntimeError."""
        write_parts(folder, self.model, self.tokenizer)
        if self.trainer is not None:
            torch.save(self.trainer, folder / TRAINER_FILE)
        meta: dict[str, Any] = {"format": WRITTEN_FORMAT, "stage": self.stage, "epoch": self.epoch, "step": self.step}
        meta |= {"metrics": self.metrics, "settings": self.model.settings.to_json(), "data": asdict(self.data)}
        (folder / CARD_FILE).write_text(model_card(self.model, self.tokenizer, meta), encoding="utf-8")
        write_json(folder / META_FILE, meta)  # last: it makes the folder a checkpoint


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint directory atomically. Raises InputError if ``path`` exists or the disk is full."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        checkpoint.write(temporary)
        publish_folder(temporary, path)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise save_error(error, path) from error


def save_error(error: Exception, path: Path) -> InputError:
    """Return the InputError of a failed save."""
    reason = " ".join((getattr(error, "strerror", None) or str(error)).split())[:160]
    return InputError(f"cannot save the checkpoint ({reason})", where=path, hint="Free space and resume.")


def load_checkpoint(path: Path, with_trainer: bool = False, parts: Collection[str] | None = None) -> Checkpoint:
    """Read a checkpoint directory of this or an older format.

    Args:
        path: Checkpoint directory, or a link to one.
        with_trainer: Read also the trainer state.
        parts: Encoders to load for inference, of ``PARTS``; None: all, for training.

    Raises:
        InputError: Files are missing, truncated or foreign, or the weights do not fit the settings.
    """
    folder = path.resolve()
    try:
        return _load(path, folder, with_trainer, parts)
    except InputError:
        if path.resolve() == folder:
            raise
        return load_checkpoint(path, with_trainer, parts)  # training replaced the folder while it was read


def _load(path: Path, folder: Path, with_trainer: bool, parts: Collection[str] | None) -> Checkpoint:
    try:
        meta = _read_meta(path, folder)
        if meta["format"] == FORMATS[-1]:
            read_checked_meta(folder)
        settings = ModelSettings.from_json(meta["settings"])
        data = TrainingData.from_json(meta.get("data"))
        state = read_weights(folder, meta["format"], weight_prefixes(parts))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        what = f"the checkpoint is damaged ({' '.join(str(error).split())[:120]})"
        raise InputError(what, where=path, hint="Use another checkpoint of the run.") from error
    text = str(text_folder(folder, meta["format"]))
    model = build_model(text, settings, parts)
    load_weights(model, state, path)
    has_trainer = with_trainer and (folder / TRAINER_FILE).exists()
    trainer = read_torch(folder / TRAINER_FILE) if has_trainer else None
    known = {name: meta.get(name) for name in ("stage", "epoch", "step", "metrics")}
    return Checkpoint(model, load_tokenizer(text), path, trainer=trainer, data=data, **known)  # type: ignore[arg-type]


def _read_meta(path: Path, folder: Path) -> dict[str, Any]:
    """Read the ``META_FILE`` of the resolved ``folder``; error messages name ``path``."""
    if not is_checkpoint(folder):
        hint = "Give a checkpoint directory, a run directory or a published .pth.tar file."
        raise InputError("no such checkpoint" if not path.exists() else "is no checkpoint", where=path, hint=hint)
    meta: dict[str, Any] = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    version = meta["format"]
    check_kind(path, meta)
    if version not in FORMATS:
        what = f"the checkpoint has format {version}, this m3gal reads {', '.join(map(str, FORMATS))}"
        raise InputError(what, where=path, hint="Load it with the m3gal that wrote it.")
    return meta


def weight_prefixes(parts: Collection[str] | None) -> tuple[str, ...]:
    """Return the prefixes of the weights of encoders, named as in ``PARTS``; None: of all four."""
    return ALL_PARTS if parts is None else tuple(PARTS[part] for part in parts)


def build_model(text_encoder: str, settings: ModelSettings, parts: Collection[str] | None) -> M3gal:
    """Build a model whose weights the caller loads afterwards.

    For inference the weights stay uninitialised, which is faster. For training (``parts`` is None) random weights are
    drawn all the same, so that a seed gives the same training as in earlier versions.
    """
    with nullcontext() if parts is None else skip_weight_init():
        return M3gal(build_text_model(load_text_config(text_encoder)), settings, parts)


def read_torch(path: Path) -> Any:
    """Read a file of tensors and plain containers without running code from it; raise InputError for any other file."""
    if not path.exists():
        raise InputError("no such checkpoint", where=path, hint="Check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        hint = "m3gal reads only tensors and plain containers; no code of the file was run. Get the file again."
        raise InputError("the checkpoint holds foreign code, or is no checkpoint", where=path, hint=hint) from error
    except Exception as error:  # for a damaged file the unpickler raises exceptions of any class
        raise InputError("cannot read the checkpoint (truncated?)", where=path, hint="Get the file again.") from error


def load_weights(model: Any, state: dict[str, Tensor], path: Path) -> None:
    """Load a state dict; raise InputError if weights are missing, unknown or of another shape.

    A pooler that the model's ``settings.pooling`` does not use may be missing or unknown.
    """
    own = model.state_dict()
    wrong = [
        f"{name} is {tuple(value.shape)}, the encoder's is {tuple(own[name].shape)}"
        for name, value in state.items()
        if name in own and value.shape != own[name].shape
    ]
    hint = "Give the --text-encoder (and model settings) that the checkpoint was trained with."
    if wrong:
        what = f"the checkpoint has another width: {wrong[0]} (and {len(wrong) - 1} more)"
        raise InputError(what, where=path, hint=hint)
    used = [name for name in (*own, *state) if model.settings.pooling == "pooler" or ".pooler." not in name]
    missing, extra = [n for n in used if n not in state], [n for n in used if n not in own]
    if missing or extra:
        word = "lacks" if missing else "has unknown"
        raise InputError(f"the checkpoint {word} weights: {', '.join((missing + extra)[:3])}…", where=path, hint=hint)
    model.load_state_dict(state, strict=False)
