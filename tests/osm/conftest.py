"""Fixtures of the tests on real extracts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from m3gal_cli.data.sample import copy_sample

ExtractPath = Callable[[str], Path]


def slow(*names: str) -> list[object]:
    """Return extract names as parameters of slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(scope="session")
def extract_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExtractPath:
    """Return the path of an extract by name: the bundled Helsinki, or one of the folder ``../shared``."""
    helsinki = copy_sample(tmp_path_factory.mktemp("sample"))

    def path(name: str) -> Path:
        if name == "helsinki":
            return helsinki
        shared: Path = request.getfixturevalue("shared")
        return shared / "data" / "osm" / f"{name}.osm.pbf"

    return path
