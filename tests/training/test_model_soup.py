"""Finetuning of a model soup: the mean of the weights of several trainings, also after an interruption."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.config.load import config_from_file
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, RerankerWeights
from m3gal_cli.training.trainer import Trainer
from tests.helpers.cli import Answer, steps, validations, weights
from tests.helpers.sample_town import SPLITS, train
from tests.helpers.toy_models import reranker_weights

SEED = 7  # of the profile
BATCH = 4
STEPS = SPLITS["train"] // BATCH  # one epoch


def finetune(profile: Path, name: str, *options: object) -> Answer:
    return train("finetune", profile, name, "--batch-size", BATCH, "--epochs", 1, *options)


@pytest.fixture(scope="module")
def start(profile: Path) -> Path:
    return train("pretrain", profile, "start", "--epochs", 1).run


@pytest.fixture(scope="module")
def mean(profile: Path, start: Path) -> dict[str, torch.Tensor]:
    """The mean weights of two single trainings with different seeds."""
    runs = [finetune(profile, f"single-{i}", "--init", start, "--seed", SEED + i).run for i in range(2)]
    first, second = (weights(run / "last") for run in runs)
    assert sum(not torch.equal(value, second[name]) for name, value in first.items()) > len(first) / 2
    return {name: (value.double() + second[name].double()) / 2 for name, value in first.items()}


@pytest.fixture(scope="module")
def run(profile: Path, start: Path) -> Path:
    return finetune(profile, "whole", "--init", start, "--soup-size", 2).run


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7, check_dtype=False)


def test_the_model_has_the_mean_weights_of_single_trainings(run: Path, mean: dict[str, torch.Tensor]) -> None:
    assert_close(weights(run / "best"), mean)
    assert_close(weights(run / "last"), mean)
    checkpoint = load_checkpoint(run / "best")
    assert (checkpoint.stage, checkpoint.step, checkpoint.epoch) == ("finetune", STEPS, 1)


def test_files_of_a_soup(run: Path) -> None:
    assert config_from_file(run / "config.yaml").optim.soup_size == 2
    (row,) = validations(run)
    assert row["step"] == STEPS
    assert steps(run) == []
    assert {p.name for p in (run / "members").iterdir()} == {"1", "2"}
    for number in (1, 2):
        member = run / "members" / str(number)
        assert [row["step"] for row in steps(member)] == list(range(1, STEPS + 1))
        assert config_from_file(member / "config.yaml").seed == SEED + number - 1
        assert (member / "report.html").is_file()
        assert not any(os.path.lexists(member / name) for name in ("checkpoints", "last", "best"))


def test_all_trainings_start_from_the_same_new_model(profile: Path) -> None:
    """With learning rates of nearly 0 all weights stay where they started, and so does the mean."""
    rates = ("--lr", "1e-30", "--lr-location", "1e-30")
    decays = ("--set", "optim.weight_decay=0", "--set", "optim.location_weight_decay=0")
    one, two = (finetune(profile, f"still-{n}", "--soup-size", n, *rates, *decays).run for n in (1, 2))
    assert_close(weights(two / "last"), weights(one / "last"))


def test_the_prior_of_the_reranker_is_fitted_once(profile: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def save_prior(trainer: Trainer, *arguments: Any) -> None:
        calls.append(arguments)
        reranker_weights(16, dense_score=1.5).save(trainer.run.path, BEFORE_TRAINING_FILE)

    monkeypatch.setattr("m3gal_cli.training.pipelines.save_prior", save_prior)
    own = finetune(profile, "prior", "--init", start, "--soup-size", 2).run
    prior = RerankerWeights.load(own, BEFORE_TRAINING_FILE)
    assert prior is not None
    assert (prior.queries, prior.arrays["linear.weight"][0, 0]) == (16, 1.5)
    assert len(calls) == 1


@pytest.mark.parametrize(("member", "step"), [(1, 3), (2, 2)])
def test_an_interrupted_soup_is_resumed(
    profile: Path, start: Path, mean: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, member: int, step: int
) -> None:
    original = Trainer.step

    def interrupted(self: Trainer, *arguments: Any) -> Any:
        if self.run.path.name == str(member) and self.state.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    name = f"interrupted-{member}"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        answer = finetune(profile, name, "--init", start, "--soup-size", 2)
    assert answer.code == 130, answer.err
    assert f"--run-name {name} --resume auto" in answer.err
    assert (profile.parent / "runs" / name / "members" / str(member) / "last").resolve().name == f"step-{step:08d}"
    resumed = finetune(profile, name, "--soup-size", 2, "--resume", "auto").run
    assert_close(weights(resumed / "best"), mean)


def test_a_finished_soup_does_not_change(profile: Path, run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    resumed = finetune(profile, "whole", "--soup-size", 2, "--resume", "auto", "--epochs", 5)
    assert resumed.code == 0
    assert "nothing is left to do" in resumed.err
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before


def test_a_soup_is_a_finetuning_of_its_own(profile: Path, start: Path) -> None:
    single = finetune(profile, "single", "--init", start, "--max-steps", 1).run
    for answer, message in (
        (finetune(profile, "other", "--soup-size", 2, "--resume", start), "--init"),
        (train("pretrain", profile, "other", "--set", "optim.soup_size=2"), "only finetuning can average"),
        (finetune(profile, "single", "--soup-size", 2, "--resume", "auto"), f"{single}: a model soup cannot continue"),
    ):
        assert answer.code == 2
        assert message in answer.err
    assert not (profile.parent / "runs" / "other").exists()
    untrained = finetune(profile, "untrained", "--init", start, "--soup-size", 3, "--max-steps", 0).run
    assert_close(weights(untrained / "last"), weights(start / "last"))
