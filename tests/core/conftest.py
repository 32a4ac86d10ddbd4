"""Checkpoints of all kinds of model settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.core.checkpoint import Checkpoint, save_checkpoint
from m3gal_cli.core.model_settings import Normalizer
from tests.helpers.toy_models import MODEL_SETTINGS, toy_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint on disk."""
    save_checkpoint(tmp_path / "last", toy_checkpoint())
    return tmp_path / "last"


@pytest.fixture(params=MODEL_SETTINGS, ids=lambda case: "-".join(str(v).strip() for v in case.values()))
def saved_kinds(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Checkpoint]:
    """A checkpoint on disk and in memory, for each of ``MODEL_SETTINGS``."""
    checkpoint = toy_checkpoint(normalizer=Normalizer(120.2, 0.13, 30.3, 0.1), **request.param)
    checkpoint.tokenizer(["a"], truncation=True, max_length=3, padding="max_length")  # changes the tokenizer's state
    save_checkpoint(tmp_path / "step", checkpoint)
    return tmp_path / "step", checkpoint
