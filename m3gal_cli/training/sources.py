"""What a model is made from, by the settings. Imports no torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3gal_cli.config.schema import Config, ModelConfig, NormalizerConfig
from m3gal_cli.core.files import poi_sources, published_poi_sources
from m3gal_cli.core.settings import PUBLISHED_NORMALIZER, ModelSettings, Normalizer
from m3gal_cli.errors import InputError


def model_settings(model: ModelConfig, normalizer: Normalizer) -> ModelSettings:
    """The settings that a new model is built with."""
    return ModelSettings(
        pooling=model.pooling,
        append_sep=model.append_sep,
        max_length=model.max_length,
        query_prefix=model.query_prefix,
        passage_prefix=model.passage_prefix,
        location_encoder=model.location_encoder,
        fourier_min_m=model.fourier_min_m,
        fourier_max_m=model.fourier_max_m,
        location_weight=model.location_weight,
        normalizer=normalizer,
    )


def poi_sources_of(path: Path, config: Config) -> tuple[list[Path], dict[str, Any]]:
    """Files and settings that the vectors of POIs come from, for a checkpoint that ``open_checkpoint`` opens."""
    if path.is_dir():
        return poi_sources(path)
    return published_poi_sources(path, *published_settings(path, config))


def published_settings(path: Path, config: Config) -> tuple[str, ModelSettings]:
    """Text encoder and settings of a published file. Raises InputError."""
    source = config.model.text_encoder
    if source is None or source == "scratch":
        hint = (
            "Give --text-encoder DIRECTORY: a published checkpoint file holds weights, but no config and no tokenizer."
        )
        raise InputError("which text encoder?", where=path, hint=hint)
    given = config.model.normalizer
    normalizer = PUBLISHED_NORMALIZER
    if isinstance(given, NormalizerConfig):
        normalizer = Normalizer(given.lng_mean, given.lng_std, given.lat_mean, given.lat_std)
    return source, model_settings(config.model, normalizer)
