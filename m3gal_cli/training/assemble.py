"""From settings to a model: a checkpoint, a transformers encoder, or a small encoder from scratch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from m3gal_cli.config.schema import Config, NormalizerConfig
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint, load_published
from m3gal_cli.core.cross import CrossEncoder, CrossSettings, has_types
from m3gal_cli.core.cross_checkpoint import CrossCheckpoint, load_cross
from m3gal_cli.core.files import CROSS_ENCODER, kind_of
from m3gal_cli.core.model import M3gal
from m3gal_cli.core.scratch import small_config, train_tokenizer
from m3gal_cli.core.settings import Normalizer
from m3gal_cli.core.text import build_text_model, load_text_model, load_tokenizer
from m3gal_cli.errors import InputError
from m3gal_cli.training.finding import find_checkpoint
from m3gal_cli.training.sources import model_settings, published_settings


@dataclass(frozen=True)
class TrainingTable:
    """What a new model may learn before its first step: places for the z-score, texts for a vocabulary."""

    lng: NDArray[np.float64]
    lat: NDArray[np.float64]
    texts: Sequence[str]


def new_model(config: Config, table: TrainingTable) -> Checkpoint:
    """A model that has not been trained. Query and key encoders start equal. Raises InputError."""
    torch.manual_seed(config.seed)
    given = config.model.normalizer
    if isinstance(given, NormalizerConfig):
        normalizer = Normalizer(given.lng_mean, given.lng_std, given.lat_mean, given.lat_std)
    else:
        normalizer = Normalizer.fit(table.lng, table.lat)
    settings = model_settings(config.model, normalizer)
    text_model, tokenizer = _text_model(config, table.texts)
    return Checkpoint(M3gal(text_model, settings), tokenizer)


def _text_model(config: Config, texts: Sequence[str]) -> tuple[nn.Module, Any]:
    """The encoder that ``model.text_encoder`` names, and its tokenizer. Raises InputError."""
    source = config.model.text_encoder
    if source is None:
        hint = "Give --text-encoder DIRECTORY, a hub name, or scratch (small, with its own vocabulary)."
        raise InputError("no text encoder", hint=hint)
    if source == "scratch":
        scratch = config.model.scratch
        if scratch.hidden % scratch.heads:
            what = f"model.scratch.hidden {scratch.hidden} is no multiple of model.scratch.heads {scratch.heads}"
            raise InputError(what, hint="Choose e.g. 128 and 4.")
        tokenizer = train_tokenizer(texts, scratch.vocab_size)
        shape = small_config(len(tokenizer), scratch.hidden, scratch.layers, scratch.heads, scratch.dropout)
        return build_text_model(shape), tokenizer
    tokenizer = load_tokenizer(source)
    return load_text_model(source), tokenizer


def cross_checkpoint(source: Path | None, config: Config, texts: Sequence[str]) -> CrossCheckpoint:
    """The cross-encoder to train: one that was trained before, or a new one on another's text encoder.

    Args:
        source: run or checkpoint of a cross-encoder, or of a bi-encoder, whose query encoder is taken; None: the
            encoder that ``model.text_encoder`` names.
        texts: a vocabulary from scratch is trained on these.

    Raises:
        InputError: no such encoder, or one that cannot be read.
    """
    found = None if source is None else find_checkpoint(source)
    if found is not None and kind_of(found) == CROSS_ENCODER:
        return load_cross(found, with_trainer=True)
    torch.manual_seed(config.seed)
    if found is None:
        text_model, tokenizer = _text_model(config, texts)
    else:
        start = open_checkpoint(found, config, parts=("query",))
        text_model, tokenizer = start.model.encoder_q.text_encoder, start.tokenizer
    types = has_types(tokenizer, text_model.config)
    settings = CrossSettings(config.model.pooling, config.model.max_length, types)
    return CrossCheckpoint(CrossEncoder(text_model, settings), tokenizer)


def open_cross(path: Path) -> CrossCheckpoint:
    """A cross-encoder by its run (its best checkpoint) or checkpoint directory. Raises InputError."""
    return load_cross(find_checkpoint(path))


def open_checkpoint(
    path: Path, config: Config, with_trainer: bool = False, parts: Collection[str] | None = None
) -> Checkpoint:
    """A checkpoint of ours (run or checkpoint directory) or of the published code (.pth.tar).

    A published file knows neither its text encoder nor its settings: they come from ``config`` (profile paper.yaml has
    the published ones), its z-score from there or, where that says fit, the published constants. ``parts`` as for
    ``load_checkpoint``. Raises InputError.
    """
    found = find_checkpoint(path)
    if found.is_dir():
        return load_checkpoint(found, with_trainer, parts)
    return load_published(found, *published_settings(found, config), parts)
