"""The one training loop: order, steps, schedules, logging, validation, checkpoints, interruption."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint, save_published
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.training.run import RunDirectory
from m3gal_cli.training.schedules import ramp_factor, step_factor
from m3gal_cli.training.task import Task, unreached

BEST_METRIC = "recall@1"


class Interrupted(Exception):
    """Training was stopped by a signal, after saving."""

    def __init__(self, path: Any, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step = path, step


class Listener(Protocol):
    """Told of what happens; the command line shows it."""

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None: ...
    def step(self, row: dict[str, Any]) -> None: ...
    def advance(self, done: int) -> None: ...
    def validation(self, row: dict[str, Any]) -> None: ...
    def warning(self, row: dict[str, Any]) -> None: ...
    def saved(self, path: Any, best: bool) -> None: ...


class Quiet:
    """A listener that says nothing: that of all but one of several processes."""

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None: ...
    def step(self, row: dict[str, Any]) -> None: ...
    def advance(self, done: int) -> None: ...
    def validation(self, row: dict[str, Any]) -> None: ...
    def warning(self, row: dict[str, Any]) -> None: ...
    def saved(self, path: Any, best: bool) -> None: ...


@dataclass
class Position:
    """Where a run stands: epochs whole, steps into the next one, steps in all, best validation so far.

    ``due`` says that a signal came between the end of an epoch and its validation.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -1.0
    due: bool = False


