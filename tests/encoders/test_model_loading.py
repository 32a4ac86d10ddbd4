"""Loading a model, and its fingerprints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import save_checkpoint
from m3gal_cli.encoders.model_loading import model_fingerprint, open_checkpoint, poi_fingerprint
from tests.helpers.toy_models import same_weights, toy_checkpoint


@pytest.fixture(params=["run", "published file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, dict[str, Any]]:
    """A folder that can be moved, the checkpoint inside, and the settings of the model."""
    folder = tmp_path / "folder"
    save_checkpoint(folder / "last", toy_checkpoint())
    if request.param == "run":
        return folder, Path("last"), {}
    save_published(folder / "x.pth.tar", toy_checkpoint(), {}, {})
    return folder, Path("x.pth.tar"), {"text_encoder": "last/query_encoder", "location_encoder": "mlp"}


def test_a_moved_model_is_loaded_and_keeps_its_fingerprints(
    model: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, checkpoint, settings = model
    config = Config.model_validate({"model": settings})
    monkeypatch.chdir(folder)
    records = [make(folder / checkpoint, config).record() for make in (model_fingerprint, poi_fingerprint)]
    assert str(tmp_path) not in json.dumps(records)
    moved = folder.rename(tmp_path / "moved")
    monkeypatch.chdir(moved)
    assert model_fingerprint(moved / checkpoint, config).matches(records[0])
    assert poi_fingerprint(moved / checkpoint, config).matches(records[1])
    assert same_weights(open_checkpoint(moved / checkpoint, config).model, toy_checkpoint().model)


def test_weights_of_queries_change_only_the_fingerprint_of_the_whole_model(tmp_path: Path) -> None:
    checkpoint, name = tmp_path / "one", "query_encoder/model.safetensors"
    save_checkpoint(checkpoint, toy_checkpoint())
    save_checkpoint(tmp_path / "other", toy_checkpoint(seed=1))
    whole, pois = (make(checkpoint, Config()).record() for make in (model_fingerprint, poi_fingerprint))
    shutil.copy(tmp_path / "other" / name, checkpoint / name)
    assert not model_fingerprint(checkpoint, Config()).matches(whole)
    assert poi_fingerprint(checkpoint, Config()).matches(pois)
