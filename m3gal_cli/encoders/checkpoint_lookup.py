"""Which run, and which of its checkpoints. Imports no torch, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.core.checkpoint_layout import META_FILE, is_checkpoint
from m3gal_cli.errors import InputError

CONFIG_FILE = "config.yaml"  # of a run: its resolved configuration


def newest_run(folder: Path) -> Path:
    """The run with the newest checkpoint of a bi-encoder. Raises InputError where there is none."""
    runs = [p for p in folder.glob("*") if is_checkpoint(p / "last")] if folder.is_dir() else []
    if not runs:
        hint = "Train one with m3gal pretrain or m3gal finetune, or give --checkpoint."
        raise InputError("no run with a checkpoint", where=folder, hint=hint)
    return max(runs, key=lambda p: (p / "last" / META_FILE).stat().st_mtime)


def find_checkpoint(path: Path) -> Path:
    """A checkpoint by its own path, or a run's best one; a published file stays what it is. Raises InputError."""
    if path.is_dir():
        for candidate in (path, path / "best", path / "last"):
            if is_checkpoint(candidate):
                return candidate
        raise InputError(
            "holds no checkpoint", where=path, hint="Give a run, one of its checkpoints or a .pth.tar file."
        )
    if not path.exists():
        known = Path("runs") / path.parent.name
        also = f" There is a run {known}." if path.parent.name and is_checkpoint(known / "last") else ""
        raise InputError("no such checkpoint", where=path, hint=f"Check the path.{also}")
    return path


def run_of(checkpoint: Path) -> Path | None:
    """The run directory that a checkpoint lies in, or None."""
    for folder in (checkpoint, checkpoint.parent, checkpoint.resolve().parent.parent):
        if (folder / CONFIG_FILE).is_file():
            return folder
    return None
