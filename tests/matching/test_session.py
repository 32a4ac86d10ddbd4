"""Sessions: training records of a run, and the query encoder of a session with a loaded model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from m3gal_cli.config.load import load_config
from m3gal_cli.encoders import onnx_export
from m3gal_cli.index.manifest import new_manifest, write_manifest
from m3gal_cli.matching import session
from m3gal_cli.matching.index_model import reference_to, referenced_checkpoint
from m3gal_cli.matching.session import Session, open_session
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import SPLITS, train, write_town


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("session"))


@pytest.fixture(scope="module")
def tuned(profile: Path) -> Session:
    answer = train("finetune", profile, "tuned", "--max-steps", 1, "--batch-size", 4)
    assert answer.code == 0, answer.err
    return open_session(answer.run, {})


def test_evaluations_of_training_records_report_leakage(profile: Path, tuned: Session) -> None:
    assert len(tuned.training_records()) == SPLITS["train"]
    for command in ("eval-rerank", "eval-retrieval"):
        for split, reported in (("train", True), ("val", False)):
            records = profile.parent / f"{split}_dataset_use_gis.jsonl"
            answer = m3gal(command, "--checkpoint", tuned.run, "--test", records, "--no-bm25")
            assert answer.code == 0
            assert ("label leakage: 16 of 16 queries" in answer.err) == reported


def test_a_pretrained_model_has_no_training_records(profile: Path) -> None:
    answer = train("pretrain", profile, "pretrained", "--max-steps", 1)
    assert open_session(answer.run, {}).training_records() == []


def test_training_records_that_were_moved_are_no_error(profile: Path, tuned: Session) -> None:
    path = profile.parent / "train_dataset_use_gis.jsonl"
    content = path.read_text()
    path.unlink()
    try:
        assert tuned.training_records() == []
    finally:
        path.write_text(content)


def test_a_loaded_model_encodes_queries_too(tuned: Session) -> None:
    encoder = tuned.encoder
    assert tuned.query_encoder is encoder, "the query encoder is loaded once"


def test_a_reference_survives_a_move_of_both_folders(tmp_path: Path) -> None:
    for name in ("runs/a/checkpoints/step-1", "indexes/i"):
        (tmp_path / "project" / name).mkdir(parents=True)
    project = tmp_path / "project"
    (project / "runs/a/best").symlink_to("checkpoints/step-1")
    reference = reference_to(project / "runs/a/best", project / "indexes/i")
    assert reference == "../../runs/a/checkpoints/step-1", "a link is replaced by its target"
    project.rename(tmp_path / "moved")
    write_manifest(tmp_path / "moved/indexes/i", new_manifest({}, 4), model_reference=reference)
    found = referenced_checkpoint(tmp_path / "moved/indexes/i")
    assert found == tmp_path / "moved/runs/a/checkpoints/step-1"
    assert referenced_checkpoint(tmp_path / "no index") is None


def test_a_run_that_cannot_be_written_leaves_exports_to_the_working_folder(
    tuned: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []
    monkeypatch.setattr(onnx_export, "open_or_export", lambda _load, _model, folder, *_: folders.append(folder))
    for writable in (True, False):
        monkeypatch.setattr(session.os, "access", lambda *_, writable=writable: writable)
        _ = replace(tuned, config=load_config(overrides={"eval.encoder_runtime": "onnx"})).query_encoder
    assert folders == [tuned.run, Path()]


@pytest.mark.parametrize(
    ("given", "sets", "named"),
    [
        ({}, (), False),
        ({"data.poi": "x.csv"}, (), True),
        ({"data.dir": "data"}, (), True),
        ({}, ("data.poi=x.csv",), True),
        ({"eval.top_k": 3}, ("eval.recall=0.9",), False),
    ],
)
def test_a_table_is_named_by_options_and_settings(
    tuned: Session, given: dict[str, object], sets: tuple[str, ...], named: bool
) -> None:
    assert open_session(tuned.run, given, sets).table_given == named


def test_a_table_is_named_by_the_environment(tuned: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3GAL_DATA__POI", "x.csv")
    assert open_session(tuned.run, {}).table_given
