"""A finetuning of several members: the mean of what their trainings end with, however they are stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.config.load import config_from_file
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.rerank.linear import BEFORE, RerankerWeights
from m3gal_cli.training import pipelines as stages
from m3gal_cli.training.trainer import Trainer
from tests.helpers.cli import m3gal, steps, validations, weights
from tests.helpers.sample_town import SPLITS, write_town

SEED = 7  # of the profile
BATCH, EPOCHS = 4, 2
STEPS = SPLITS["train"] // BATCH * EPOCHS


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("members"))


def finetune(town: Path, name: str, *more: object) -> Any:
    options = ("--config", town, "--runs-dir", town.parent / "runs", "--output-name", name)
    return m3gal("finetune", *options, "--batch-size", BATCH, "--epochs", EPOCHS, *more)


@pytest.fixture(scope="module")
def start(town: Path) -> Path:
    options = ("--config", town, "--runs-dir", town.parent / "runs", "--output-name", "start", "--epochs", 1)
    return m3gal("pretrain", *options).run


@pytest.fixture(scope="module")
def wanted(town: Path, start: Path) -> dict[str, torch.Tensor]:
    """The mean of three trainings, each with a seed of its own."""
    runs = [finetune(town, f"single-{i}", "--init", start, "--seed", SEED + i).run for i in range(3)]
    every = [weights(run / "last") for run in runs]
    moved = [name for name, value in every[0].items() if not torch.equal(value, every[1][name])]
    assert len(moved) > len(every[0]) / 2
    return {name: torch.stack([w[name].double() for w in every]).mean(0) for name in every[0]}


@pytest.fixture(scope="module")
def run(town: Path, start: Path) -> Path:
    return finetune(town, "whole", "--init", start, "--members", 3).run


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-6, atol=1e-7)


def test_the_model_has_the_mean_of_the_weights_of_single_trainings(run: Path, wanted: dict[str, torch.Tensor]) -> None:
    same(weights(run / "best"), wanted)
    same(weights(run / "last"), wanted)
    checkpoint = load_checkpoint(run / "best")
    assert (checkpoint.stage, checkpoint.step, checkpoint.epoch) == ("finetune", STEPS, EPOCHS)


def test_what_a_run_of_members_leaves(run: Path) -> None:
    assert config_from_file(run / "config.yaml").optim.soup_size == 3
    (row,) = validations(run)
    assert row["step"] == STEPS
    assert steps(run) == []
    assert {p.name for p in (run / "members").iterdir()} == {"1", "2", "3"}
    for number in (1, 2, 3):
        member = run / "members" / str(number)
        assert [row["step"] for row in steps(member)] == list(range(1, STEPS + 1))
        assert config_from_file(member / "config.yaml").seed == SEED + number - 1
        assert (member / "report.html").is_file()
        assert not (member / "checkpoints").exists()
        assert not os.path.lexists(member / "last")
        assert not os.path.lexists(member / "best")


def test_members_start_from_the_same_weights_where_nothing_was_trained_before(town: Path) -> None:
    """With rates of 0 all members stay where they began, and so does their mean."""
    still = (
        "--lr",
        "1e-30",
        "--gc-lr",
        "1e-30",
        "--set",
        "optim.weight_decay=0",
        "--set",
        "optim.location_weight_decay=0",
    )
    one, three = (finetune(town, f"still-{n}", "--members", n, *still).run for n in (1, 3))
    same(weights(three / "last"), {name: value.double() for name, value in weights(one / "last").items()})


def test_what_the_training_records_teach_before_is_learned_once(
    town: Path, start: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []

    def before(*given: Any) -> RerankerWeights:
        learned.append(given)
        return RerankerWeights(tuple(float(i) for i in range(13)), 16)

    monkeypatch.setattr(stages, "learn_before", before)
    again = finetune(town, "before", "--init", start, "--members", 2).run
    (found,) = {RerankerWeights.load(again, BEFORE)}
    assert found is not None
    assert found.values == tuple(range(13))
    assert len(learned) == 1


@pytest.mark.parametrize("stopped_at", [(1, 3), (2, 2)])
def test_a_stopped_run_goes_on_where_it_was(
    town: Path,
    start: Path,
    wanted: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    stopped_at: tuple[int, int],
) -> None:
    member, step = stopped_at
    own = Trainer.step

    def stopping(self: Trainer, *given: Any) -> Any:
        if self.run.path.name == str(member) and self.position.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, *given)

    monkeypatch.setattr(Trainer, "step", stopping)
    name = f"stopped-{member}"
    answer = finetune(town, name, "--init", start, "--members", 3)
    assert answer.code == 130, answer.err
    assert f"--output-name {name} --resume auto" in answer.err
    monkeypatch.setattr(Trainer, "step", own)
    again = finetune(town, name, "--members", 3, "--init", start)
    assert again.code == 2
    assert "--resume auto" in again.err
    resumed = finetune(town, name, "--members", 3, "--resume", "auto").run
    same(weights(resumed / "best"), wanted)


def test_a_finished_run_stays_as_it_is(town: Path, start: Path, run: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")}
    taken = finetune(town, "whole", "--init", start, "--members", 3)
    assert taken.code == 2
    assert "the run exists already" in taken.err
    again = finetune(town, "whole", "--members", 3, "--resume", "auto", "--epochs", 5)
    assert again.code == 0
    assert "nothing is left to do" in again.err
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*.safetensors")} == before


def test_no_members_of_a_single_training(town: Path, start: Path) -> None:
    answer = finetune(town, "other", "--members", 2, "--resume", start)
    assert answer.code == 2
    assert "--init" in answer.err
    assert not (town.parent / "runs" / "other").exists()
    single = finetune(town, "one", "--init", start, "--max-steps", 3).run
    answer = finetune(town, "one", "--members", 2, "--resume", "auto")
    assert answer.code == 2
    assert f"{single}: members cannot go on from a single training" in answer.err


def test_pretraining_has_no_members(town: Path) -> None:
    answer = m3gal("pretrain", "--config", town, "--runs-dir", town.parent / "others", "--set", "optim.soup_size=2")
    assert answer.code == 2
    assert "optim.soup_size is 2" in answer.err
    assert not (town.parent / "others").exists()


def test_a_dry_run_tells_the_time_of_all_members(town: Path, start: Path) -> None:
    answer = finetune(town, "dry", "--init", start, "--members", 3, "--dry-run", "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["members"] == 3
    assert told["steps"] == STEPS
    assert told["seconds"] == pytest.approx(3 * STEPS * told["seconds_per_step"])
    assert not (town.parent / "runs" / "dry").exists()


def test_no_step_no_members(town: Path, start: Path) -> None:
    untrained = finetune(town, "untrained", "--init", start, "--members", 3, "--max-steps", 0).run
    same(weights(untrained / "last"), {name: value.double() for name, value in weights(start / "last").items()})
    assert not (untrained / "members").exists()
