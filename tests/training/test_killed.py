"""A run killed, or failing, at any moment of a save has a whole last and a whole best checkpoint."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint
from m3gal_cli.core.checkpoint_parts import read_weights
from m3gal_cli.encoders.checkpoint_lookup import find_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.training.run_directory import RunDirectory
from tests.helpers.disk_events import code_of, in_child, listening
from tests.helpers.toy_models import toy_checkpoint


def filled(checkpoint: Checkpoint, number: int, step: int) -> Checkpoint:
    """The checkpoint with every weight, and the trainer's state, being one number."""
    with torch.no_grad():
        for value in checkpoint.model.state_dict().values():
            value.fill_(number)
    checkpoint.step, checkpoint.metrics, checkpoint.trainer = step, {"number": number}, {"number": number}
    return checkpoint


def number_of(path: Path) -> int:
    """The number that a checkpoint is filled with, all of it."""
    loaded = load_checkpoint(path, with_trainer=True)
    number = int(loaded.metrics["number"])
    assert loaded.trainer == {"number": number}
    assert all((value == number).all() for value in loaded.model.state_dict().values())
    return number


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return toy_checkpoint(location_encoder="fourier")


@pytest.mark.parametrize(("keep", "kills"), [(0, 25), (2, 25)])
def test_killed_at_any_moment(tmp_path: Path, checkpoint: Checkpoint, keep: int, kills: int) -> None:
    """One program after another saves in a loop, also the same step again, and is killed with no warning.

    Each is killed at a random moment after it told of the beginning of its first, second or third save, so that the
    machine's speed decides where in a save it dies, but never whether anything is saved at all.
    """
    run, draw = RunDirectory(tmp_path / "run", keep=keep), random.Random(keep)
    began = time.monotonic()
    run.save(filled(checkpoint, 1, 1), True)
    one = time.monotonic() - began
    newest = before = 1
    told, tell = os.pipe()

    def save_for_ever() -> None:
        chance = random.Random(newest)
        for number in range(newest + 1, newest + 10_000):
            os.write(tell, b".")
            run.save(filled(checkpoint, number, number // 2), chance.random() < 0.4)

    for kill in range(kills):
        pid = in_child(save_for_ever)
        for _ in range(1 + kill % 3):
            os.read(told, 1)
        time.sleep(draw.uniform(0.0, 1.2) * one)
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid) == -signal.SIGKILL
        os.write(tell, b".")
        os.read(told, 1 << 16)
        last, best = number_of(run.last), number_of(run.best)
        assert last >= before, "what was once saved is never lost"
        assert find_checkpoint(run.path) == run.best
        before, newest = last, max(newest, last, best)
    os.close(told)
    os.close(tell)
    assert newest > 5, "it did save in between"
    run.save(filled(checkpoint, newest + 2, newest + 2), False)
    names = os.listdir(run.path / "checkpoints")
    assert not [name for name in names if name.startswith(".")], "what the dead left is gone"
    assert len(names) <= 2 + keep
    assert set(os.listdir(run.path)) == {"checkpoints", "last", "best"}


class Stop(Exception):
    """An exception that nothing expects."""


def die() -> None:
    os._exit(9)


def break_off() -> None:
    raise Stop


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def after(number: int, then: Callable[[], None]) -> Callable[[], None]:
    """A listener that lets so many changes pass and then does ``then`` at every one."""
    passed = count(1)
    return lambda: then() if next(passed) > number else None


def quick_number_of(path: Path) -> int:
    """As ``number_of``, of the files alone."""
    meta = json.loads((path / "m3gal.json").read_text())
    assert torch.load(path / "trainer.pt") == {"number": meta["metrics"]["number"]}
    assert all((value == meta["metrics"]["number"]).all() for value in read_weights(path).values())
    return int(meta["metrics"]["number"])


@pytest.mark.parametrize(
    ("then", "same_step", "best"),
    [(die, False, True), (die, True, False), (break_off, True, True), (full_disk, True, True)],
    ids=["killed", "killed, same step", "exception", "disk full"],
)
def test_stopped_at_every_single_change(
    tmp_path: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[], None],
    same_step: bool,
    best: bool,
) -> None:
    """Best is step 1, last is step 3, step 2 is kept, step 9 died: now 4, or 3 once more, is saved."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # nobody cuts the power here
    start = RunDirectory(tmp_path / "start", keep=1)
    for number in (1, 2, 3):
        start.save(filled(checkpoint, number, number), number == 1)
    (start.path / "checkpoints" / ".step-00000009.tmp").mkdir()
    (start.path / "checkpoints" / ".step-00000009.tmp" / "half").write_bytes(b"half")
    changes: list[None] = []
    rehearsal = Path(shutil.copytree(start.path, tmp_path / "rehearsal", symlinks=True))
    filled(checkpoint, 4, 3 if same_step else 4)
    listening(lambda: changes.append(None), lambda: RunDirectory(rehearsal, keep=1).save(checkpoint, best))
    assert len(changes) > 40
    seen = set()
    for number in range(len(changes) + 1):
        run = RunDirectory(tmp_path / f"run-{number}", keep=1)
        shutil.copytree(start.path, run.path, symlinks=True, copy_function=os.link)
        filled(checkpoint, 4, 3 if same_step else 4)

        def save(run: RunDirectory = run, number: int = number) -> None:
            try:
                listening(after(number, then), lambda: run.save(checkpoint, best))
            except Stop:
                pass
            except InputError as error:
                if "No space left" not in error.render():
                    raise

        code = code_of(in_child(save))
        assert code == (9 if then is die and number < len(changes) else 0)
        found = quick_number_of(run.last), quick_number_of(run.best)
        seen.add(found)
        if number % 10 == 0:
            assert (number_of(run.last), number_of(run.best)) == found
        if number % 5 == 0 or found != (3, 1):
            run.save(filled(checkpoint, 5, 5), False)
            assert (quick_number_of(run.last), quick_number_of(run.best)) == (5, found[1])
            assert not list((run.path / "checkpoints").glob(".*"))
        shutil.rmtree(run.path)
    assert seen == ({(3, 1), (3, 4), (4, 4)} if best else {(3, 1), (4, 1)})


def with_room(bytes_: int, work: Callable[[], None]) -> int:
    """Run ``work`` in a copy of this process whose files can have so many bytes; its exit code."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))
        work()

    return code_of(in_child(limited))


