"""Training as programs of their own: signals from outside, and two processes that do the work of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command import m3gal, steps, weights
from town import write_town

from m3gal_cli.core.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("programs"))


def arguments(profile: Path, name: str, *more: object) -> list[str]:
    runs = profile.parent / "runs"
    return [str(a) for a in ("--config", profile, "--runs-dir", runs, "--output-name", name, *more)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(profile: Path, number: signal.Signals) -> None:
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
    assert err.endswith(f"--output-name {name} --resume auto\n")
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
VARIANTS = {
    "pretrain": ["--loss", "text", "--set", "optim.name=sgd", "--set", "momentum.queue_fill=random"],
    "finetune": ["--batch-size", 4, "--set", "optim.negatives=3", "--set", "optim.clip=1"],
}


@pytest.mark.parametrize("stage", list(VARIANTS))
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")
def test_two_processes_do_the_work_of_one(profile: Path, stage: str) -> None:
    """The same global batch: the same losses and weights; one run, one path on stdout, one voice on stderr."""
    alone = m3gal(stage, *arguments(profile, f"{stage}-1", *PLAIN, *VARIANTS[stage])).run
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = arguments(profile, f"{stage}-2", *PLAIN, *VARIANTS[stage])
    done = subprocess.run(
        [*launcher, "-m", "m3gal_cli", stage, *given],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    both = alone.with_name(f"{stage}-2")
    assert done.stdout == f"{both}\n"
    assert sum(line.startswith("step 6/6") for line in done.stderr.splitlines()) == 1
    assert [row["step"] for row in steps(both)] == [1, 2, 3, 4, 5, 6]
    for own, wanted in zip(steps(both), steps(alone), strict=True):
        for kind in ("text_loss", "location_loss", "fused_loss"):
            assert own[kind] == pytest.approx(wanted[kind], abs=1e-5), own["step"]
    found = [weights(run / "last") for run in (both, alone)]
    for key, value in found[1].items():
        torch.testing.assert_close(found[0][key], value, atol=1e-3, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


def test_a_batch_that_the_processes_cannot_share(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", 3)
    answer = m3gal("pretrain", *arguments(profile, "uneven"))
    assert answer.code == 2
    assert "optim.batch_size 16 is no multiple of the 3 processes" in answer.err
    assert not (profile.parent / "runs" / "uneven").exists()
