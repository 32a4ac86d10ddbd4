"""Run one training stage: open the model, resume if asked, train, fit the reranker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from m3gal_cli.config.load import dump_config
from m3gal_cli.config.paths import resolve_data
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.devices import choose_attention, resolve_precision
from m3gal_cli.data.records import Record
from m3gal_cli.errors import InputError
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE
from m3gal_cli.training.accelerator import leave_process_group, make_accelerator
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.objectives.objective import Objective
from m3gal_cli.training.report import reported
from m3gal_cli.training.reranker_fit import OpenProgress, fit_reranker, has_reranker
from m3gal_cli.training.rng_state import restore_rng_states
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.tensorboard import tensorboard_tracker
from m3gal_cli.training.trainer import Interrupted, Trainer, TrainerState
from m3gal_cli.training.validation import make_validation


@dataclass(frozen=True)
class Stage:
    """The parts in which pretraining and finetuning differ.

    Attributes:
        name: ``pretrain`` or ``finetune``.
        open_model: Returns the checkpoint of a path, or a new model for None.
        make_objective: Returns the objective for a checkpoint and the settings of one training.
        validation_records: Records of the validations and of the reranker fit.
        before_training: Is called before the first step of a new run, by the main process.
        warnings: Warnings about the data, shown when a new run starts.
    """

    name: str
    open_model: Callable[[Path | None], Checkpoint]
    make_objective: Callable[[Checkpoint, Config], Objective]
    validation_records: Sequence[Record] = ()
    before_training: Callable[[Trainer], None] = lambda trainer: None
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class StartOptions:
    """Start of a training: new, resumed or from given weights.

    Attributes:
        resume: ``auto`` continues the run of this name if it exists; a path continues that run or checkpoint.
        init: Path of a run or checkpoint that gives the weights, without its trainer state.
        dry_run: Is called with the trainer instead of the training; nothing is written.
        progress: Opens the progress display of the texts that the reranker fit encodes.
    """

    resume: str | None = None
    init: str | None = None
    dry_run: Callable[[Trainer], None] | None = None
    progress: OpenProgress = lambda title: nullcontext(lambda done, total: None)

    def __post_init__(self) -> None:
        if self.resume is not None and self.init is not None:
            what = "--resume and --init exclude each other"
            raise InputError(what, hint="--resume continues a training; --init takes weights only.")


def run_stage(stage: Stage, config: Config, options: StartOptions, listener: Listener) -> RunDirectory:
    """Train one stage and fit the reranker of its best checkpoint. Raises as ``train_stage`` does."""
    trainer, trained = train_stage(stage, config, options, listener)
    if options.dry_run is None:
        leave_process_group(trainer.accelerator)
        if trainer.run.main and (trained or not has_reranker(trainer.run)):
            fit_reranker(trainer, stage.validation_records, options.progress)
    return trainer.run


def train_stage(stage: Stage, config: Config, options: StartOptions, listener: Listener) -> tuple[Trainer, bool]:
    """Train one stage without the fit of the reranker; the processes stay in one group.

    Returns:
        The trainer, and whether it has trained: False after a dry run, or if the resumed run was finished already.

    Raises:
        InputError: Bad settings or data, or a checkpoint that leaves no step to do.
        Interrupted: After a signal, once a checkpoint is saved.
    """
    accelerator = make_accelerator(config)
    run = RunDirectory.named(config.run.dir, config.run.name, stage.name, accelerator.is_main_process, config.run.keep)
    source = _source(run, options)
    resuming = source is not None and source.resolve().is_relative_to(run.path.resolve())
    checkpoint = stage.open_model(source)
    if not resuming:  # the location weight belongs to the score, not to the weights: a new run sets it
        settings = replace(checkpoint.model.settings, location_weight=config.model.location_weight)
        checkpoint.model.settings = settings
    run.check(resuming)
    trainer = _make_trainer(stage, checkpoint, config, run, accelerator, listener if run.main else Listener())
    if options.init is None and checkpoint.trainer is not None:
        restore(trainer, stage.name)
    checkpoint.trainer = None
    finished = trainer.finished
    if options.dry_run is not None:
        options.dry_run(trainer)
    elif finished:
        _report_finished(trainer, resuming)
    else:
        _train(stage, trainer, resuming)
    return trainer, not finished and options.dry_run is None


def _source(run: RunDirectory, options: StartOptions) -> Path | None:
    """Return the checkpoint to start from. A run is resumed from its last checkpoint, not from its best one."""
    if options.resume == "auto":
        return run.last if run.last.exists() else None
    chosen = options.resume or options.init
    if chosen is None:
        return None
    path = Path(chosen)
    return path / "last" if options.resume and (path / "last").exists() else path


def _make_trainer(
    stage: Stage, checkpoint: Checkpoint, config: Config, run: RunDirectory, accelerator: Any, listener: Listener
) -> Trainer:
    torch.manual_seed(config.seed)
    objective = stage.make_objective(checkpoint, config)
    if not accelerator.is_main_process:
        torch.manual_seed(config.seed + accelerator.process_index)  # each process draws its own dropout
    checkpoint.model.recompute = config.optim.encode_chunk is not None
    precision = resolve_precision(config.optim.precision, accelerator.device)
    choose_attention(checkpoint.model, accelerator.device, precision)
    trainer = Trainer(objective, checkpoint, config, run, accelerator, listener)
    records = stage.validation_records[: config.run.validation_queries]
    if records:
        trainer.validate = make_validation(checkpoint, records, config, accelerator.device)
    return trainer


def restore(trainer: Trainer, stage: str) -> None:
    """Restore queue, optimiser, position and RNG state. A checkpoint of another stage gives its weights only."""
    checkpoint = trainer.checkpoint
    state: dict[str, Any] = checkpoint.trainer or {}
    published = "published_optimizer" in state
    if published and stage == "pretrain":
        trainer.objective.load_state(state)
        if state["published_optimizer"]:
            trainer.load_optimizer(state["published_optimizer"])
        epoch = checkpoint.epoch
        trainer.state = TrainerState(epoch=epoch, step=epoch * trainer.steps_per_epoch)
    elif not published and checkpoint.stage == stage:
        trainer.objective.load_state(state)
        trainer.load_optimizer(state["optimizer"])
        trainer.state = TrainerState(**state["position"])
        restore_rng_states(state, trainer.accelerator.device, trainer.accelerator.process_index)


def _report_finished(trainer: Trainer, resuming: bool) -> None:
    """Report that no step is left. Raise InputError if this is a new run, because it would be empty."""
    steps, optim = trainer.state.step, trainer.config.optim
    limit = f"--max-steps {optim.max_steps}" if trainer.total == optim.max_steps else f"--epochs {optim.epochs}"
    what = f"already has {steps:,} steps, and {limit} asks for {trainer.total:,}"
    if not resuming:
        hint = "Raise --epochs or --max-steps, or take its weights with --init."
        raise InputError(f"the checkpoint {what}", hint=hint)
    trainer.listener.message(f"the run {what}: nothing is left to do")


def _train(stage: Stage, trainer: Trainer, resuming: bool) -> None:
    run, config, accelerator = trainer.run, trainer.config, trainer.accelerator
    run.start(dump_config(resolve_data(config, run.path)), resuming)
    if resuming:
        run.drop_rows_after(trainer.state.step)
    elif run.main and trainer.total:
        (run.path / BEFORE_TRAINING_FILE).unlink(missing_ok=True)  # of an earlier attempt that saved no checkpoint
        stage.before_training(trainer)
    accelerator.wait_for_everyone()  # the first save replaces files that other processes may still read
    if config.run.tensorboard and run.main and (tracker := tensorboard_tracker(run.path)) is not None:
        trainer.track = tracker
    if config.optim.precision == "bf16" and resolve_precision("bf16", accelerator.device) == "fp32":
        trainer.warn("this CPU has no bf16 instructions, and emulated bf16 is 20 times slower: training in float32")
    for text in () if resuming else stage.warnings:
        trainer.warn(text)
    try:
        with reported(trainer, resuming):
            trainer.fit()
    except Interrupted:
        leave_process_group(accelerator)
        raise
