"""Fixtures that several modules of this room share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def here(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is the module's ``base``: its ``runs`` are what commands find by themselves."""
    monkeypatch.chdir(base)
    return base
