"""Files in and out: existence, gzip by suffix, atomic writing."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from m3gal_cli.errors import InputError


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
