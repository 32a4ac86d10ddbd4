"""Folders and links that a kill or a power cut leaves whole or absent, never half."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

# Some network and FUSE file systems cannot sync a folder; its names are then as safe as they make them.
NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}


def sync(path: Path) -> None:
    """Have the disk itself hold a file's bytes, or a folder's names."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if not path.is_dir() or error.errno not in NO_FOLDER_SYNC:
            raise


def place(new: Path, path: Path) -> None:
    """Give the folder ``new`` the name ``path`` beside it, once the disk holds all of it. The name must be free."""
    for folder, _, names in os.walk(new):
        for name in names:
            sync(Path(folder, name))
        sync(Path(folder))
    if os.path.lexists(path):  # rename would silently take the place of an empty folder
        raise FileExistsError(errno.EEXIST, "the name is taken", str(path))
    new.rename(path)
    sync(path.parent)


def point(link: Path, target: Path) -> None:
    """Let ``link`` lead to ``target``, in one rename; relative, so that the whole can be moved."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    temporary.replace(link)
    sync(link.parent)


def discard(folder: Path) -> None:
    """Remove a folder. Its name goes first, so that nobody finds half of it."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what dead saves and removals left in a folder."""
    for pattern in (".*.tmp", ".*.old"):
        for left in folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
