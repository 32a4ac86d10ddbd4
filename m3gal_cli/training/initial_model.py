"""From settings to a model: a checkpoint, a transformers encoder, or a small encoder from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from m3gal_cli.compat.checkpoint_sources import model_settings
from m3gal_cli.config.schema import Config, NormalizerConfig
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import Normalizer
from m3gal_cli.core.text_encoder import build_text_model, load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import small_config, train_tokenizer
from m3gal_cli.errors import InputError


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
