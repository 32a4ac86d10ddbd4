"""The stages from settings to a finished run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch

from m3gal_cli.config.load import dump_config
from m3gal_cli.config.paths import find_records, find_views, resolve_data
from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import choose_attention, resolve_device, resolve_precision
from m3gal_cli.core.checkpoint import Checkpoint, Stored
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.data.tables import parquet_twin, read_views
from m3gal_cli.encoders.encoder import Progress
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.rerank.linear import BEFORE, RerankerWeights
from m3gal_cli.training.initial_model import TrainingTable, new_model
from m3gal_cli.training.model_soup import FOLDER as MEMBERS
from m3gal_cli.training.model_soup import drop_weights, mean_of, member_config, remember_start, remembered_start
from m3gal_cli.training.objectives.candidate_ranking import FinetuneTask
from m3gal_cli.training.objectives.momentum_contrast import PretrainTask
from m3gal_cli.training.objectives.objective import Task
from m3gal_cli.training.report import reported
from m3gal_cli.training.reranker_fit import learn_before
from m3gal_cli.training.rng_state import set_random_states
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.trainer import Interrupted, Listener, Position, Quiet, Trainer
from m3gal_cli.training.validation import validation_of

StoredT = TypeVar("StoredT", bound=Stored[Any])


@dataclass(frozen=True)
class Stage(Generic[StoredT]):
    """What one stage does in its own way.

    Args:
        open: the checkpoint of a path, or a new model for None; and whether the run goes on from it.
        task: the task on a checkpoint; random states are set before.
        validation: a function that evaluates the model as it then stands.
        before: what the records teach about the hybrid score as long as the model is not trained on them, if anything.
    """

    name: str
    open: Callable[[Path | None, bool], StoredT]
    task: Callable[[StoredT], Task]
    validation: Callable[[StoredT, Sequence[Record], Config, torch.device], Callable[[], Evaluation]]
    before: Callable[[StoredT, torch.device], RerankerWeights | None] | None = None


@dataclass(frozen=True)
class Start:
    """Where weights come from: ``resume`` is ``auto``, a path or None; ``init`` a path for weights alone, or None.

    ``instead`` gets the trainer once all is ready, and the training does not take place: nothing is written.
    ``progress`` opens what is told of the texts that are encoded before the first step. ``more`` says that another
    training follows in this program, so that the processes stay together; ``begun`` is called when all is ready.
    """

    resume: str | None = None
    init: str | None = None
    instead: Callable[[Trainer], None] | None = None
    progress: Callable[[], AbstractContextManager[Progress]] = lambda: nullcontext(lambda done, total: None)
    more: bool = False
    begun: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        if self.resume is not None and self.init is not None:
            raise InputError("--resume and --init exclude each other", hint="--init takes weights alone.")


def run_pretrain(config: Config, start: Start, listener: Listener) -> RunDirectory:
    """Pretrain on a view table. Raises InputError for bad settings or data, Interrupted after a signal."""
    _no_members(config)
    path = find_views(config.data)
    views = with_place_ids(read_views(path, config.data.datum), path)
    _enough_rows(config, len(views), path)
    texts = pd.concat([views["address1"], views["address2"]]).tolist()
    table = TrainingTable(views["lng"].to_numpy(np.float64), views["lat"].to_numpy(np.float64), texts)

    def make(checkpoint: Checkpoint) -> Task:
        return PretrainTask(checkpoint.model, _tokenizer(checkpoint), views, config)

    return _run(Stage("pretrain", _bi_encoder(config, table), make, validation_of), config, start, listener)


def run_finetune(config: Config, start: Start, listener: Listener) -> RunDirectory:
    """Finetune on candidate records. Raises InputError for bad settings or data, Interrupted after a signal."""
    records = _training_records(config)
    places = np.array([(p.lng, p.lat) for r in records for p in r.passages])
    table = TrainingTable(places[:, 0], places[:, 1], _texts(records))

    def task_of(config: Config) -> Callable[[Checkpoint], Task]:
        return lambda checkpoint: FinetuneTask(checkpoint.model, _tokenizer(checkpoint), records, config)

    def before(checkpoint: Checkpoint, device: torch.device) -> RerankerWeights | None:
        with start.progress() as progress:
            return learn_before(records, config, checkpoint, device, progress)

    stage = Stage("finetune", _bi_encoder(config, table), task_of(config), validation_of, before)
    if config.optim.soup_size == 1 or config.optim.max_steps == 0 or start.instead is not None:
        return _run(stage, config, start, listener)
    return _run_members(stage, task_of, config, start, listener)


def _run_members(
    stage: Stage[Checkpoint],
    task_of: Callable[[Config], Callable[[Checkpoint], Task]],
    config: Config,
    start: Start,
    listener: Listener,
) -> RunDirectory:
    """Each member is a run within the run; the run itself begins where they end, with the mean of their weights."""
    from accelerate.utils import broadcast_object_list

    accelerator = make_accelerator(config)
    if config.run.name is None:
        names = [RunDirectory.named(config.run.dir, None, stage.name).path.name]
        broadcast_object_list(names)  # it holds a time and the number of a process: all take that of the first
        config = config.model_copy(update={"run": config.run.model_copy(update={"name": names[0]})})
    run = RunDirectory.named(config.run.dir, config.run.name, stage.name, accelerator.is_main_process)
    listener = listener if run.main else Quiet()
    done = start.resume == "auto" and run.last.exists()
    if start.resume not in (None, "auto") or (done and not (run.path / MEMBERS).is_dir()):
        where = run.path if start.resume == "auto" else Path(str(start.resume))
        hint = "--members 1 goes on with it; --init takes its weights."
        raise InputError("members cannot go on from a single training", where=where, hint=hint)
    if done:
        listener.part("the mean of its members is there: nothing is left to do")
        leave(accelerator)
        return run
    run.check(resuming=False)
    resuming = start.resume == "auto" and (run.path / MEMBERS).is_dir()
    init = remembered_start(run) if resuming else start.init
    count, members = config.optim.soup_size, list[RunDirectory]()
    for number in range(1, count + 1):
        own = member_config(config, run.path, number)
        members.append(RunDirectory.named(own.run.dir, own.run.name, stage.name))
        again = resuming and members[-1].last.exists()
        begin = replace(start, resume="auto" if again else None, init=None if again else init, more=True)
        begin = replace(begin, begun=partial(remember_start, run, init))
        before = stage.before if number == 1 else None  # it would teach all the same
        listener.part(f"member {number} of {count}")
        try:
            _run(replace(stage, task=task_of(own), before=before), own, begin, listener)
        except Interrupted as stopped:
            raise Interrupted(stopped.path, stopped.step, run.path) from None
    listener.part(f"mean of {count} members")
    first = members[0].path
    whole = replace(
        stage, open=lambda source, own: mean_of(members), before=lambda *given: RerankerWeights.load(first, BEFORE)
    )
    found = _run(whole, config, Start(), listener)
    if run.main:
        drop_weights(members)
    return found


def _no_members(config: Config) -> None:
    if config.optim.soup_size > 1:
        what = f"optim.soup_size is {config.optim.soup_size}, which is for finetuning a bi-encoder"
        raise InputError(what, hint="Give --set optim.soup_size=1.")


def _training_records(config: Config) -> list[Record]:
    path = find_records(config.data, "train")
    if path is None:
        hint = "Make them with m3gal data geotes or m3gal data osm, or give --set data.train=FILE."
        raise InputError("no candidate records (train_dataset_use_gis*)", where=config.data.dir, hint=hint)
    records = read_records(path, config.data.datum)
    _enough_rows(config, len(records), path)
    return records


def _texts(records: Sequence[Record]) -> list[str]:
    return [t for r in records for t in (r.query, *(p.text for p in r.passages))]


def _bi_encoder(config: Config, table: TrainingTable) -> Callable[[Path | None, bool], Checkpoint]:
    def opened(source: Path | None, own: bool) -> Checkpoint:
        checkpoint = open_checkpoint(source, config, with_trainer=True) if source else new_model(config, table)
        if not own:  # how places count is no matter of weights: a new run decides it anew
            settings = replace(checkpoint.model.settings, location_weight=config.model.location_weight)
            checkpoint.model.settings = settings
        return checkpoint

    return opened


def _tokenizer(checkpoint: Checkpoint) -> TextTokenizer:
    positions = max_positions(checkpoint.model.encoder_q.text_encoder.config)
    return TextTokenizer(checkpoint.tokenizer, checkpoint.model.settings, positions)


def with_place_ids(views: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add poi_id and group from the .parquet twin of a published-form .csv, if it has the same pairs in that order."""
    twin = parquet_twin(path)
    if "poi_id" in views.columns or path.suffix != ".csv" or not twin.is_file():
        return views
    extra = pd.read_parquet(twin)
    same = len(extra) == len(views) and "poi_id" in extra.columns
    if same and (extra["address1"].to_numpy() == views["address1"].to_numpy()).all():
        return views.assign(**{name: extra[name].to_numpy() for name in ("poi_id", "group") if name in extra.columns})
    return views


