"""Model settings and source files of a checkpoint file of the published code. This module imports no torch."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from m3gal_cli.config.schema import Config, ModelConfig, NormalizerConfig
from m3gal_cli.core.checkpoint_layout import text_files
from m3gal_cli.core.model_settings import PUBLISHED_NORMALIZER, ModelSettings, Normalizer
from m3gal_cli.errors import InputError


def model_settings(model: ModelConfig, normalizer: Normalizer) -> ModelSettings:
    """Return the settings of a new model; the configuration has fields of the same names."""
    names = {field.name for field in fields(ModelSettings)} - {"normalizer"}
    return ModelSettings(**{name: getattr(model, name) for name in names}, normalizer=normalizer)


def published_settings(path: Path, config: Config) -> tuple[str, ModelSettings]:
    """Return text encoder and settings, which a published file lacks, from the configuration. Raises InputError."""
    source = config.model.text_encoder
    if source is None or source == "scratch":
        what = "a published checkpoint file has weights, but no configuration and no tokenizer"
        raise InputError(what, where=path, hint="Give --text-encoder DIRECTORY.")
    given, normalizer = config.model.normalizer, PUBLISHED_NORMALIZER
    if isinstance(given, NormalizerConfig):
        normalizer = Normalizer(given.lng_mean, given.lng_std, given.lat_mean, given.lat_std)
    return source, model_settings(config.model, normalizer)


def published_poi_sources(path: Path, text_encoder: str, settings: ModelSettings) -> tuple[list[Path], dict[str, Any]]:
    """Return the files and the settings that determine the POI vectors of a published checkpoint file."""
    folder = Path(text_encoder)
    known = {name: value for name, value in settings.to_json().items() if name != "query_prefix"}
    if folder.is_dir():
        return [path.resolve(), *text_files(folder)], {"settings": known}
    return [path.resolve()], {"settings": known, "text_encoder": text_encoder}
