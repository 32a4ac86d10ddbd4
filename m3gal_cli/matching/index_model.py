"""The model of an index: its manifest refers to a checkpoint by a path relative to the index folder.

The reference ``model`` is the folder of that name in the index: an embedded model, as ``m3gal index export`` writes it.
"""

from __future__ import annotations

import os
from pathlib import Path

from m3gal_cli.encoders.checkpoint_lookup import PACKAGED, is_packaged
from m3gal_cli.errors import InputError
from m3gal_cli.index.manifest import read_manifest

MODEL_FOLDER = "model"
REFERENCE = "model_reference"  # key of the manifest


def reference_to(checkpoint: Path, index: Path) -> str:
    """Return the reference of an index to a checkpoint. A link, such as ``best``, is replaced by its target.

    The reference to the packaged model is its name: its folder moves with the installation.
    """
    if is_packaged(checkpoint):
        return PACKAGED
    try:
        return os.path.relpath(checkpoint.resolve(), index.resolve())
    except ValueError:  # Windows: another drive
        return str(checkpoint.resolve())


def is_embedded(checkpoint: Path, index: Path) -> bool:
    """Return whether a checkpoint is the embedded model of an index."""
    embedded = index / MODEL_FOLDER
    return (read_manifest(index) or {}).get(REFERENCE) == MODEL_FOLDER and checkpoint.resolve() == embedded.resolve()


def referenced_checkpoint(index: Path) -> Path | None:
    """Return the path of the checkpoint that an index refers to; None without an index, or if it has no reference.

    Raises:
        InputError: The checkpoint is missing.
    """
    reference = (read_manifest(index) or {}).get(REFERENCE)
    if not isinstance(reference, str) or not reference:
        return None
    if reference == PACKAGED:
        return Path(PACKAGED)
    path = Path(os.path.normpath(index.resolve() / reference))
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    if not path.exists():
        hint = "Give the run with --checkpoint. To move an index with its model, use m3gal index export."
        raise InputError(f"the model of the index is missing: {shown}", where=index, hint=hint)
    return shown


def check_index_folder(index: Path) -> Path:
    """Return the folder of an index. Raises InputError if it is a file, such as an exported index."""
    if index.is_file():
        hint = f"Unpack it (unzip {index} -d FOLDER) and give --index-dir FOLDER." if index.suffix == ".zip" else None
        raise InputError("this is a file, not the folder of an index", where=index, hint=hint or "Give the folder.")
    return index
