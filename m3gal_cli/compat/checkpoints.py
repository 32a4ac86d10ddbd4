"""Read and write checkpoint files of the published code (``.pth.tar``)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3gal_cli.core.checkpoint import Checkpoint, build_model, load_weights, read_torch, save_error, weight_prefixes
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import load_tokenizer
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path

QUEUE_NAMES = ("queue", "gc_queue", "queue_ptr")


def load_published(
    path: Path, text_encoder: str, settings: ModelSettings, parts: Collection[str] | None = None
) -> Checkpoint:
    """Read a checkpoint file of the published code: a dict of epoch, state_dict and optimizer.

    Args:
        path: The file.
        text_encoder: Directory or hub name that gives the configuration and the tokenizer of the text encoder.
        settings: Model settings, which the file does not contain.
        parts: Encoders to load, as for ``load_checkpoint``.

    Returns:
        The checkpoint. Its ``trainer`` has the entries ``queue`` and ``published_optimizer``.

    Raises:
        InputError: The file is damaged, contains foreign code, or has other weights than the model.
    """
    loaded = read_torch(path)
    state = loaded.get("state_dict") if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError("not a checkpoint of the published code (it has no state_dict of tensors)", where=path)
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
    """Write a checkpoint file that the scripts of the published code read, atomically. Raises InputError."""
    state = {name: queue[name] for name in QUEUE_NAMES if name in queue} | checkpoint.model.state_dict()
    content = {"epoch": checkpoint.epoch, "arch": "m3gal", "state_dict": state, "optimizer": optimizer}
    try:
        with atomic_path(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # torch raises it for a full disk
        raise save_error(error, path) from error
