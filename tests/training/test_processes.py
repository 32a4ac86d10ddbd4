"""Trainings in processes of their own: signals from outside, and two processes that share the work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from m3gal_cli.core.checkpoint import load_checkpoint
from tests.helpers.cli import ENVIRONMENT, m3gal, steps, weights

pytestmark = pytest.mark.integration
two_processes = pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")


def arguments(profile: Path, name: str, *more: object) -> list[str]:
    runs = profile.parent / "runs"
    return [str(a) for a in ("--config", profile, "--runs-dir", runs, "--run-name", name, *more)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_prints_how_to_resume(profile: Path, number: signal.Signals) -> None:
    name, run = number.name, profile.parent / "runs" / number.name
    endless = arguments(profile, name, "--epochs", 100_000, "--set", "run.validate_every=100000")
    command = [sys.executable, "-m", "m3gal_cli", "pretrain", *endless]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        deadline = time.monotonic() + 120
        while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < 3:
            assert program.poll() is None, program.communicate()
            assert time.monotonic() < deadline, "no step within two minutes"
            time.sleep(0.02)
        program.send_signal(number)
        out, err = program.communicate(timeout=60)
    assert program.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    done = steps(run)[-1]["step"]
    assert f"error: interrupted at step {done}; saved {run}/checkpoints/step-{done:08d}\n" in err
    assert err.endswith(f"--run-name {name} --resume auto\n")
    saved = load_checkpoint(run / "last", with_trainer=True)
    assert (saved.stage, saved.step) == ("pretrain", done)
    assert saved.trainer is not None
    assert saved.trainer["position"]["step"] == done
    last = done + 3
    assert m3gal("pretrain", *arguments(profile, name, "--max-steps", last, "--resume", "auto")).run == run
    whole = m3gal("pretrain", *arguments(profile, f"{name}-whole", "--max-steps", last)).run
    assert [row["step"] for row in steps(run)] == list(range(1, last + 1))
    assert [row["fused_loss"] for row in steps(run)] == [row["fused_loss"] for row in steps(whole)]


PLAIN = ("--set", "model.scratch.dropout=0", "--set", "device=auto", "--max-steps", 6)
SGD = ["--set", "optim.name=sgd", "--lr", 0.3]
VARIANTS = {
    "text": ["pretrain", *SGD, "--loss", "text", "--set", "momentum.queue_fill=random"],
    "fused": ["pretrain", *SGD, "--accumulate", 3, "--encode-chunk", 2],
    "lists": ["finetune", *SGD, "--batch-size", 4, "--set", "optim.negatives=3", "--set", "optim.clip=1"],
    "in batch": ["finetune", *SGD, "--batch-size", 4, "--set", "optim.in_batch=true"],
}


LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
END = "--- done ---"
# Several trainings in one pair of processes, whose start takes longer than a training.
PAIR = f"""
import json, os, sys
import torch
from m3gal_cli.cli.app import main

part = torch.distributed.destroy_process_group
torch.distributed.destroy_process_group = lambda: None
for command in json.loads(sys.argv[1]):
    sys.argv = ["m3gal", *command]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    if os.environ["RANK"] == "0":
        for stream in (sys.stdout, sys.stderr):
            print({END!r}, file=stream, flush=True)
part()
"""


def launch(*words: object) -> tuple[str, str]:
    """Return stdout and stderr of two processes."""
    command = [*LAUNCHER, *map(str, words)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def by_two(*commands: list[str]) -> list[tuple[str, str]]:
    """Return stdout and stderr of each ``m3gal COMMAND``, run by two processes."""
    texts = launch("--no-python", sys.executable, "-c", PAIR, json.dumps(commands))
    out, err = (text.split(f"{END}\n") for text in texts)
    assert out.pop() == ""
    return list(zip(out, err[: len(out)], strict=True))


@pytest.fixture(scope="module")
def pairs(profile: Path) -> dict[str, tuple[str, str]]:
    """Return the output of each variant, trained by two processes as ``VARIANT-2``."""
    commands = [[stage, *arguments(profile, f"{name}-2", *PLAIN, *more)] for name, (stage, *more) in VARIANTS.items()]
    return dict(zip(VARIANTS, by_two(*commands), strict=True))


@pytest.mark.parametrize("variant", list(VARIANTS))
@two_processes
def test_two_processes_give_the_losses_and_weights_of_one(
    profile: Path, pairs: dict[str, tuple[str, str]], variant: str
) -> None:
    """The global batch is the same. There is one run, one path on stdout and one set of messages."""
    stage, *more = VARIANTS[variant]
    alone = m3gal(stage, *arguments(profile, f"{variant}-1", *PLAIN, *more)).run
    out, err = pairs[variant]
    both = alone.with_name(f"{variant}-2")
    assert out == f"{both}\n"
    assert sum(line.startswith("step 6/6") for line in err.splitlines()) == 1
    assert [row["step"] for row in steps(both)] == [1, 2, 3, 4, 5, 6]
    for own, wanted in zip(steps(both), steps(alone), strict=True):
        losses = [name for name in wanted if name.endswith("_loss")]
        assert losses
        for kind in (*losses, "grad_norm", "queue_accuracy"):
            assert own[kind] == pytest.approx(wanted[kind], abs=1e-5, rel=1e-5), (own["step"], kind)
    torch.testing.assert_close(weights(both / "last"), weights(alone / "last"), atol=1e-5, rtol=1e-5)


@two_processes
def test_two_processes_resume_bit_for_bit(profile: Path) -> None:
    """Each process has its own dropout and restores its own random state."""
    dropout = ("--set", "model.scratch.dropout=0.2", "--set", "device=auto", "--set", "run.validate_every=1")
    whole, halves = (profile.parent / "runs" / name for name in ("whole-2", "halves-2"))
    half = arguments(profile, halves.name, *dropout, "--resume", "auto", "--epochs")
    by_two(["pretrain", *arguments(profile, whole.name, *dropout, "--epochs", 2)], ["pretrain", *half, "1"])
    launch("-m", "m3gal_cli", "pretrain", *half, 2)
    assert len(steps(whole)) == 8
    for own, wanted in zip(steps(halves), steps(whole), strict=True):
        assert own["fused_loss"] == wanted["fused_loss"], own["step"]
    state = load_checkpoint(whole / "last", with_trainer=True).trainer
    assert state is not None
    assert len({tuple(row) for row in state["rng"].tolist()}) == 2, "each process has its own random state"


@two_processes
def test_two_processes_train_the_soup_of_one(profile: Path) -> None:
    """They stay in one group for all trainings and agree on the name of the run, which is not given."""
    more = (*PLAIN, *SGD, "--batch-size", 4, "--set", "optim.in_batch=true", "--soup-size", 2)
    alone = m3gal("finetune", *arguments(profile, "soup-1", *more)).run
    runs = profile.parent / "by-two"
    out, _ = launch("-m", "m3gal_cli", "finetune", "--config", profile, "--runs-dir", runs, *more)
    (both,) = runs.iterdir()
    assert out == f"{both}\n"
    for number in ("1", "2"):
        assert len(steps(both / "members" / number)) == 6
    torch.testing.assert_close(weights(both / "last"), weights(alone / "last"), atol=1e-5, rtol=1e-5)
