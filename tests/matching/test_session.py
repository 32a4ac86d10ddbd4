"""Sessions: training records of a run, and the query encoder of a session with a loaded model."""

from __future__ import annotations

from pathlib import Path

import pytest

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
