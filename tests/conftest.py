"""Fixtures for all tests. Tests that need ../shared are skipped, with a message, where that folder is absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from m3gal_cli.data.sample import copy_sample
from tests.helpers.built_city import Built, built

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def without_pictures() -> Iterator[None]:
    """Do not draw progress.png, which takes half the time of a small training; tests/training/test_report.py does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("m3gal_cli.training.report.write_picture", lambda *_: None)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ``../shared`` beside the repository: golden files, real data, models."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip(
            "NOT TESTED against the golden files and the real data: there is no ../shared beside the repository"
        )
    return folder


@pytest.fixture(scope="session")
def helsinki_city(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample built with the default options; its files and frames are not to be changed."""
    folder = tmp_path_factory.mktemp("helsinki")
    return built(copy_sample(folder), folder / "out")


@pytest.fixture
def here(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, which is the module's ``base``: its ``runs`` are what commands find by themselves."""
    monkeypatch.chdir(base)
    return base
