"""Model soup: finetune several times from one checkpoint, with different seeds, and average the weights.

The mean cancels what each training learns from its order of rows, sampled negatives and dropout. Inference costs the
same as with one training. Method: the uniform soup of Wortsman et al. 2022, "Model soups".
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import torch

from m3gal_cli.config.paths import expand_run_path, run_path
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint, load_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, read_json, remove_folder, write_json
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, RerankerWeights
from m3gal_cli.training.accelerator import leave_process_group, make_accelerator
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.stage import Stage, StartOptions, run_stage, train_stage
from m3gal_cli.training.trainer import Interrupted, Trainer, TrainerState

RUNS_FOLDER = "members"  # in the run: one run per training, 1, 2, …
INIT_FILE = "start.json"  # in RUNS_FOLDER: the checkpoint from which all trainings start


def run_soup(stage: Stage, config: Config, options: StartOptions, listener: Listener) -> RunDirectory:
    """Train ``optim.soup_size`` runs inside the run; the checkpoint of the run itself has the mean of their weights.

    Raises:
        InputError: See ``train_stage``; or the run to resume is a single training.
        Interrupted: After a signal. ``--resume auto`` continues the training that was stopped.
    """
    accelerator = make_accelerator(config)
    config = _with_common_name(config, stage.name)
    run = RunDirectory.named(config.run.dir, config.run.name, stage.name, accelerator.is_main_process)
    listener = listener if run.main else Listener()
    if _is_finished(run, options):
        listener.message(f"all {config.optim.soup_size} trainings and their mean exist: nothing is left to do")
        leave_process_group(accelerator)
        return run
    run.check(resuming=False)
    runs = _train_all(stage, config, options, listener, run)
    listener.section(f"mean of {len(runs)} trainings")

    def copy_prior(trainer: Trainer) -> None:
        with suppress(InputError):  # the reranker fit reports a damaged file
            prior = RerankerWeights.load(runs[0].path, BEFORE_TRAINING_FILE)
            if prior is not None:
                prior.save(trainer.run.path, BEFORE_TRAINING_FILE)

    mean_stage = replace(stage, open_model=lambda source: average_checkpoints(runs), before_training=copy_prior)
    run_stage(mean_stage, config, StartOptions(progress=options.progress), listener)
    if run.main:
        _delete_checkpoints(runs)
    return run


def _train_all(
    stage: Stage, config: Config, options: StartOptions, listener: Listener, run: RunDirectory
) -> list[RunDirectory]:
    """Run the trainings, or what is left of them. The first one fits the prior of the reranker and shows warnings."""
    resuming = options.resume == "auto" and (run.path / RUNS_FOLDER).is_dir()
    init = _load_init(run) if resuming else options.init
    runs: list[RunDirectory] = []

    def before_first(trainer: Trainer) -> None:
        _save_init(run, init)
        stage.before_training(trainer)

    first = replace(stage, before_training=before_first)
    later = replace(stage, before_training=lambda trainer: None, warnings=())
    for number in range(1, config.optim.soup_size + 1):
        own = _settings(config, run.path, number)
        runs.append(RunDirectory.named(own.run.dir, own.run.name, stage.name))
        started = resuming and runs[-1].last.exists()
        own_options = replace(options, resume="auto" if started else None, init=None if started else init)
        listener.section(f"training {number} of {config.optim.soup_size}")
        try:
            trainer, _ = train_stage(first if number == 1 else later, own, own_options, listener)
        except Interrupted as stopped:
            raise Interrupted(stopped.path, stopped.step, run.path) from None
        trainer.accelerator.wait_for_everyone()
    return runs


def _with_common_name(config: Config, stage: str) -> Config:
    """Give an unnamed run a name. It contains time and process id, so all processes take that of the first one."""
    from accelerate.utils import broadcast_object_list

    if config.run.name is not None:
        return config
    names = [RunDirectory.named(config.run.dir, None, stage).path.name]
    broadcast_object_list(names)
    return config.model_copy(update={"run": config.run.model_copy(update={"name": names[0]})})


def _is_finished(run: RunDirectory, options: StartOptions) -> bool:
    """Return whether the soup is finished. Raises InputError if ``options`` would resume a single training."""
    finished = options.resume == "auto" and run.last.exists()
    if options.resume in (None, "auto") and (not finished or (run.path / RUNS_FOLDER).is_dir()):
        return finished
    where = run.path if options.resume == "auto" else Path(str(options.resume))
    hint = "--soup-size 1 continues it; --init takes its weights."
    raise InputError("a model soup cannot continue a single training", where=where, hint=hint)


def _settings(config: Config, run: Path, number: int) -> Config:
    """Return the settings of training ``number`` (from 1): a run inside the run, with seed ``seed + number - 1``."""
    folder = str(run / RUNS_FOLDER)
    own_run = config.run.model_copy(update={"dir": folder, "name": str(number), "published_checkpoint": False})
    optim = config.optim.model_copy(update={"soup_size": 1})
    return config.model_copy(update={"seed": config.seed + number - 1, "run": own_run, "optim": optim})


def _save_init(run: RunDirectory, init: str | None) -> None:
    """Save the checkpoint from which all trainings start, for those that start after an interruption."""
    with atomic_path(run.path / RUNS_FOLDER / INIT_FILE) as path:
        write_json(path, {"init": None if init is None else run_path(Path(init), run.path)})


def _load_init(run: RunDirectory) -> str | None:
    """Return the checkpoint that ``_save_init`` saved."""
    path = run.path / RUNS_FOLDER / INIT_FILE
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("init"), str | None):
        what = "cannot read the checkpoint from which the trainings started"
        raise InputError(what, where=path, hint="Start again with another --run-name.")
    return content["init"] and expand_run_path(content["init"], run.path)


def average_checkpoints(runs: Sequence[RunDirectory]) -> Checkpoint:
    """Return the last checkpoint of the first run with the mean weights of all runs, ready to be validated.

    The sum is in float64. Raises InputError for a checkpoint that cannot be read.
    """
    checkpoint = load_checkpoint(runs[0].last, with_trainer=True)
    state = checkpoint.model.state_dict()
    sums = {name: value.double() for name, value in state.items() if value.is_floating_point()}
    for run in runs[1:]:
        for name, value in load_checkpoint(run.last).model.state_dict().items():
            if name in sums:
                sums[name] += value
    with torch.no_grad():
        for name, total in sums.items():
            state[name].copy_(total / len(runs))
    trainer = checkpoint.trainer or {}
    position = replace(TrainerState(**trainer["position"]), best=-1.0, due=True)
    checkpoint.trainer = trainer | {"optimizer": {}, "position": asdict(position)}
    return checkpoint


def _delete_checkpoints(runs: Sequence[RunDirectory]) -> None:
    """Delete the checkpoints of averaged runs; their logs and reports stay."""
    for run in runs:
        with suppress(OSError):  # a file that cannot be deleted must not fail the training
            (run.path.parent / INIT_FILE).unlink(missing_ok=True)
            run.last.unlink(missing_ok=True)
            run.best.unlink(missing_ok=True)
            remove_folder(run.path / "checkpoints")
