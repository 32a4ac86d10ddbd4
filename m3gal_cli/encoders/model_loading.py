"""Open a checkpoint: one of m3gal, or a file of the published code. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.compat.checkpoint_sources import published_poi_sources, published_settings
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.encoders.checkpoint_lookup import find_checkpoint

if TYPE_CHECKING:
    from m3gal_cli.core.checkpoint import Checkpoint


def poi_sources_of(path: Path, config: Config) -> tuple[list[Path], dict[str, Any]]:
    """Files and settings that the vectors of POIs come from, for a checkpoint that ``open_checkpoint`` opens."""
    if path.is_dir():
        return poi_sources(path)
    return published_poi_sources(path, *published_settings(path, config))


def open_checkpoint(
    path: Path, config: Config, with_trainer: bool = False, parts: Collection[str] | None = None
) -> Checkpoint:
    """A checkpoint of ours (run or checkpoint directory) or of the published code (.pth.tar).

    A published file knows neither its text encoder nor its settings: they come from ``config`` (profile paper.yaml has
    the published ones), its z-score from there or, where that says fit, the published constants. ``parts`` as for
    ``load_checkpoint``. Raises InputError.
    """
    from m3gal_cli.compat.checkpoints import load_published
    from m3gal_cli.core.checkpoint import load_checkpoint

    found = find_checkpoint(path)
    if found.is_dir():
        return load_checkpoint(found, with_trainer, parts)
    return load_published(found, *published_settings(found, config), parts)
