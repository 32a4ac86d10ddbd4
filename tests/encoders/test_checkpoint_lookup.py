"""Finding a run and its checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from m3gal_cli.encoders import checkpoint_lookup
from m3gal_cli.encoders.checkpoint_lookup import (
    PACKAGED_MODEL,
    find_checkpoint,
    is_packaged,
    newest_run,
    run_folder_of,
)
from m3gal_cli.errors import InputError


def make_run(path: Path, time: int, names: tuple[str, ...] = ("best", "last")) -> Path:
    """Create a run whose best and last checkpoint are links to one directory."""
    (path / "checkpoints" / "1").mkdir(parents=True)
    (path / "config.yaml").touch()
    meta = path / "checkpoints" / "1" / "m3gal.json"
    meta.touch()
    os.utime(meta, (time, time))
    for name in names:
        (path / name).symlink_to("checkpoints/1")
    return path


def test_the_newest_run_is_that_of_the_newest_last_checkpoint(tmp_path: Path) -> None:
    for name, time in (("old", 1), ("newest", 3), ("middle", 2)):
        make_run(tmp_path / name, time)
    assert newest_run(tmp_path) == tmp_path / "newest"
    for folder in (tmp_path / "old", tmp_path / "missing"):
        assert newest_run(folder) is None


def test_packaged_is_the_name_of_the_packaged_model_and_not_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "packaged", 1)
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint(Path("packaged")) == PACKAGED_MODEL
    assert is_packaged(PACKAGED_MODEL)
    assert find_checkpoint(tmp_path / "packaged") == tmp_path / "packaged" / "best"
    assert not is_packaged(tmp_path / "packaged")


def test_a_missing_packaged_model_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_lookup, "PACKAGED_MODEL", tmp_path)
    with pytest.raises(InputError, match="the packaged model is missing") as caught:
        find_checkpoint(Path("packaged"))
    assert caught.value.hint == "Install m3gal again: the packaged model is part of it."


def test_a_run_directory_gives_its_best_checkpoint_or_else_its_last(tmp_path: Path) -> None:
    run, unvalidated = make_run(tmp_path / "run", 1), make_run(tmp_path / "unvalidated", 1, ("last",))
    (tmp_path / "published.pth.tar").touch()
    assert find_checkpoint(run) == run / "best"
    assert find_checkpoint(unvalidated) == unvalidated / "last"
    for path in (run / "last", tmp_path / "published.pth.tar"):
        assert find_checkpoint(path) == path


def test_a_missing_checkpoint_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "pretrained", 1)
    with pytest.raises(InputError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"no such checkpoint\nCheck the path. There is a run runs/pretrained."):
        find_checkpoint(Path("checkpoints/pretrained/model_best.pth.tar"))


def test_the_run_of_a_checkpoint_is_found_also_after_a_move(tmp_path: Path) -> None:
    make_run(tmp_path / "run", 1).rename(tmp_path / "moved")
    for checkpoint in ("", "best", "last", "checkpoints/1"):
        run = run_folder_of(tmp_path / "moved" / checkpoint)
        assert run is not None
        assert run.resolve() == tmp_path / "moved"
    assert run_folder_of(tmp_path) is None
