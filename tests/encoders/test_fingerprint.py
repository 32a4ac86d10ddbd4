"""An identity is that of the same content, wherever and whenever it was written, and of no other."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.encoders.fingerprint import Fingerprint


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    paths = tuple(tmp_path / name for name in ("weights", "vocabulary"))
    for path in paths:
        path.write_bytes(path.name.encode() * 50)
    return paths


def kept(fingerprint: Fingerprint) -> Any:
    """The record as a manifest gives it back."""
    return json.loads(json.dumps(fingerprint.record()))


def test_the_hash_is_of_the_contents(files: tuple[Path, ...]) -> None:
    each = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    assert Fingerprint(files).sha256() == hashlib.sha256(each).hexdigest()


def test_untouched_files_are_not_read(files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = Fingerprint(files, {"bound": (1, 2.5, None)})
    record = kept(fingerprint)
    monkeypatch.setattr(Fingerprint, "sha256", lambda self: pytest.fail("read"))
    assert fingerprint.is_that_of(record)


def test_what_is_another(files: tuple[Path, ...], tmp_path: Path) -> None:
    record = kept(Fingerprint(files, {"datum": "wgs84"}))
    assert Fingerprint(files, {"datum": "wgs84"}).is_that_of(record)
    for other in (
        Fingerprint(files, {"datum": "gcj02"}),
        Fingerprint(files),
        Fingerprint(files[::-1], {"datum": "wgs84"}),
    ):
        assert not other.is_that_of(record)
    for broken in (None, 3, {}, {"also": {"datum": "wgs84"}}):
        assert not Fingerprint(files, {"datum": "wgs84"}).is_that_of(broken)
    copies = tuple(tmp_path / f"copy {path.name}" for path in files)
    for path, copy in zip(files, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    os.utime(copies[0], (1, 1))
    assert Fingerprint(copies, {"datum": "wgs84"}).is_that_of(record), "the same content elsewhere"
    size = files[0].stat().st_size
    files[0].write_bytes(b"x" * size)
    os.utime(files[0], (5, 5))
    assert not Fingerprint(files, {"datum": "wgs84"}).is_that_of(record), "of the same size, but another"
