"""Fixtures that several modules of this room share, as they take long to make."""

from __future__ import annotations

import pytest
from built import Built, built

from m3gal_cli.data.sample import copy_sample


@pytest.fixture(scope="session")
def helsinki_city(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample built with the default options; its files and frames are not to be changed."""
    folder = tmp_path_factory.mktemp("helsinki")
    return built(copy_sample(folder), folder / "out")
