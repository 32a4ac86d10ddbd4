"""Weights of the hybrid score from the training queries, learned before the first step, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.matching.session import Session, open_session
from m3gal_cli.rerank.linear import BEFORE, RerankerWeights
from m3gal_cli.training.reranker_fit import learn, table_of
from tests.helpers.cli import m3gal, steps
from tests.helpers.sample_town import record, write_lines, write_town

TRAIN, VAL = 24, 20


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of the town, with more queries than usual."""
    folder = tmp_path_factory.mktemp("weighing")
    profile = write_town(folder)
    write_lines(folder / "train_dataset_use_gis.jsonl", [record(i) for i in range(TRAIN)])
    write_lines(folder / "val_dataset_use_gis.jsonl", [record(9 + i) for i in range(VAL)])
    return profile


def finetune(town: Path, name: str, *more: object) -> Any:
    options = ("--config", town, "--runs-dir", town.parent / "runs", "--output-name", name, "--batch-size", 4)
    return m3gal("finetune", *options, *more)


@pytest.fixture(scope="module")
def start(town: Path) -> Path:
    """A pretrained model to begin with."""
    options = ("--config", town, "--runs-dir", town.parent / "runs", "--output-name", "start", "--epochs", 1)
    return m3gal("pretrain", *options).run


def records_of(session: Session, split: str) -> Any:
    from m3gal_cli.config.paths import find_records
    from m3gal_cli.data.records import read_records

    path = find_records(session.config.data, split)
    assert path is not None
    return read_records(path)


def learned(session: Session, split: str, before: RerankerWeights | None = None) -> RerankerWeights | None:
    records = records_of(session, split)
    return learn(records, table_of(session.config.data), session.encoder, session.config.seed, lambda *_: None, before)


@pytest.fixture(scope="module")
def run(town: Path, start: Path) -> Path:
    answer = finetune(town, "whole", "--init", start, "--epochs", 1)
    assert f"learned on {VAL} validation queries after {TRAIN} training queries" in answer.err
    return answer.run


def test_they_are_those_of_the_model_that_the_training_began_with(run: Path, start: Path) -> None:
    before, oracle = RerankerWeights.load(run, BEFORE), learned(open_session(start, {}), "train")
    assert before is not None
    assert oracle is not None
    assert before.queries == TRAIN
    np.testing.assert_allclose(before.values, oracle.values, atol=1e-4)
    after = learned(open_session(run, {}), "train")
    assert after is not None
    assert np.abs(np.subtract(before.values, after.values)).max() > 1e-3, "another model would teach something else"


def test_neither_a_model_that_was_finetuned_nor_a_training_of_no_step_has_them(
    town: Path, run: Path, start: Path
) -> None:
    for name, options in (
        ("again", ("--init", run, "--epochs", 1)),
        ("further", ("--resume", run, "--epochs", 2)),
        ("still", ("--init", start, "--max-steps", 0)),
    ):
        found = finetune(town, name, *options).run
        assert not (found / BEFORE).exists(), name
        weights = RerankerWeights.load(found / "best")
        assert weights is not None
        assert weights.before == 0


def test_the_weights_of_the_trained_model_are_looked_for_near_them(run: Path) -> None:
    session, before = open_session(run, {}), RerankerWeights.load(run, BEFORE)
    near, oracle, alone = session.weights, learned(session, "val", before), learned(session, "val")
    assert near is not None
    assert oracle is not None
    assert alone is not None
    assert (near.queries, near.before) == (VAL, TRAIN)
    np.testing.assert_allclose(near.values, oracle.values, atol=1e-4)
    assert np.abs(np.subtract(near.values, alone.values)).max() > 0.01


def test_the_training_is_the_same_without_them(town: Path, start: Path, run: Path) -> None:
    plain = finetune(town, "plain", "--init", start, "--epochs", 1, "--set", "eval.rerank=false").run
    assert not (plain / BEFORE).exists()
    losses = [[row["fused_loss"] for row in steps(path)] for path in (run, plain)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == TRAIN // 4


def test_a_run_that_goes_on_keeps_them_and_one_that_begins_anew_does_not(town: Path, run: Path, start: Path) -> None:
    kept = (run / BEFORE).read_bytes()
    assert finetune(town, "whole", "--resume", "auto", "--epochs", 2).run == run
    assert (run / BEFORE).read_bytes() == kept
    anew = town.parent / "runs" / "anew"
    anew.mkdir()
    (anew / BEFORE).write_bytes(kept)
    assert finetune(town, "anew", "--init", start, "--epochs", 1, "--set", "eval.rerank=false").run == anew
    assert not (anew / BEFORE).exists()


def test_no_validation_records_no_weights(town: Path, start: Path, tmp_path: Path) -> None:
    write_town(tmp_path)
    (tmp_path / "val_dataset_use_gis.jsonl").unlink()
    write_lines(tmp_path / "train_dataset_use_gis.jsonl", [record(i) for i in range(TRAIN)])
    run = finetune(tmp_path / "tiny.yaml", "none", "--init", start, "--epochs", 1).run
    assert not (run / BEFORE).exists()
    assert RerankerWeights.load(run / "best") is None


def test_a_damaged_one_is_named_and_the_run_stays_whole(town: Path, start: Path) -> None:
    run = finetune(town, "damaged", "--init", start, "--max-steps", 1).run
    (run / BEFORE).write_text("{")
    answer = finetune(town, "damaged", "--resume", "auto", "--max-steps", 2)
    assert f"no hybrid score: {run / BEFORE}: cannot be read" in answer.err
    assert answer.run == run