def _enough_rows(config: Config, count: int, path: Path) -> None:
    if config.optim.batch_size > count:
        what = f"optim.batch_size {config.optim.batch_size} is larger than the data ({count} rows)"
        raise InputError(what, where=path, hint=f"Give --batch-size {count} or less.")


def _run(stage: Stage[StoredT], config: Config, start: Start, listener: Listener) -> RunDirectory:
    accelerator = make_accelerator(config)
    run = RunDirectory.named(config.run.dir, config.run.name, stage.name, accelerator.is_main_process, config.run.keep)
    source = _source(run, start)
    own = source is not None and source.resolve().is_relative_to(run.path.resolve())
    checkpoint = stage.open(source, own)
    run.check(resuming=own)
    validation = _validation_records(config)
    torch.manual_seed(config.seed)
    task = stage.task(checkpoint)
    if not accelerator.is_main_process:
        torch.manual_seed(config.seed + accelerator.process_index)  # dropout of its own
    checkpoint.model.recompute = config.optim.encode_chunk is not None
    precision = resolve_precision(config.optim.precision, accelerator.device)
    choose_attention(checkpoint.model, accelerator.device, precision)
    trainer = Trainer(task, checkpoint, config, run, accelerator, listener if run.main else Quiet())
    if start.init is None and checkpoint.trainer is not None:
        restore(trainer, stage.name)
    checkpoint.trainer = None
    if validation:
        trainer.validate = stage.validation(checkpoint, validation, config, accelerator.device)
    if start.instead is not None:
        start.instead(trainer)
        return run
    start.begun()
    run.start(dump_config(resolve_data(config)), resuming=own)
    if own:
        run.forget_after(trainer.position.step)
    elif run.main and stage.before is not None and trainer.total:
        _weigh_before(run, partial(stage.before, checkpoint, accelerator.device))
    accelerator.wait_for_everyone()  # the first to save replaces what the others may still be looking at
    if config.run.tensorboard and run.main:
        trainer.trackers += tensorboard(run)
    if precision == "fp32" and config.optim.precision == "bf16":
        trainer.warn("this CPU has no instructions for bf16, which would be 20 times slower: float32 is used")
    try:
        with reported(trainer, resuming=own):
            trainer.fit()
    except Interrupted:
        leave(accelerator)
        raise
    if start.more:
        accelerator.wait_for_everyone()
    else:
        leave(accelerator)
    return run


