"""The sample town, on which trainings take less than a second."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.sample_town import write_town


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a town of the module's own; ``sample_town.train`` puts runs beside it."""
    torch.set_num_threads(1)
    return write_town(tmp_path_factory.mktemp("town"))
