"""Find a run and its checkpoint. Importing this module imports no torch."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.core.checkpoint_layout import META_FILE, is_checkpoint
from m3gal_cli.errors import InputError

CONFIG_FILE = "config.yaml"  # resolved configuration of a run
PACKAGED = "packaged"  # in place of a path: the model that the package contains
PACKAGED_MODEL = Path(__file__).parents[1] / "packaged"


def newest_run(folder: Path) -> Path | None:
    """Return the run in ``folder`` whose last checkpoint is the newest; None if no run has one."""
    runs = [p for p in folder.glob("*") if is_checkpoint(p / "last")] if folder.is_dir() else []
    return max(runs, key=lambda p: (p / "last" / META_FILE).stat().st_mtime, default=None)


def is_packaged(checkpoint: Path) -> bool:
    """Return whether a checkpoint directory is the packaged model."""
    return checkpoint.resolve() == PACKAGED_MODEL.resolve()


def find_checkpoint(path: Path) -> Path:
    """Return ``path`` itself, or the best (else the last) checkpoint of a run directory. Raises InputError.

    The result is a checkpoint directory or a published .pth.tar file. The name ``PACKAGED`` gives the packaged model.
    """
    if str(path) == PACKAGED:
        path = PACKAGED_MODEL
        if not is_checkpoint(path):
            hint = "Install m3gal again: the packaged model is part of it."
            raise InputError("the packaged model is missing", where=path, hint=hint)
    if path.is_dir():
        for candidate in (path, path / "best", path / "last"):
            if is_checkpoint(candidate):
                return candidate
        hint = "Give a run directory, one of its checkpoints or a .pth.tar file."
        raise InputError("holds no checkpoint", where=path, hint=hint)
    if not path.exists():
        run = Path("runs") / path.parent.name
        also = f" There is a run {run}." if path.parent.name and is_checkpoint(run / "last") else ""
        raise InputError("no such checkpoint", where=path, hint=f"Check the path.{also}")
    return path


def run_folder_of(checkpoint: Path) -> Path | None:
    """Return the run directory of a checkpoint directory, or None if it lies in none."""
    for folder in (checkpoint, checkpoint.parent, checkpoint.resolve().parent.parent):
        if (folder / CONFIG_FILE).is_file():
            return folder
    return None