def _weigh_before(run: RunDirectory, learned: Callable[[], RerankerWeights | None]) -> None:
    """Keep what is learned before the first step. What goes wrong is told when the run's own weights are learned."""
    (run.path / BEFORE).unlink(missing_ok=True)  # of a run that was given up before it saved anything
    with suppress(InputError):
        found = learned()
        if found is not None:
            found.save(run.path, BEFORE)


def leave(accelerator: Any) -> None:
    """Part from the other processes: one that ends while they still work takes its threads down with a crash."""
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        torch.distributed.destroy_process_group()


def _source(run: RunDirectory, start: Start) -> Path | None:
    if start.resume == "auto":
        return run.last if run.last.exists() else None
    chosen = start.resume or start.init
    if chosen is None:
        return None
    path = Path(chosen)
    # A run is continued from where it stands, not from where it was best.
    return path / "last" if (path / "last").exists() and start.resume else path


def restore(trainer: Trainer, stage: str) -> None:
    """Take back queue, optimiser, position and random state; of another stage's checkpoint the weights alone."""
    checkpoint = trainer.checkpoint
    state: dict[str, Any] = checkpoint.trainer or {}
    published = "published_optimizer" in state
    if published and stage == "pretrain":
        trainer.task.load_state(state)
        if state["published_optimizer"]:
            trainer.load_optimizer(state["published_optimizer"])
        epoch = checkpoint.epoch
        trainer.position = Position(epoch=epoch, step=epoch * trainer.steps_per_epoch)
    elif not published and checkpoint.stage == stage:
        trainer.task.load_state(state)
        trainer.load_optimizer(state["optimizer"])
        trainer.position = Position(**state["position"])
        set_random_states(state, trainer.accelerator.device, trainer.accelerator.process_index)


def _validation_records(config: Config) -> list[Record]:
    path = find_records(config.data, "val")
    return read_records(path, config.data.datum)[: config.run.validation_queries] if path is not None else []


def make_accelerator(config: Config) -> Any:
    """accelerate's view of devices, processes and precision. Raises InputError for a device that is not there."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    device = config.device
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise InputError(f"there is no {device} here", hint="Set device to cpu or auto.")
        torch.cuda.set_device(torch.device(device).index or 0)
    AcceleratorState._reset_state(True)  # a second training in one program may want another device or precision
    GradientState._reset_state()
    precision = {"bf16": "bf16", "fp32": "no"}[resolve_precision(config.optim.precision, resolve_device(device))]
    # Without a GPU it must be told so, or torchrun's processes would each train alone.
    return Accelerator(cpu=resolve_device(device).type == "cpu", mixed_precision=precision)


def tensorboard(run: RunDirectory) -> list[Callable[[dict[str, Any]], None]]:
    """A tracker that writes every logged number as a TensorBoard scalar, if TensorBoard is installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return []
    writer = SummaryWriter(str(run.path / "tensorboard"))

    def track(row: dict[str, Any]) -> None:
        step = row["step"]
        for name, value in row.items():
            if isinstance(value, float):
                writer.add_scalar(f"train/{name}", value, step)
        for kind, metrics in row.get("metrics", {}).items():
            for name, value in metrics.items():
                writer.add_scalar(f"validation/{kind}/{name}", value, step)
        writer.flush()

    return [track]
