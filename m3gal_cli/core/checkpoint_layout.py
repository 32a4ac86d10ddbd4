"""File names of a checkpoint directory, and the files on which the vectors of POIs depend. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import file_sha256, read_json

META_FILE, CARD_FILE = "m3gal.json", "README.md"
FORMATS = (1, 2, 3)
WRITTEN_FORMAT = 2  # by trainings; 1 is of earlier versions, 3 that of the packaged model
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
GRAPH_FILE = "encoder.onnx"  # of format 3
QUERY_FOLDER, POI_FOLDER, LOCATION_FOLDER = "query_encoder", "poi_encoder", "location_encoder"
TEXT_FOLDER = "text_encoder"  # of both sides, in formats 1 and 3
# Suffixes of a transformers directory's files that hold neither config nor tokenizer.
NO_TEXT_FILES = {".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".ot", ".onnx", ".index", ".md"}


def is_checkpoint(path: Path) -> bool:
    """Return whether ``path`` is a checkpoint directory of m3gal."""
    return (path / META_FILE).is_file()


def check_kind(path: Path, meta: dict[str, Any]) -> None:
    """Raise InputError for a cross-encoder, which earlier versions of m3gal could train."""
    if meta.get("kind", "bi-encoder") != "bi-encoder":
        hint = "Give a run of m3gal pretrain or m3gal finetune."
        raise InputError(f"is a {meta['kind']}, which m3gal no longer reads", where=path, hint=hint)


def text_folder(path: Path, version: int) -> Path:
    """Return the folder with the config and tokenizer of the text encoders."""
    return path / (QUERY_FOLDER if version == 2 else TEXT_FOLDER)


def text_files(folder: Path) -> list[Path]:
    """Return the config and tokenizer files of a transformers directory."""
    visible = (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return sorted(p for p in visible if p.suffix.lower() not in NO_TEXT_FILES)


def read_checked_meta(path: Path, folder: str = "") -> dict[str, Any]:
    """Return the ``META_FILE`` of a checkpoint in format 3, after a comparison of its files with their SHA-256.

    Args:
        path: The checkpoint directory.
        folder: Compare only the files in this folder of the checkpoint; "": all.

    Raises:
        InputError: A file is missing or damaged.
    """
    hint, meta = "Install m3gal again: the packaged model is part of it.", read_json(path / META_FILE)
    if not isinstance(meta, dict) or not isinstance(meta.get("files"), dict):
        raise InputError(f"{META_FILE} is missing or damaged", where=path, hint=hint)
    for name, digest in meta["files"].items():
        try:
            if name.startswith(folder) and file_sha256(path / name) != digest:
                raise InputError("the file is damaged", where=path / name, hint=hint)
        except OSError as error:
            what = f"the file cannot be read ({error.strerror or error})"
            raise InputError(what, where=path / name, hint=hint) from error
    return meta


def poi_sources(path: Path) -> tuple[list[Path], dict[str, Any]]:
    """Return the files and settings on which the vectors of POIs depend. Raises InputError for a damaged checkpoint."""
    folder = path.resolve()
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        check_kind(path, meta)
        version = meta["format"]
        settings = {name: value for name, value in meta["settings"].items() if name != "query_prefix"}
        text = {1: "", 2: POI_FOLDER, 3: TEXT_FOLDER}[version]
        folders = (folder,) if version == 1 else (folder / text, folder / LOCATION_FOLDER)
        files = [*(part / WEIGHTS_FILE for part in folders), *text_files(text_folder(folder, version))]
        return files, {"format": version, "settings": settings}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("cannot read the checkpoint", where=path, hint="Use another one of the run.") from error
