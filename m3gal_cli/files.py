"""Check, open and write files. After a kill or a power cut, an atomic write leaves the old file or the new one."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from m3gal_cli.errors import InputError

# Errors of network and FUSE file systems that cannot sync folders.
NO_FOLDER_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES}


def require_file(path: Path, what: str = "file", hint: str | None = None) -> Path:
    """Return ``path``. Raises InputError if it is missing, a folder or empty; ``what`` names the file in errors."""
    if not path.exists():
        raise InputError(f"no such {what}", where=path, hint=hint or "Check the path.")
    if path.is_dir():
        raise InputError(f"this is a folder, not a {what}", where=path, hint=hint)
    if path.stat().st_size == 0:
        raise InputError(f"the {what} is empty", where=path, hint=hint or "Make or fetch it again.")
    return path


def suffix_of(path: Path) -> str:
    """Return the suffix of the format in lower case, without ``.gz``: ``a.csv.gz`` -> ``.csv``."""
    parts = [s.lower() for s in path.suffixes]
    return parts[-2] if len(parts) > 1 and parts[-1] == ".gz" else (parts[-1] if parts else "")


def stem_of(path: Path) -> str:
    """Return the name without the suffixes of the format: ``a.b.csv.gz`` -> ``a.b``."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).stem


def opener_of(path: Path) -> Any:
    """Return ``gzip.open`` if the name of a file ends in .gz, else ``open``."""
    return gzip.open if path.name.lower().endswith(".gz") else open


def open_text(path: Path) -> IO[str]:
    """Open a UTF-8 text file (gzip if its name ends in .gz) for reading; skip a byte order mark."""
    file: IO[str] = opener_of(path)(path, "rt", encoding="utf-8-sig", newline="")
    return file


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: Any) -> None:
    """Write JSON with one space of indentation, not atomically. Raises OSError."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def make_folder(path: Path) -> Path:
    """Make a folder and its parents and check that files can be written to it. Raises InputError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        what = f"cannot write there ({error.strerror or error})"
        raise InputError(what, where=path, hint="Choose another output folder.") from error
    return path


def probe_folder(path: Path) -> None:
    """Check that files can be written to a folder, without creating it. Raises InputError."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    make_folder(path)
    for folder in missing:
        folder.rmdir()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces ``path`` at the end of the block, unless it fails. Raises InputError."""
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private
        sync_to_disk(temporary)  # without it a power cut may leave an empty file
        temporary.replace(path)
    except OSError as error:
        what = f"cannot write ({error.strerror or error})"
        raise InputError(what, where=path, hint="Free space, or choose another folder.") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_text(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file (gzip if its name ends in .gz) for writing, atomically; see ``atomic_path``."""
    with (
        atomic_path(path) as temporary,
        opener_of(path)(temporary, "wt", encoding="utf-8", newline="") as file,
    ):
        yield file


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes ``path`` at the end of the block, unless it fails. Raises InputError.

    ``path`` must not exist at the end of the block.
    """
    make_folder(path.parent)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        temporary.chmod(0o755)  # mkdtemp makes folders private
        yield temporary
        publish_folder(temporary, path)
    except OSError as error:
        what = f"cannot write ({error.strerror or error})"
        raise InputError(what, where=path, hint="Free space, or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_to_disk(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to the disk."""
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
    """Flush a folder to the disk, then rename it to ``path``, in the same parent. Raises FileExistsError."""
    for folder, _, names in os.walk(new):
        for name in names:
            sync_to_disk(Path(folder, name))
        sync_to_disk(Path(folder))
    if os.path.lexists(path):  # rename would replace an empty folder
        raise FileExistsError(errno.EEXIST, "the path exists", str(path))
    new.rename(path)
    sync_to_disk(path.parent)


def replace_link(link: Path, target: Path) -> None:
    """Point the symbolic link ``link`` to ``target``, atomically; relative, so that the parent folder can be moved."""
    temporary = link.with_name(f".{link.name}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent), target_is_directory=True)
    temporary.replace(link)
    sync_to_disk(link.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder. It is renamed first, so that other processes never see a part of it."""
    hidden = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders that killed processes left in a folder."""
    for left in (*folder.glob(".*.tmp"), *folder.glob(".*.old")):
        shutil.rmtree(left, ignore_errors=True)
