"""The files of a checkpoint directory by name, and which of them decide what. Imports no torch, which takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError

META_FILE = "m3gal.json"
FORMATS = (1, 2)
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
QUERY_FOLDER, POI_FOLDER, LOCATION_FOLDER = "query_encoder", "poi_encoder", "location_encoder"
OLD_TEXT_FOLDER = "text_encoder"
NO_TEXT_FILES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".index", ".md"}


def is_checkpoint(path: Path) -> bool:
    """Whether ``path`` is one of our checkpoint directories."""
    return (path / META_FILE).is_file()


def check_kind(path: Path, meta: dict[str, Any]) -> None:
    """Raise InputError for the checkpoint of a cross-encoder, which earlier versions of m3gal trained."""
    if meta.get("kind", "bi-encoder") != "bi-encoder":
        hint = "Give a run of m3gal pretrain or m3gal finetune."
        raise InputError(f"is a {meta['kind']}, which m3gal no longer reads", where=path, hint=hint)


def text_folder(path: Path, form: int) -> Path:
    """The folder of a checkpoint that holds the text encoders' config and tokenizer."""
    return path / (OLD_TEXT_FOLDER if form == 1 else QUERY_FOLDER)


def poi_files(path: Path, form: int) -> list[Path]:
    """The files of a checkpoint directory that decide the vectors of POIs; what queries alone need is left out."""
    sides = (f"{POI_FOLDER}/{WEIGHTS_FILE}", f"{LOCATION_FOLDER}/{WEIGHTS_FILE}")
    weights = (WEIGHTS_FILE,) if form == 1 else sides
    return [*(path / name for name in weights), *text_files(text_folder(path, form))]


def text_files(folder: Path) -> list[Path]:
    """Config and tokenizer of a transformers directory: all its files but weights and what is for people."""
    hidden = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(p for p in hidden if p.suffix.lower() not in NO_TEXT_FILES)


def poi_sources(path: Path) -> tuple[list[Path], dict[str, Any]]:
    """What the vectors of POIs of one of our checkpoints come from: files, and settings. Raises InputError."""
    folder = path.resolve()
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        check_kind(path, meta)
        settings = {name: value for name, value in meta["settings"].items() if name != "query_prefix"}
        return poi_files(folder, meta["format"]), {"format": meta["format"], "settings": settings}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("cannot read the checkpoint", where=path, hint="Take another one of the run.") from error