@dataclass
class Trainer:
    """A task, a model and their surroundings, ready to ``fit``."""

    task: Task
    checkpoint: Checkpoint
    config: Config
    run: RunDirectory
    accelerator: Any
    listener: Listener
    validate: Callable[[], Evaluation] | None = None
    position: Position = field(default_factory=Position)
    trackers: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        optim, count = self.config.optim, self.task.rows
        if optim.batch_size > count:
            what = f"optim.batch_size {optim.batch_size} is larger than the data ({count} rows)"
            raise InputError(what, hint=f"Give --batch-size {count} or less.")
        if optim.batch_size % self.accelerator.num_processes:
            what = (
                f"optim.batch_size {optim.batch_size} is no multiple of the {self.accelerator.num_processes} processes"
            )
            raise InputError(what, hint="The batch size is that of all processes together.")
        self.steps_per_epoch = count // optim.batch_size
        self.total = optim.epochs * self.steps_per_epoch
        if optim.max_steps is not None:
            self.total = min(self.total, optim.max_steps)
        self.checkpoint.model.to(self.accelerator.device)
        self.groups = self.task.groups()
        for part in unreached(self.checkpoint.model, self.task.stage, optim.loss):
            part.requires_grad_(False)  # after the groups, so that parameters keep the published order
        self.optimizer = make_optimizer(self.config, self.groups)

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Take the optimiser's buffers; rates and decays stay this run's. Raises InputError where they do not fit."""
        own = self.optimizer.state_dict()
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        kept = {i: row for i, row in state.get("state", {}).items() if i < len(parameters)}
        for i, row in kept.items():
            for value in row.values():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameters[i].shape:
                    raise InputError("the checkpoint's optimiser state is of another model", hint="Use --init PATH.")
        self.optimizer.load_state_dict({"state": kept, "param_groups": own["param_groups"]})

    def fit(self) -> Position:
        """Train to the end. Raises Interrupted after a signal, once a checkpoint is saved."""
        model = self.accelerator.prepare(self.checkpoint.model)
        at = self.position
        self.listener.begin(self.total, at.step, self.steps_per_epoch)
        if self.total == 0 or at.due:
            at.due = False
            self._save(best=self._validated())
        with _stop_signals() as stopped:
            while at.step < self.total:
                self._epoch(model, stopped)
        return at

    def try_step(self, model: Any) -> None:
        """Take the step that comes next (after the last one, a first one), without logging, saving or moving on."""
        at, size = self.position, self.config.optim.batch_size
        self.task.start_epoch(at.epoch)
        first = at.step_in_epoch % self.steps_per_epoch * size
        self._step(model, epoch_order(self.task.rows, at.epoch, self.config)[first : first + size])

    def _epoch(self, model: Any, stopped: Callable[[], bool]) -> None:
        at, size, stop = self.position, self.config.optim.batch_size, False
        self.task.start_epoch(at.epoch)
        order = epoch_order(self.task.rows, at.epoch, self.config)
        meter = _Meter()
        for i in range(at.step_in_epoch, self.steps_per_epoch):
            losses = self._step(model, order[i * size : (i + 1) * size])
            meter.add(losses, size)
            at.step, at.step_in_epoch = at.step + 1, i + 1
            self.listener.advance(at.step)
            if at.step % self.config.run.print_freq == 0 or at.step == self.total:
                self._log(meter)
            stop = self._agreed(stopped())
            if at.step == self.total or stop:
                break
        if at.step_in_epoch == self.steps_per_epoch:
            at.epoch, at.step_in_epoch = at.epoch + 1, 0
        at.due = at.step == self.total or (at.step_in_epoch == 0 and at.epoch % self.config.run.validate_every == 0)
        if stop and at.step < self.total:
            raise Interrupted(self._save(best=False), at.step)
        if at.due:
            at.due = False
            self._save(best=self._validated())

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was told to stop: they stop at the same step, as none can go on without the others."""
        accelerator = self.accelerator
        if accelerator.num_processes == 1:
            return stop
        return bool(accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), "sum") > 0)

    def _step(self, model: Any, rows: NDArray[np.int64]) -> Tensor:
        """One optimiser step; returns detached (text, location, fused) losses, mean over processes."""
        accelerator, optim = self.accelerator, self.config.optim
        share = len(rows) // accelerator.num_processes
        mine = rows[accelerator.process_index * share :][:share]
        self._set_rates()
        model.train()
        with accelerator.autocast():
            losses = self.task.step(model, mine, accelerator.device)
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(getattr(losses, optim.loss))
        if optim.clip is not None:
            torch.nn.utils.clip_grad_norm_([p for g in self.groups for p in g.parameters], optim.clip)
        self.task.after_backward()
        self.optimizer.step()
        values = torch.stack([losses.text, losses.location, losses.fused]).detach().float()
        return accelerator.reduce(values, "mean") if accelerator.num_processes > 1 else values

    def _set_rates(self) -> None:
        optim, at = self.config.optim, self.position
        factor = step_factor(at.epoch, optim.schedule) * ramp_factor(at.step, self.total, optim.warmup, optim.decay)
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = own.lr * factor

    def _log(self, meter: _Meter) -> None:
        text, location, fused, rate = meter.read()
        if not math.isfinite(fused):
            hint = "Lower the learning rates (--lr, --gc-lr) or set optim.clip; the last checkpoint is whole."
            raise InputError(f"the loss is {fused} at step {self.position.step}", where=self.run.path, hint=hint)
        rates = {g.name: p["lr"] for g, p in zip(self.groups, self.optimizer.param_groups, strict=True)}
        epoch = self.position.epoch
        row = {"kind": "step", "step": self.position.step, "epoch": epoch, "text_loss": text, "location_loss": location}
        row |= {"fused_loss": fused, "lr": rates["text"], "location_lr": rates["location"], "samples_per_second": rate}
        self._tell(row)
        self.listener.step(row)

    def _tell(self, row: dict[str, Any]) -> None:
        self.run.log(row)
        for tracker in self.trackers:
            tracker(row)

    def _validated(self) -> bool:
        """Validate, if there is something to validate on; whether it is the best so far."""
        if self.validate is None:
            return True
        found = self.validate()
        value = found.metrics["fused"][BEST_METRIC]
        best = value > self.position.best
        self.position.best = max(self.position.best, value)
        row: dict[str, Any] = {"kind": "validation", "step": self.position.step, "epoch": self.position.epoch}
        row |= {"n_queries": found.n_queries, "seconds": round(found.seconds, 3), "metrics": found.metrics}
        self.checkpoint.metrics = {f"{k}.{n}": v for k, r in found.metrics.items() for n, v in r.items()}
        self._tell(row)
        self.listener.validation(row)
        return best

    def _save(self, best: bool) -> Any:
        at, checkpoint = self.position, self.checkpoint
        checkpoint.stage, checkpoint.epoch, checkpoint.step = self.task.stage, at.epoch, at.step
        checkpoint.trainer = self.task.state() | {
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(at),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        path = self.run.save(checkpoint, best)
        if best and self.config.run.published_checkpoint and self.run.main:
            self._save_published()
        checkpoint.trainer = None
        self.listener.saved(path, best)
        return path

    def _save_published(self) -> None:
        """The published name counts epochs from 0 and holds the number of the next epoch."""
        state = self.task.state()
        running = max(self.position.epoch - (self.position.step_in_epoch == 0), 0)
        copy = Checkpoint(self.checkpoint.model, self.checkpoint.tokenizer, epoch=running + 1)
        path = self.run.path / f"checkpoint_{running:04d}_best.pth.tar"
        save_published(path, copy, state.get("queue", {}), self.optimizer.state_dict())
        for old in self.run.path.glob("checkpoint_*_best.pth.tar"):
            if old != path:
                old.unlink()


class _Meter:
    """Mean losses and rows a second since the last reading; values stay on the device until read."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: Tensor | None = None
        self.steps = self.rows = 0
        self.began = time.perf_counter()

    def add(self, losses: Tensor, rows: int) -> None:
        self.sums = losses if self.sums is None else self.sums + losses
        self.steps, self.rows = self.steps + 1, self.rows + rows

    def read(self) -> tuple[float, float, float, float]:
        assert self.sums is not None
        text, location, fused = (self.sums / self.steps).tolist()
        rate = self.rows / max(time.perf_counter() - self.began, 1e-9)
        self.reset()
        return text, location, fused, round(rate, 1)


def make_optimizer(config: Config, groups: list[Any]) -> torch.optim.Optimizer:
    """SGD or AdamW over the groups, in their order."""
    optim = config.optim
    rows = [{"name": g.name, "params": g.parameters, "lr": g.lr, "weight_decay": g.weight_decay} for g in groups]
    if optim.name == "sgd":
        return torch.optim.SGD(rows, lr=optim.lr, momentum=optim.momentum)
    return torch.optim.AdamW(rows, lr=optim.lr)


def epoch_order(rows: int, epoch: int, config: Config) -> NDArray[np.int64]:
    """The order of the rows in an epoch: file order, or a permutation that seed and epoch alone decide."""
    if not config.data.shuffle:
        return np.arange(rows)
    return np.random.default_rng([config.seed, epoch]).permutation(rows)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block SIGINT and SIGTERM only set a flag, so that the step in progress ends and is saved.

    A second Ctrl-C means it; but within a second it may be the first one's echo, as torchrun and make pass signals on.
    """
    seen: dict[int, float] = {}

    def note(number: int, _frame: Any) -> None:
        now = time.monotonic()
        if now - seen.setdefault(number, now) > 1.0:
            raise KeyboardInterrupt

    try:
        before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the host program keeps its signals
        before = {}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
