"""Check, open and write files. A write is atomic: a kill or a power cut leaves the old file or the new one."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from m3gal_cli.errors import InputError

# Some network and FUSE file systems cannot sync a folder; its names are then as safe as they make them.
NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}


def require_file(path: Path, what: str = "file", hint: str | None = None) -> Path:
    """Return ``path`` if it is a readable file with something in it, else raise InputError."""
    if not path.exists():
        raise InputError(f"no such {what}", where=path, hint=hint or "Check the path.")
    if path.is_dir():
        raise InputError(f"is a folder, not a {what}", where=path, hint=hint)
    if path.stat().st_size == 0:
        raise InputError(f"the {what} is empty", where=path, hint=hint or "Make or fetch it again.")
    return path


def suffix_of(path: Path) -> str:
    """The suffix that says the format, lower case, without ``.gz``: ``a.csv.gz`` -> ``.csv``."""
    parts = [s.lower() for s in path.suffixes]
    return parts[-2] if len(parts) > 1 and parts[-1] == ".gz" else (parts[-1] if parts else "")


def stem_of(path: Path) -> str:
    """The name without the suffixes that say the format: ``a.b.csv.gz`` -> ``a.b``."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.stem


def open_text(path: Path) -> IO[str]:
    """Open a UTF-8 text file for reading, through gzip if its name ends in .gz (a byte order mark is dropped)."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open("r", encoding="utf-8-sig", newline="")


def make_folder(path: Path) -> Path:
    """Make ``path`` and its parents, and make sure that one can write there. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write there ({reason})", where=path, hint="Choose another output folder.") from error
    return path


def probe_folder(path: Path) -> None:
    """Make sure, before the work, that one can write to ``path``; leaves no trace. Raises InputError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path)
    for folder in missing:
        folder.rmdir()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well and vanishes when it does not."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private; these are ordinary ones
        with temporary.open("rb") as written:  # else a power cut may leave the new name on an empty file
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write ({reason})", where=path, hint="Free space, or choose another place.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under ``path`` only when it is whole (gzip if the name ends in .gz)."""
    with atomic_path(path) as temporary:
        if path.name.lower().endswith(".gz"):
            with gzip.open(temporary, "wt", encoding="utf-8", newline="") as packed:
                yield packed
        else:
            with temporary.open("w", encoding="utf-8", newline="") as plain:
                yield plain


def sync_to_disk(path: Path) -> None:
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


def publish_folder(new: Path, path: Path) -> None:
    """Give the folder ``new`` the name ``path`` beside it, once the disk holds all of it. The name must be free."""
    for folder, _, names in os.walk(new):
        for name in names:
            sync_to_disk(Path(folder, name))
        sync_to_disk(Path(folder))
    if os.path.lexists(path):  # rename would silently take the place of an empty folder
        raise FileExistsError(errno.EEXIST, "the name is taken", str(path))
    new.rename(path)
    sync_to_disk(path.parent)


def replace_link(link: Path, target: Path) -> None:
    """Let ``link`` lead to ``target``, in one rename; relative, so that the whole can be moved."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    temporary.replace(link)
    sync_to_disk(link.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder. Its name goes first, so that nobody finds half of it."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what dead saves and removals left in a folder."""
    for pattern in (".*.tmp", ".*.old"):
        for left in folder.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)
