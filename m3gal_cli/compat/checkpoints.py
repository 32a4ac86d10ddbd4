"""Read and write checkpoint files of the published code (``.pth.tar``)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3gal_cli.core.checkpoint import Checkpoint, build_model, load_weights, read_torch, unsaved, weight_prefixes
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import load_tokenizer
from m3gal_cli.errors import InputError
from m3gal_cli.files import sync_to_disk

QUEUE_NAMES = ("queue", "gc_queue", "queue_ptr")


def load_published(
    path: Path, text_encoder: str, settings: ModelSettings, parts: Collection[str] | None = None
) -> Checkpoint:
    """Read a checkpoint file of the published code: ``{epoch, state_dict, optimizer}``.

    Its queue, pointer and optimizer come back in ``trainer`` under ``queue`` and ``published_optimizer``.

    Args:
        text_encoder: directory or hub name that gives the encoder's config and tokenizer; the weights are the file's.
        settings: the file knows none; the published ones are pooler, no [SEP], mlp and the published z-score.
        parts: as for ``load_checkpoint``.

    Raises:
        InputError: truncated, foreign code in the pickle, or weights of another width.
    """
    loaded = read_torch(path)
    state = loaded.get("state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError("is no checkpoint of the published code (no state_dict of tensors)", where=path)
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    model = build_model(text_encoder, settings, parts)
    weights = {
        k: v for k, v in state.items() if k.startswith(weight_prefixes(parts)) and not k.endswith(".position_ids")
    }
    load_weights(model, weights, path)
    queue = {name: state[name] for name in QUEUE_NAMES if name in state}
    trainer = {"queue": queue, "published_optimizer": loaded.get("optimizer")}
    return Checkpoint(model, load_tokenizer(text_encoder), path, epoch=int(loaded.get("epoch", 0)), trainer=trainer)


def save_published(path: Path, checkpoint: Checkpoint, queue: dict[str, Tensor], optimizer: dict[str, Any]) -> None:
    """Write the published code's file form (atomically), for its scripts and for whoever compares with them."""
    state: dict[str, Tensor] = {name: queue[name] for name in QUEUE_NAMES if name in queue}
    state |= checkpoint.model.state_dict()
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        content = {"epoch": checkpoint.epoch, "arch": "m3gal", "state_dict": state, "optimizer": optimizer}
        torch.save(content, temporary)
        sync_to_disk(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise unsaved(error, path) from error
