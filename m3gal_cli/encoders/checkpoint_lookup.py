"""Find a run and its checkpoint. Importing this module imports no torch."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.core.checkpoint_layout import META_FILE, is_checkpoint
from m3gal_cli.errors import InputError

CONFIG_FILE = "config.yaml"  # resolved configuration of a run


def newest_run(folder: Path) -> Path:
    """Return the run in ``folder`` whose last checkpoint is the newest. Raises InputError if no run has one."""
    runs = [p for p in folder.glob("*") if is_checkpoint(p / "last")] if folder.is_dir() else []
    if not runs:
        hint = "Train one with m3gal pretrain or m3gal finetune, or give --checkpoint."
        raise InputError("no run with a checkpoint", where=folder, hint=hint)
    return max(runs, key=lambda p: (p / "last" / META_FILE).stat().st_mtime)


def find_checkpoint(path: Path) -> Path:
    """Return ``path`` itself, or the best (else the last) checkpoint of a run directory. Raises InputError.

    The result is a checkpoint directory or a published .pth.tar file.
    """
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
