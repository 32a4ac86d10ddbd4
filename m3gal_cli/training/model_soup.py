"""A training of several members: the same one from the same start, in other orders, and the mean of their weights.

What each of them learned of the order of its rows, its drawn negatives and its dropout goes; what they have in common
stays. The mean is one model and costs no more than one (Wortsman et al. 2022, Model soups, the uniform one).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch

from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, make_folder, remove_folder
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.trainer import Position

FOLDER = "members"  # of a run: a run of each, 1, 2, …
START_FILE = "start.json"


def member_config(config: Config, run: Path, number: int) -> Config:
    """The settings of a member (from 1): a run of its own within the run, whose seed is the next one."""
    own = config.run.model_copy(update={"dir": str(run / FOLDER), "name": str(number), "published_checkpoint": False})
    parts = {
        "seed": config.seed + number - 1,
        "run": own,
        "optim": config.optim.model_copy(update={"soup_size": 1}),
    }
    return config.model_copy(update=parts)


def remember_start(run: RunDirectory, init: str | None) -> None:
    """Keep where members start from, for those that begin after a stop. Raises InputError (disk full, …)."""
    if run.main:
        with atomic_text(make_folder(run.path / FOLDER) / START_FILE) as file:
            json.dump({"init": None if init is None else str(Path(init).absolute())}, file)


def remembered_start(run: RunDirectory) -> str | None:
    """What ``remember_start`` kept. Raises InputError where it cannot be read."""
    path = run.path / FOLDER / START_FILE
    try:
        init = json.loads(path.read_text(encoding="utf-8"))["init"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "Start again under another --output-name."
        raise InputError(f"where the members started cannot be read ({error})", where=path, hint=hint) from error
    return None if init is None else str(init)


def mean_of(runs: Sequence[RunDirectory]) -> Checkpoint:
    """The last checkpoint of the first run with the mean of all weights, at the end of its training, to be validated.

    Raises:
        InputError: one that cannot be read.
    """
    found = load_checkpoint(runs[0].last, with_trainer=True)
    state = found.model.state_dict()
    sums = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    for run in runs[1:]:
        for name, value in load_checkpoint(run.last).model.state_dict().items():
            if name in sums:
                sums[name] += value
    with torch.no_grad():
        for name, total in sums.items():
            state[name].copy_(total / len(runs))
    trainer = found.trainer or {}
    position = replace(Position(**trainer["position"]), best=-1.0, due=True)
    found.trainer = trainer | {"optimizer": {}, "position": asdict(position)}
    return found


def drop_weights(runs: Sequence[RunDirectory]) -> None:
    """Delete the checkpoints of members whose mean is saved; what they logged stays."""
    for run in runs:
        with suppress(OSError):  # what cannot go is no reason to fail
            run.last.unlink(missing_ok=True)
            run.best.unlink(missing_ok=True)
            remove_folder(run.path / "checkpoints")
            (run.path.parent / START_FILE).unlink(missing_ok=True)
