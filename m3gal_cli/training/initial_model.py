"""Build the model that a training starts from: with a packaged, a transformers or a new text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
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
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.errors import InputError

# Settings that belong to a trained text encoder.
TEXT_SETTINGS = ("pooling", "append_sep", "max_length", "query_prefix", "passage_prefix")


def new_model(config: Config, lng: NDArray[np.float64], lat: NDArray[np.float64], texts: Sequence[str]) -> Checkpoint:
    """Build an untrained model. The query encoders and the key encoders start equal.

    Args:
        config: Settings; ``model.text_encoder`` names the text encoder. Without it, the text encoder, its pooling,
            prefixes and length are those of the packaged model; the location encoder is new.
        lng: Longitudes of the training table, degrees; the z-score of the location encoder is fitted on them.
        lat: Latitudes of the training table, degrees.
        texts: Texts of the training table; the vocabulary of ``scratch`` is trained on them.

    Raises:
        InputError: The text encoder cannot be loaded.
    """
    torch.manual_seed(config.seed)
    fixed = config.model.normalizer
    if isinstance(fixed, NormalizerConfig):
        normalizer = Normalizer(fixed.lng_mean, fixed.lng_std, fixed.lat_mean, fixed.lat_std)
    else:
        normalizer = Normalizer.fit(lng, lat)
    settings, source = model_settings(config.model, normalizer), config.model.text_encoder
    if source is None:
        packaged = open_checkpoint(Path(PACKAGED), config, parts=("query",))
        own = {name: getattr(packaged.model.settings, name) for name in TEXT_SETTINGS}
        model = M3gal(packaged.model.encoder_q.text_encoder, replace(settings, **own))
        return Checkpoint(model, packaged.tokenizer, packaged.path, data=packaged.data)
    text_model, tokenizer = _text_model(config, source, texts)
    return Checkpoint(M3gal(text_model, settings), tokenizer)


def _text_model(config: Config, source: str, texts: Sequence[str]) -> tuple[nn.Module, Any]:
    """Return the text encoder of a directory, a hub name or ``scratch``, and its tokenizer."""
    if source == "scratch":
        scratch = config.model.scratch
        if scratch.hidden % scratch.heads:
            what = f"model.scratch.hidden {scratch.hidden} is not a multiple of model.scratch.heads {scratch.heads}"
            raise InputError(what, hint="Choose e.g. --set model.scratch.hidden=128 --set model.scratch.heads=4.")
        tokenizer = train_tokenizer(texts, scratch.vocab_size)
        shape = small_config(len(tokenizer), scratch.hidden, scratch.layers, scratch.heads, scratch.dropout)
        return build_text_model(shape), tokenizer
    tokenizer = load_tokenizer(source)
    return load_text_model(source), tokenizer