# Sizes at which the one or the other file no longer fits: the tokenizer, the encoders, the location encoders.
@pytest.mark.parametrize("room", [0, 100, 3_000, 20_000, 100_000, 1_000_000])
def test_a_file_that_does_not_fit(tmp_path: Path, checkpoint: Checkpoint, room: int) -> None:
    """A limit that the system sets, so that also what libraries write by themselves fails as on a full disk."""
    run = RunDirectory(tmp_path / "run")
    run.save(filled(checkpoint, 1, 1), True)
    before = sorted(path for path in run.path.rglob("*"))

    def save() -> None:
        with pytest.raises(InputError) as caught:
            run.save(filled(checkpoint, 2, 2), True)
        assert caught.value.where == str(run.path / "checkpoints" / "step-00000002")
        assert "cannot save the checkpoint (" in caught.value.render()
        assert "Free space and resume" in caught.value.render()

    assert with_room(room, save) == 0
    assert sorted(path for path in run.path.rglob("*")) == before
    assert (number_of(run.last), number_of(run.best)) == (1, 1)
    run.save(filled(checkpoint, 2, 2), True)
    assert (number_of(run.last), number_of(run.best)) == (2, 2)


def test_metrics_and_configuration_that_do_not_fit(tmp_path: Path, checkpoint: Checkpoint) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start("seed: 1\n", resuming=False)
    run.save(filled(checkpoint, 1, 1), True)
    run.log({"step": 1})

    def log() -> None:
        with pytest.raises(InputError, match="cannot write") as caught:
            run.log({"step": 2, "text": "x" * 100})
        assert caught.value.where == str(run.metrics)

    def start() -> None:
        with pytest.raises(InputError, match="cannot write") as caught:
            run.start("seed: 1\n" * 100, resuming=True)
        assert caught.value.where == str(run.path / "config.yaml")

    def forget() -> None:
        with pytest.raises(InputError, match="cannot write") as caught:
            run.forget_after(5)
        assert caught.value.where == str(run.metrics)

    assert with_room(40, log) == 0
    assert with_room(40, start) == 0
    assert with_room(5, forget) == 0
    assert (run.path / "config.yaml").read_text() == "seed: 1\n"
    assert [row["step"] for row in run.lines()] == [1], "half a line is passed over"
    assert number_of(run.last) == 1
    run.forget_after(1)
    run.log({"step": 2})
    assert [row["step"] for row in run.lines()] == [1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_under_the_metrics(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.metrics.symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"cannot write.*No space left on device") as caught:
        run.log({"step": 1})
    assert caught.value.where == str(run.metrics)
