"""A run that is killed, or fails, at any moment of a save has a complete last and a complete best checkpoint."""

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
from tests.helpers.cli import file_contents
from tests.helpers.disk_events import code_of, in_child, listening
from tests.helpers.toy_models import toy_checkpoint

pytestmark = pytest.mark.integration


def filled(checkpoint: Checkpoint, number: int, step: int) -> Checkpoint:
    """Set every weight, the metrics and the trainer state of the checkpoint to one number."""
    with torch.no_grad():
        for value in checkpoint.model.state_dict().values():
            value.fill_(number)
    checkpoint.step, checkpoint.metrics, checkpoint.trainer = step, {"number": number}, {"number": number}
    return checkpoint


def number_of(path: Path) -> int:
    """Return the number that every file of the checkpoint is filled with."""
    meta = json.loads((path / "m3gal.json").read_text())
    assert torch.load(path / "trainer.pt") == {"number": meta["metrics"]["number"]}
    assert all((value == meta["metrics"]["number"]).all() for value in read_weights(path).values())
    return int(meta["metrics"]["number"])


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return toy_checkpoint(location_encoder="fourier")


@pytest.mark.parametrize("keep", [0, 2])
def test_a_process_killed_at_a_random_moment_leaves_complete_checkpoints(
    tmp_path: Path, checkpoint: Checkpoint, keep: int
) -> None:
    """One process after another saves in a loop, some steps twice, and is killed.

    The moment is random, after the process has reported the start of its first, second or third save. So some saves
    succeed on any machine.
    """
    run, generator = RunDirectory(tmp_path / "run", keep=keep), random.Random(keep)
    started = time.monotonic()
    run.save(filled(checkpoint, 1, 1), True)
    save_seconds = time.monotonic() - started
    newest = before = 1
    reader, writer = os.pipe()

    def save_in_a_loop() -> None:
        own_generator = random.Random(newest)
        for number in range(newest + 1, newest + 10_000):
            os.write(writer, b".")
            run.save(filled(checkpoint, number, number // 2), own_generator.random() < 0.4)

    for kill in range(25):
        pid = in_child(save_in_a_loop)
        for _ in range(1 + kill % 3):
            os.read(reader, 1)
        time.sleep(generator.uniform(0.0, 1.2) * save_seconds)
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid) == -signal.SIGKILL
        os.write(writer, b".")
        os.read(reader, 1 << 16)
        last, best = number_of(run.last), number_of(run.best)
        assert last >= before, "a saved checkpoint is never lost"
        assert find_checkpoint(run.path) == run.best
        before, newest = last, max(newest, last, best)
    os.close(reader)
    os.close(writer)
    assert newest > 5, "some saves succeeded"
    assert load_checkpoint(run.last, with_trainer=True).trainer == {"number": number_of(run.last)}
    run.save(filled(checkpoint, newest + 2, newest + 2), False)
    names = os.listdir(run.path / "checkpoints")
    assert not [name for name in names if name.startswith(".")], "temporary files of killed processes are removed"
    assert len(names) <= 2 + keep
    assert set(os.listdir(run.path)) == {"checkpoints", "last", "best"}


class Stop(Exception):
    """An unexpected exception."""


def die() -> None:
    os._exit(9)


def fail() -> None:
    raise Stop


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def after(number: int, then: Callable[[], None]) -> Callable[[], None]:
    """Return a listener that ignores ``number`` changes and calls ``then`` at every later one."""
    changes = count(1)
    return lambda: then() if next(changes) > number else None


@pytest.mark.parametrize(
    ("then", "same_step", "best"),
    [(die, False, True), (die, True, False), (fail, True, True), (full_disk, True, True)],
    ids=["killed", "killed, same step", "exception", "disk full"],
)
def test_a_save_stopped_at_any_change_of_the_disk_leaves_complete_checkpoints(
    tmp_path: Path,
    checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    then: Callable[[], None],
    same_step: bool,
    best: bool,
) -> None:
    """Best is step 1, last is 3, 2 is kept, 9 is a temporary folder. Then step 4, or 3 again, is saved."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the test simulates no power cut
    start = RunDirectory(tmp_path / "start", keep=1)
    for number in (1, 2, 3):
        start.save(filled(checkpoint, number, number), number == 1)
    (start.path / "checkpoints" / ".step-00000009.tmp").mkdir()
    (start.path / "checkpoints" / ".step-00000009.tmp" / "half").write_bytes(b"half")
    changes: list[None] = []
    complete = Path(shutil.copytree(start.path, tmp_path / "complete", symlinks=True))
    filled(checkpoint, 4, 3 if same_step else 4)
    listening(lambda: changes.append(None), lambda: RunDirectory(complete, keep=1).save(checkpoint, best))
    assert len(changes) > 40
    states = set()
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
        found = number_of(run.last), number_of(run.best)
        states.add(found)
        if number % 5 == 0 or found != (3, 1):
            run.save(filled(checkpoint, 5, 5), False)
            assert (number_of(run.last), number_of(run.best)) == (5, found[1])
            assert not list((run.path / "checkpoints").glob(".*"))
        shutil.rmtree(run.path)
    assert states == ({(3, 1), (3, 4), (4, 4)} if best else {(3, 1), (4, 1)})


def with_file_limit(size: int, work: Callable[[], None]) -> int:
    """Run ``work`` in a forked process whose files can have at most ``size`` bytes; return its exit code."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work()

    return code_of(in_child(limited))


# limits that different files exceed: tokenizer, text encoders, location encoders
@pytest.mark.parametrize("size", [100, 20_000, 1_000_000])
def test_a_save_on_a_full_disk_changes_nothing(tmp_path: Path, checkpoint: Checkpoint, size: int) -> None:
    """The operating system limits the file size, so that files written by libraries fail, too."""
    run = RunDirectory(tmp_path / "run")
    run.save(filled(checkpoint, 1, 1), True)
    before = file_contents(run.path)

    def save() -> None:
        with pytest.raises(InputError) as caught:
            run.save(filled(checkpoint, 2, 2), True)
        assert caught.value.where == str(run.path / "checkpoints" / "step-00000002")
        assert "cannot save the checkpoint (" in caught.value.render()
        assert "Free" in caught.value.render()

    assert with_file_limit(size, save) == 0
    assert file_contents(run.path) == before
    assert (number_of(run.last), number_of(run.best)) == (1, 1)
    run.save(filled(checkpoint, 2, 2), True)
    assert (number_of(run.last), number_of(run.best)) == (2, 2)


def test_rows_and_settings_that_do_not_fit_are_errors(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start("seed: 1\n", resuming=False)
    run.log({"step": 1})

    def refuse(path: Path, work: Callable[[], None]) -> None:
        with pytest.raises(InputError, match="cannot write") as caught:
            work()
        assert caught.value.where == str(path)

    config = run.path / "config.yaml"
    assert with_file_limit(40, lambda: refuse(run.metrics, lambda: run.log({"step": 2, "text": "x" * 100}))) == 0
    assert with_file_limit(40, lambda: refuse(config, lambda: run.start("seed: 1\n" * 100, resuming=True))) == 0
    assert with_file_limit(5, lambda: refuse(run.metrics, lambda: run.drop_rows_after(5))) == 0
    assert config.read_text() == "seed: 1\n"
    assert [row["step"] for row in run.rows()] == [1], "an incomplete line is skipped"
    run.drop_rows_after(1)
    run.log({"step": 2})
    assert [row["step"] for row in run.rows()] == [1, 2]
