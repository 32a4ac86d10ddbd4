"""Damage to files of tables."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
import zlib
from contextlib import suppress

from m3gal_cli.data.formats.source import GZIP

UNPACK_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile)


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Return a file with damage of one kind: bytes, cuts, lines, cells; mostly before it was packed."""
    if data.startswith(b"PK") and generator.random() < 0.8:
        return damaged_archive(data, generator)
    if data.startswith(GZIP) and generator.random() < 0.8:
        with suppress(*UNPACK_ERRORS):
            return gzip.compress(damaged(gzip.decompress(data), generator), mtime=0)
    at, end = sorted(generator.choices(range(len(data) + 1), k=2))
    lines = data.split(b"\n")
    line = generator.randrange(len(lines))
    cells = lines[line].split(b",")
    cells.pop(generator.randrange(len(cells)))
    special = generator.choice([b'"', b"\0", b"\xff\xfe", b"{", b"]", b"\r", b"\\ud800"])
    kinds = [
        bytes(b ^ (1 << generator.randrange(8)) if generator.random() < 0.01 else b for b in data),
        data[:at] + bytes([generator.randrange(256)]) + data[at + 1 :],
        data[:at],
        data[at:],
        data[:at] + data[end:],
        data[:end] + data[at:],
        data[:at] + special + data[at:],
        b"\n".join(lines[: line + 1] + lines[line:]),
        b"\n".join([*lines[:line], b",".join(cells), *lines[line + 1 :]]),
    ]
    return generator.choice(kinds)


def damaged_archive(data: bytes, generator: random.Random) -> bytes:
    """Return an archive with damage in one of its files; its checksums are right."""
    out = io.BytesIO()
    with (
        suppress(*UNPACK_ERRORS),
        zipfile.ZipFile(io.BytesIO(data)) as archive,
        zipfile.ZipFile(out, "w") as changed,
    ):
        victim = generator.choice(archive.namelist())
        for name in archive.namelist():
            part = archive.read(name)
            changed.writestr(name, damaged(part, generator) if name == victim else part)
    return out.getvalue()
