"""A run that was stopped and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.training.pipelines import Start, run_finetune, run_pretrain
from m3gal_cli.training.trainer import Interrupted
from tests.helpers.cli import m3gal, steps, validations, weights
from tests.helpers.sample_town import STEPS, write_town

RUNNERS = {"pretrain": run_pretrain, "finetune": run_finetune}
TOTAL = 3 * STEPS
LOSSES = ("text_loss", "location_loss", "fused_loss", "lr", "location_lr")
OPTIMISERS = {
    "adamw": ["optim.name=adamw", "optim.decay=cosine", "optim.warmup=0.3", "optim.clip=1.0"],
    "sgd": ["optim.name=sgd", "optim.schedule=[1, 2]", "optim.lr=0.3", "momentum.queue_fill=random"],
}
STAGES = {"pretrain": [], "finetune": ["optim.batch_size=4", "optim.negatives=3", "optim.in_batch=true"]}


class Crash(Exception):
    """The program dies."""


class Stopper:
    """Sends a signal, or dies, once a step is done."""

    def __init__(self, at: int | None = None, by: Callable[[], None] = lambda: None) -> None:
        self.at, self.by, self.began = at, by, -1

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        assert total_steps == TOTAL
        self.began = done

    def advance(self, done: int) -> None:
        if done == self.at:
            self.by()

    def step(self, row: dict[str, Any]) -> None: ...
    def validation(self, row: dict[str, Any]) -> None: ...
    def warning(self, row: dict[str, Any]) -> None: ...
    def saved(self, path: Any, best: bool) -> None: ...


def die() -> None:
    raise Crash


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("resume"))


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(profile: Path) -> Train:
    torch.set_num_threads(1)

    def run(stage: str, optimiser: str, name: str, listener: Stopper, resume: str | None = None) -> Path:
        sets = [*STAGES[stage], *OPTIMISERS[optimiser], f"run.dir={profile.parent}/runs", f"run.name={name}"]
        return RUNNERS[stage](load_config(str(profile), {}, sets), Start(resume), listener).path

    return run


@pytest.fixture(scope="module")
def whole(train: Train) -> Train:
    """The run that nobody stops."""

    @cache
    def run(stage: str, optimiser: str) -> Path:
        return train(stage, optimiser, f"{stage}-{optimiser}-whole", Stopper())

    return run


def assert_equal(one: Any, other: Any, at: str = "") -> None:
    """The same tensors, numbers and names, bit for bit."""
    assert type(one) is type(other), at
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), at
    elif isinstance(one, dict):
        assert list(one) == list(other), at
        for key, value in one.items():
            assert_equal(value, other[key], f"{at}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), at
        for i, value in enumerate(one):
            assert_equal(value, other[i], f"{at}[{i}]")
    else:
        assert one == other, at


def assert_same_run(resumed: Path, whole: Path) -> None:
    """Logged losses and rates, validations, weights, everything that the trainer saves, and the choice of the best."""
    assert [row["step"] for row in steps(resumed)] == list(range(1, TOTAL + 1))
    for own, wanted in zip(steps(resumed), steps(whole), strict=True):
        assert {name: own[name] for name in LOSSES} == {name: wanted[name] for name in LOSSES}, own["step"]
    found = [(row["step"], row["epoch"], row["metrics"]) for row in validations(resumed)]
    assert found == [(row["step"], row["epoch"], row["metrics"]) for row in validations(whole)]
    assert [row[0] for row in found] == [STEPS, 2 * STEPS, 3 * STEPS]
    for link in ("last", "best"):
        assert (resumed / link).resolve().name == (whole / link).resolve().name
        assert_equal(weights(resumed / link), weights(whole / link))
    states = [torch.load(run / "last" / "trainer.pt", weights_only=True) for run in (resumed, whole)]
    assert_equal(states[0], states[1])


@pytest.mark.parametrize("stop", [1, STEPS + 2, 2 * STEPS], ids=["first step", "within", "epoch's end"])
@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("stage", list(STAGES))
def test_a_signal(train: Train, whole: Train, stage: str, optimiser: str, stop: int) -> None:
    name = f"{stage}-{optimiser}-{stop}"
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in a shell's background
    with pytest.raises(Interrupted) as caught:
        train(stage, optimiser, name, Stopper(stop, lambda: signal.raise_signal(signal.SIGINT)))
    assert caught.value.step == stop
    assert caught.value.path.name == f"step-{stop:08d}"
    assert signal.getsignal(signal.SIGINT) is before, "the handler is put back"
    saved = load_checkpoint(caught.value.path, with_trainer=True)
    assert (saved.stage, saved.epoch, saved.step) == (stage, stop // STEPS, stop)
    listener = Stopper()
    run = train(stage, optimiser, name, listener, resume="auto")
    assert listener.began == stop
    assert_same_run(run, whole(stage, optimiser))


@pytest.mark.parametrize(("die_after", "saved"), [(3, 2), (STEPS + 1, STEPS), (2 * STEPS + 3, 2 * STEPS + 2)])
def test_a_crash_goes_back_to_the_checkpoint_between_validations(
    profile: Path, train: Train, whole: Train, die_after: int, saved: int
) -> None:
    """With run.save_every a run loses no more than these steps, in the middle of an epoch too."""
    name, stage = f"every-{die_after}", "pretrain"
    sets = [*OPTIMISERS["adamw"], "run.save_every=2", f"run.dir={profile.parent}/runs", f"run.name={name}"]
    with pytest.raises(Crash):
        run_pretrain(load_config(str(profile), {}, sets), Start(), Stopper(die_after, die))
    run = whole(stage, "adamw").with_name(name)
    assert (run / "last").resolve().name == f"step-{saved:08d}"
    listener = Stopper()
    train(stage, "adamw", name, listener, resume="auto")
    assert listener.began == saved
    assert_same_run(run, whole(stage, "adamw"))


@pytest.mark.parametrize("stage", list(STAGES))
def test_a_crash_goes_back_to_the_last_checkpoint(train: Train, whole: Train, stage: str) -> None:
    """What the dead program logged beyond its last checkpoint is logged anew, once; a line cut short does no harm."""
    name = f"{stage}-crashed"
    with pytest.raises(Crash):
        train(stage, "adamw", name, Stopper(STEPS + 3, die))
    run = whole(stage, "adamw").with_name(name)
    assert (run / "last").resolve().name == f"step-{STEPS:08d}"
    assert steps(run)[-1]["step"] > STEPS
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    listener = Stopper()
    train(stage, "adamw", name, listener, resume="auto")
    assert listener.began == STEPS
    assert_same_run(run, whole(stage, "adamw"))


def test_a_run_by_its_path_goes_on_in_a_run_of_another_name(train: Train, whole: Train) -> None:
    """It continues from the last checkpoint, not from the best one, and the old run stays as it is."""
    with pytest.raises(Interrupted):
        train("pretrain", "sgd", "old", Stopper(STEPS + 1, lambda: signal.raise_signal(signal.SIGTERM)))
    old = whole("pretrain", "sgd").with_name("old")
    before = (old / "metrics.jsonl").read_bytes()
    assert (old / "best").resolve() != (old / "last").resolve()
    listener = Stopper()
    run = train("pretrain", "sgd", "new", listener, resume=str(old))
    assert listener.began == STEPS + 1
    wanted = [row["fused_loss"] for row in steps(whole("pretrain", "sgd"))]
    assert [row["fused_loss"] for row in steps(run)] == wanted[STEPS + 1 :]
    assert (old / "metrics.jsonl").read_bytes() == before


def test_auto_without_a_run_starts_one(train: Train, whole: Train) -> None:
    listener = Stopper()
    run = train("finetune", "sgd", "fresh", listener, resume="auto")
    assert listener.began == 0
    assert_same_run(run, whole("finetune", "sgd"))


def test_a_finished_run_resumed_trains_no_further(train: Train, whole: Train) -> None:
    run = whole("finetune", "adamw")
    before = [path.read_bytes() for path in (run / "metrics.jsonl", run / "last" / "trainer.pt")]
    listener = Stopper()
    assert train("finetune", "adamw", run.name, listener, resume="auto") == run
    assert listener.began == TOTAL
    assert [p.read_bytes() for p in (run / "metrics.jsonl", run / "last" / "trainer.pt")] == before


def test_init_takes_weights_alone(profile: Path, train: Train, whole: Train) -> None:
    """The first step is the first: no optimiser, no position, no queue; the weights are the best checkpoint's."""
    source = whole("pretrain", "adamw")
    run = m3gal(
        *("pretrain", "--config", profile, "--init", source, "--runs-dir", profile.parent / "runs"),
        *("--output-name", "from-weights", "--max-steps", 0),
    ).run
    own, best = (weights(path) for path in (run / "last", source / "best"))
    assert_equal(own, best)
    state = torch.load(run / "last" / "trainer.pt", weights_only=True)
    assert state["position"]["step"] == 0
    assert state["optimizer"]["state"] == {}
    assert int(state["queue"]["filled"]) == 0


def test_of_another_stage_the_weights_alone_are_taken(profile: Path, whole: Train) -> None:
    source = whole("pretrain", "adamw")
    run = m3gal(
        *("finetune", "--config", profile, "--resume", source, "--runs-dir", profile.parent / "runs"),
        *("--output-name", "next-stage", "--batch-size", 4, "--max-steps", 0),
    ).run
    own, last = (weights(path) for path in (run / "last", source / "last"))
    assert_equal(own, last)
    assert json.loads((run / "last" / "m3gal.json").read_text())["stage"] == "finetune"
    assert torch.load(run / "last" / "trainer.pt", weights_only=True)["position"]["step"] == 0


def test_resume_and_init_exclude_each_other() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        Start("auto", "runs/a")


def test_another_queue_length_is_refused_with_the_one_that_fits(profile: Path, whole: Train) -> None:
    answer = m3gal(
        *("pretrain", "--config", profile, "--resume", whole("pretrain", "adamw"), "--moco-k", 48),
        *("--runs-dir", profile.parent / "runs", "--output-name", "longer-queue"),
    )
    assert answer.code == 2
    assert "--moco-k 40" in answer.err
    assert not (profile.parent / "runs" / "longer-queue").exists()
