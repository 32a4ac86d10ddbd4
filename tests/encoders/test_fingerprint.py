"""Fingerprints: equal for equal content in any folder, and different for any other content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.encoders.fingerprint import Fingerprint, RecordedFingerprint


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    paths = tuple(tmp_path / name for name in ("weights", "vocabulary"))
    for path in paths:
        path.write_bytes(path.name.encode() * 50)
        os.utime(path, (1, 1))
    return paths


def stored(fingerprint: Fingerprint) -> Any:
    """Return the record as a manifest gives it back."""
    return json.loads(json.dumps(fingerprint.record()))


def test_the_hash_is_that_of_the_contents(files: tuple[Path, ...]) -> None:
    each = b"".join(hashlib.sha256(path.read_bytes()).digest() for path in files)
    assert Fingerprint(files).sha256 == hashlib.sha256(each).hexdigest()


def test_unchanged_files_are_not_read(files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = Fingerprint(files, {"bound": (1, 2.5, None)})
    record = stored(fingerprint)
    monkeypatch.setattr(Fingerprint, "sha256", property(lambda self: pytest.fail("the files were read")))
    assert fingerprint.matches(record)
    assert Fingerprint(files, {"bound": (1, 2.5, None)}).matches(record)


def test_other_settings_order_or_content_do_not_match(files: tuple[Path, ...]) -> None:
    own = Fingerprint(files, {"datum": "wgs84"})
    record = stored(own)
    others = [Fingerprint(files, {"datum": "gcj02"}), Fingerprint(files), Fingerprint(files[::-1], {"datum": "wgs84"})]
    assert not any(other.matches(record) for other in others)
    assert not any(own.matches(broken) for broken in (None, 3, {}, {"also": {"datum": "wgs84"}}))
    files[0].write_bytes(b"x" * files[0].stat().st_size)
    assert not Fingerprint(files, {"datum": "wgs84"}).matches(record), "the size is the same, the content is not"
    assert own.matches(record), "a fingerprint is that of its first use"


def test_a_file_elsewhere_with_equal_size_and_time_is_read(files: tuple[Path, ...], tmp_path: Path) -> None:
    """Archives may set all times to one value, and two checkpoints of one architecture have equal sizes."""
    other = tmp_path / "other"
    other.write_bytes(b"x" * files[0].stat().st_size)
    os.utime(other, (1, 1))
    assert not Fingerprint((other,)).matches(stored(Fingerprint(files[:1])))


def test_equal_files_in_another_folder_match_a_record_without_paths(files: tuple[Path, ...], tmp_path: Path) -> None:
    record = stored(Fingerprint(files))
    assert str(tmp_path) not in json.dumps(record)
    moved = tuple(path.rename(tmp_path / f"moved {path.name}") for path in files)
    assert Fingerprint(moved).matches(record)
    assert Fingerprint(moved).matches(record | {"files": [[str(path), 1, 2] for path in files]}), "older versions"


def test_a_recorded_fingerprint_matches_what_the_original_matches(files: tuple[Path, ...]) -> None:
    original = Fingerprint(files, {"bound": 1})
    recorded = RecordedFingerprint(recorded=stored(original))
    assert recorded.record() == stored(original)
    for other in (original, Fingerprint(files, {"bound": 2}), Fingerprint(files[:1], {"bound": 1})):
        assert recorded.matches(stored(other)) == original.matches(stored(other)) == (other is original)
    assert recorded.matches(stored(original) | {"files": []}), "a moved file is the same content"
    assert not recorded.matches(None)
