"""Settings and source files of a published checkpoint file. Imports no torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3gal_cli.config.schema import Config, ModelConfig, NormalizerConfig
from m3gal_cli.core.checkpoint_layout import text_files
from m3gal_cli.core.model_settings import PUBLISHED_NORMALIZER, ModelSettings, Normalizer
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


def published_poi_sources(path: Path, text_encoder: str, settings: ModelSettings) -> tuple[list[Path], dict[str, Any]]:
    """As ``poi_sources``, of a checkpoint file of the published code."""
    folder = Path(text_encoder)
    known = {name: value for name, value in settings.to_json().items() if name != "query_prefix"}
    if folder.is_dir():
        return [path.resolve(), *text_files(folder)], {"settings": known}
    return [path.resolve()], {"settings": known, "text_encoder": text_encoder}
