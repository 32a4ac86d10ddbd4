"""Load a model: a checkpoint of m3gal or a file of the published code. Importing this module imports no torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.compat.checkpoint_sources import published_poi_sources, published_settings
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.encoders.checkpoint_lookup import find_checkpoint
from m3gal_cli.encoders.fingerprint import Fingerprint

if TYPE_CHECKING:
    from m3gal_cli.core.checkpoint import Checkpoint

# Files of a checkpoint on which its vectors do not depend.
NO_MODEL_FILES = {"trainer.pt", "README.md", "online.safetensors", "reranker.safetensors"}
NO_MODEL_FILES |= {"reranker_examples.safetensors"}  # of the packaged model
NO_MODEL_FILES |= {"reranker.json", "hybrid.json"}  # of earlier versions


def model_fingerprint(path: Path, config: Config) -> Fingerprint:
    """Return the fingerprint of a checkpoint directory, or of a published file with the settings of ``config``."""
    if path.is_dir():
        paths = sorted(p for p in path.resolve().rglob("*") if p.is_file())
        files = [p for p in paths if p.name not in NO_MODEL_FILES and "onnx" not in p.parent.name]
        return Fingerprint(tuple(files))
    source, model_settings = published_settings(path, config)
    files = sorted(p for p in Path(source).glob("*") if p.is_file())
    settings: dict[str, Any] = {"settings": model_settings.to_json()}
    return Fingerprint((path, *files), settings if files else settings | {"text_encoder": source})


def poi_fingerprint(path: Path, config: Config) -> Fingerprint:
    """Return the fingerprint of the parts of a model on which the vectors of POIs depend; see ``model_fingerprint``."""
    if path.is_dir():
        files, settings = poi_sources(path)
    else:
        files, settings = published_poi_sources(path, *published_settings(path, config))
    return Fingerprint(tuple(files), settings)


def open_checkpoint(
    path: Path, config: Config, with_trainer: bool = False, parts: Collection[str] | None = None
) -> Checkpoint:
    """Load a checkpoint of m3gal (run or checkpoint directory) or of the published code (.pth.tar).

    A published file stores neither its text encoder nor its settings: they are those of ``config``, except that the
    published z-score replaces ``model.normalizer: fit``.

    Args:
        path: See ``find_checkpoint``.
        config: Settings for a published file. The profile paper.yaml holds the published ones.
        with_trainer: Read also the trainer state of a checkpoint directory.
        parts: Encoders to load, of ``PARTS``; None: all four.

    Raises:
        InputError: The checkpoint is missing, damaged, or does not fit its settings.
    """
    from m3gal_cli.compat.checkpoints import load_published
    from m3gal_cli.core.checkpoint import load_checkpoint

    path = find_checkpoint(path)
    if path.is_dir():
        return load_checkpoint(path, with_trainer, parts)
    return load_published(path, *published_settings(path, config), parts)
