"""A run that was stopped and resumed equals the run that was never stopped, bit for bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.pipelines import run_finetune, run_pretrain
from m3gal_cli.training.stage import StartOptions
from m3gal_cli.training.trainer import Interrupted
from tests.helpers import sample_town
from tests.helpers.cli import file_contents, steps, validations, weights
from tests.helpers.sample_town import STEPS

RUNNERS = {"pretrain": run_pretrain, "finetune": run_finetune}
TOTAL = 2 * STEPS
LOSSES = ("text_loss", "location_loss", "fused_loss", "lr", "location_lr")
OPTIMISERS = {
    "adamw": ["optim.name=adamw", "optim.decay=cosine", "optim.warmup=0.3", "optim.clip=1.0"],
    "sgd": ["optim.name=sgd", "optim.schedule=[1]", "optim.lr=0.3", "momentum.queue_fill=random"],
}
STAGES = {"pretrain": [], "finetune": ["optim.batch_size=4", "optim.negatives=3", "optim.in_batch=true"]}


class Crash(Exception):
    """The process dies."""


class Stopper(Listener):
    """Interrupts the training after a step, or raises ``Crash``; records the first step and all messages."""

    def __init__(self, at: int | None = None, crash: bool = False) -> None:
        self.at, self.crash, self.first = at, crash, -1
        self.messages: list[str] = []

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        assert total_steps == TOTAL
        self.first = done

    def advance(self, done: int) -> None:
        if done == self.at:
            if self.crash:
                raise Crash
            signal.raise_signal(signal.SIGINT)

    def message(self, text: str) -> None:
        self.messages.append(text)


Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(profile: Path) -> Train:
    torch.set_num_threads(1)

    def run(stage: str, optimiser: str, name: str, listener: Listener, resume: str | None = None, *more: str) -> Path:
        sets = [*STAGES[stage], *OPTIMISERS[optimiser], f"run.dir={profile.parent}/runs", f"run.name={name}"]
        config = load_config(str(profile), {}, [*sets, "optim.epochs=2", *more])
        return RUNNERS[stage](config, StartOptions(resume), listener).path

    return run


@pytest.fixture(scope="module")
def whole(train: Train) -> Train:
    """The run that is never stopped."""

    @cache
    def run(stage: str, optimiser: str) -> Path:
        return train(stage, optimiser, f"{stage}-{optimiser}-whole", Listener())

    return run


def without_tensors(value: Any) -> Any:
    """Return a state with its tensors as lists, so that ``==`` compares it bit for bit."""
    if isinstance(value, torch.Tensor):
        return value.dtype, value.tolist()
    if isinstance(value, dict):
        return {key: without_tensors(own) for key, own in value.items()}
    return [without_tensors(own) for own in value] if isinstance(value, list) else value


def trainer_state(run: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run / "last" / "trainer.pt", weights_only=True)
    return state


def assert_same_run(resumed: Path, whole: Path) -> None:
    """Compare logged losses and rates, validations, weights, the trainer state and the choice of the best."""
    assert [row["step"] for row in steps(resumed)] == list(range(1, TOTAL + 1))
    for own, wanted in zip(steps(resumed), steps(whole), strict=True):
        assert {name: own[name] for name in LOSSES} == {name: wanted[name] for name in LOSSES}, own["step"]
    found = [(row["step"], row["epoch"], row["metrics"]) for row in validations(resumed)]
    assert found == [(row["step"], row["epoch"], row["metrics"]) for row in validations(whole)]
    assert [row[0] for row in found] == [STEPS, TOTAL]
    for link in ("last", "best"):
        names = [(run / link).resolve().name[: len("step-00000000")] for run in (resumed, whole)]
        assert names[0] == names[1]  # a step that was saved again has a suffix
        assert without_tensors(weights(resumed / link)) == without_tensors(weights(whole / link))
    assert without_tensors(trainer_state(resumed)) == without_tensors(trainer_state(whole))


@pytest.mark.parametrize(
    ("stage", "optimiser", "stop"),
    [
        ("pretrain", "adamw", 1),
        ("pretrain", "sgd", STEPS + 2),
        ("pretrain", "adamw", STEPS),  # the signal arrives before the validation of the epoch
        ("finetune", "adamw", STEPS + 2),
    ],
)
def test_a_run_resumes_after_a_signal(train: Train, whole: Train, stage: str, optimiser: str, stop: int) -> None:
    name = f"{stage}-{optimiser}-{stop}"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted) as caught:
        train(stage, optimiser, name, Stopper(stop))
    assert caught.value.step == stop
    assert caught.value.path.name == f"step-{stop:08d}"
    assert signal.getsignal(signal.SIGINT) is before, "the handler is restored"
    saved = load_checkpoint(caught.value.path, with_trainer=True)
    assert (saved.stage, saved.epoch, saved.step) == (stage, stop // STEPS, stop)
    listener = Stopper()
    run = train(stage, optimiser, name, listener, "auto")
    assert listener.first == stop
    assert_same_run(run, whole(stage, optimiser))


@pytest.mark.parametrize(
    ("stage", "sets", "crash_after", "saved"),
    [
        ("pretrain", ["run.save_every=2"], STEPS + 3, STEPS + 2),
        ("finetune", [], STEPS + 3, STEPS),
    ],
)
def test_a_run_resumes_from_the_last_checkpoint_after_a_crash(
    train: Train, whole: Train, stage: str, sets: list[str], crash_after: int, saved: int
) -> None:
    """Rows that were logged after the checkpoint are logged again, once; an incomplete line does no harm."""
    name = f"{stage}-crash-{crash_after}"
    with pytest.raises(Crash):
        train(stage, "adamw", name, Stopper(crash_after, crash=True), None, *sets)
    run = whole(stage, "adamw").with_name(name)
    assert (run / "last").resolve().name == f"step-{saved:08d}"
    assert steps(run)[-1]["step"] == crash_after - 1
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "st')
    listener = Stopper()
    train(stage, "adamw", name, listener, "auto")
    assert listener.first == saved
    assert_same_run(run, whole(stage, "adamw"))


def test_a_run_given_by_its_path_is_continued_under_another_name(train: Train, whole: Train) -> None:
    """The new run continues from the last checkpoint, not from the best one, and the old run does not change."""
    with pytest.raises(Interrupted):
        train("pretrain", "sgd", "old", Stopper(STEPS + 1))
    old = whole("pretrain", "sgd").with_name("old")
    before = (old / "metrics.jsonl").read_bytes()
    assert (old / "best").resolve() != (old / "last").resolve()
    listener = Stopper()
    run = train("pretrain", "sgd", "new", listener, str(old))
    assert listener.first == STEPS + 1
    wanted = [row["fused_loss"] for row in steps(whole("pretrain", "sgd"))]
    assert [row["fused_loss"] for row in steps(run)] == wanted[STEPS + 1 :]
    assert (old / "metrics.jsonl").read_bytes() == before


def test_a_finished_run_says_that_nothing_is_left_to_do(train: Train, whole: Train) -> None:
    run = whole("finetune", "adamw")
    before, listener = file_contents(run), Stopper()
    assert train("finetune", "adamw", run.name, listener, "auto", "optim.max_steps=3") == run
    assert listener.first == -1, "the trainer is not started"
    assert f"already has {TOTAL} steps, and --max-steps 3 asks for" in listener.messages[0]
    assert "nothing is left to do" in listener.messages[0]
    assert file_contents(run) == before


def test_init_and_another_stage_take_weights_without_trainer_state(profile: Path, whole: Train) -> None:
    """``--init`` takes the weights of the best checkpoint, ``--resume`` those of the last; all else starts anew."""
    source = whole("pretrain", "adamw")
    for stage, option, link in (("pretrain", "--init", "best"), ("finetune", "--resume", "last")):
        run = sample_town.train(stage, profile, f"{stage}{option}", option, source, "-b", 4, "--max-steps", 0).run
        assert without_tensors(weights(run / "last")) == without_tensors(weights(source / link))
        state = trainer_state(run)
        assert state["position"]["step"] == state.get("queue", {}).get("filled", 0) == 0
        assert state["optimizer"]["state"] == {}


def test_a_resume_without_a_step_or_with_another_queue_is_refused(profile: Path, whole: Train) -> None:
    source = whole("pretrain", "adamw")
    for options, message in (
        (("--epochs", 2), f"already has {TOTAL} steps"),
        (("--queue-size", 48), "--queue-size 40"),
        (("--init", source), "exclude each other"),
    ):
        answer = sample_town.train("pretrain", profile, "refused", "--resume", source, *options)
        assert answer.code == 2
        assert message in answer.err
        assert "--init" in answer.err
        assert not source.with_name("refused").exists()
