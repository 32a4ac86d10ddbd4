"""Fixtures of every room. Tests that need the shared golden files and data skip, loudly, where these are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``../shared`` beside the repository: golden files, real data, models."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip(
            "NOT TESTED against the golden files and the real data: there is no ../shared beside the repository"
        )
    return folder
