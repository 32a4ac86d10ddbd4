"""The one training loop: order, steps, schedules, logging, validation, checkpoints, interruption."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint, Stored
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.training.health import HealthMonitor
from m3gal_cli.training.objectives.objective import Monitor, NamedLosses, Task
from m3gal_cli.training.rng_state import epoch_order, random_states
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.running_means import RunningMeans
from m3gal_cli.training.schedules import ramp_factor, step_factor
from m3gal_cli.training.signals import stop_signals

BEST_METRIC = "recall@1"
STEPS_BETWEEN_QUESTIONS = 10


class Interrupted(Exception):
    """Training was stopped by a signal, after saving. ``run`` is the directory of the run to go on with."""

    def __init__(self, path: Any, step: int, run: Path) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step, self.run = path, step, run


class Listener(Protocol):
    """Told of what happens; the command line shows it."""

    def part(self, name: str) -> None: ...
    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None: ...
    def step(self, row: dict[str, Any]) -> None: ...
    def advance(self, done: int) -> None: ...
    def validation(self, row: dict[str, Any]) -> None: ...
    def warning(self, row: dict[str, Any]) -> None: ...
    def saved(self, path: Any, best: bool) -> None: ...


class Quiet:
    """A listener that says nothing: that of all but one of several processes."""

    def part(self, name: str) -> None: ...
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
    checkpoint: Stored[Any]
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
        for part in self.task.unreached():
            part.requires_grad_(False)  # after the groups, so that parameters keep the published order
        self.optimizer = make_optimizer(self.config, self.groups)
        self.parameters = [p for g in self.groups for p in g.parameters]
        self.failed = torch.full((), -1, device=self.accelerator.device)
        momentum = self.config.momentum
        size = momentum.queue_size if self.task.stage == "pretrain" else 0
        self.watch = HealthMonitor(size, optim.batch_size, momentum.m, self.task.minimised)

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
        with stop_signals() as stopped:
            while at.step < self.total:
                self._epoch(model, stopped)
        return at

    def try_step(self, model: Any) -> None:
        """Take the step that comes next (after the last one, a first one), without logging, saving or moving on."""
        at, size = self.position, self.config.optim.batch_size
        self.task.start_epoch(at.epoch)
        first = at.step_in_epoch % self.steps_per_epoch * size
        self.step(model, epoch_order(self.task.rows, at.epoch, self.config)[first : first + size])

    def _epoch(self, model: Any, stopped: Callable[[], bool]) -> None:
        at, size, stop = self.position, self.config.optim.batch_size, False
        self.task.start_epoch(at.epoch)
        order = epoch_order(self.task.rows, at.epoch, self.config)
        running_means = RunningMeans(size)
        for i in range(at.step_in_epoch, self.steps_per_epoch):
            running_means.add(*self.step(model, order[i * size : (i + 1) * size]))
            at.step, at.step_in_epoch = at.step + 1, i + 1
            self.listener.advance(at.step)
            if at.step % self.config.run.print_freq == 0 or at.step == self.total:
                self._log(running_means)
            stop = self._agreed(stopped())
            if at.step == self.total or stop:
                break
            if self._between(at.step) and at.step_in_epoch < self.steps_per_epoch:
                self._stop_if_failed()
                self._save(best=False)
        self._stop_if_failed()
        if at.step_in_epoch == self.steps_per_epoch:
            at.epoch, at.step_in_epoch = at.epoch + 1, 0
        at.due = at.step == self.total or (at.step_in_epoch == 0 and at.epoch % self.config.run.validate_every == 0)
        if stop and at.step < self.total:
            raise Interrupted(self._save(best=False), at.step, self.run.path)
        if at.due:
            at.due = False
            self._save(best=self._validated())
        elif self._between(at.step):
            self._save(best=False)

    def _between(self, step: int) -> bool:
        """Whether a checkpoint is due at ``step``, validation or not."""
        every = self.config.run.save_every
        return every is not None and step % every == 0

    def _agreed(self, stop: bool) -> bool:
        """Whether any process was told to stop: they stop at the same step, as none can go on without the others.

        Several ask each other only now and then, as the answer waits for the device.
        """
        accelerator, at = self.accelerator, self.position
        if accelerator.num_processes == 1:
            return stop
        if at.step % STEPS_BETWEEN_QUESTIONS and at.step_in_epoch < self.steps_per_epoch and at.step < self.total:
            return False
        return bool(accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), "sum") > 0)

    def step(self, model: Any, rows: NDArray[np.int64]) -> tuple[list[str], Tensor]:
        """One optimiser step; returns names and values of what was seen, on the device: nothing here waits for it."""
        accelerator, optim = self.accelerator, self.config.optim
        grid = rows.reshape(accelerator.num_processes, -1)
        self._set_rates()
        model.train()
        self.optimizer.zero_grad(set_to_none=True)
        names: list[str] = []
        sums = []
        parts = np.array_split(np.arange(grid.shape[1]), min(optim.accumulate, grid.shape[1]))
        for i, part in enumerate(parts):
            own = slice(accelerator.process_index * len(part), (accelerator.process_index + 1) * len(part))
            share = len(part) / grid.shape[1]
            with nullcontext() if i == len(parts) - 1 else accelerator.no_sync(model):
                with accelerator.autocast():
                    losses = self.task.step(model, grid[:, part].reshape(-1), accelerator.device, own)
                accelerator.backward(getattr(losses, self.task.minimised) * share)
            names, values = _seen(losses, self.task.monitor, share)
            sums.append(values)
        seen = torch.stack(sums).sum(0)
        seen = accelerator.reduce(seen, "mean") if accelerator.num_processes > 1 else seen
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        seen = torch.cat([seen, norm.reshape(1)])
        self._skip_nonfinite(seen)
        if optim.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, optim.clip, norm)
        self.optimizer.step()
        self.task.finish()
        return [*names, "grad_norm"], seen

    def _skip_nonfinite(self, seen: Tensor) -> None:
        """Note the first step whose losses or gradients are not finite: the optimiser skips it and all that follow.

        The fused optimisers read ``found_inf`` on the device, so that no step waits for a GPU; it is read with the
        logged values. A CPU has nothing to wait for, and stops at once.
        """
        now = torch.full_like(self.failed, self.position.step)
        self.failed = torch.where((self.failed < 0) & ~seen.isfinite().all(), now, self.failed)
        self.optimizer.found_inf = (self.failed >= 0).float()  # type: ignore[attr-defined]
        if seen.device.type == "cpu":
            self._stop_if_failed()

    def _stop_if_failed(self) -> None:
        """Save the weights as they were before the first bad step. Raises InputError with the step and its rows."""
        at, before = self.position, int(self.failed)
        if before < 0:
            return
        at.step_in_epoch -= at.step - before
        at.step = before
        size, order = self.config.optim.batch_size, epoch_order(self.task.rows, at.epoch, self.config)
        rows = order[at.step_in_epoch * size :][:size].tolist()
        self.run.log({"kind": "failure", "step": before + 1, "epoch": at.epoch, "rows": rows})
        saved = self._save(best=False)
        some = ", ".join(map(str, rows[:3])) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
        what = f"losses or gradients are not finite at step {before + 1} (rows {some}, from 0; all in metrics.jsonl)"
        hint = f"Saved as before that step: {saved}. Lower the rates (--lr, --gc-lr) or set optim.clip, and resume."
        raise InputError(what, where=self.run.path, hint=hint)

    def _set_rates(self) -> None:
        optim, at = self.config.optim, self.position
        factor = step_factor(at.epoch, optim.schedule) * ramp_factor(at.step, self.total, optim.warmup, optim.decay)
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = own.lr * factor

    def _log(self, running_means: RunningMeans) -> None:
        self._stop_if_failed()
        seen = running_means.read(self.accelerator.num_processes, self.accelerator.device)
        rates = {g.name: p["lr"] for g, p in zip(self.groups, self.optimizer.param_groups, strict=True)}
        row: dict[str, Any] = {"kind": "step", "step": self.position.step, "epoch": self.position.epoch}
        row |= {f"{name}_loss": seen.pop(name) for name in self.task.losses}
        row |= {"lr": rates.pop("text")} | {f"{name}_lr": rate for name, rate in rates.items()} | seen
        self._tell(row)
        self.listener.step(row)
        for text in self.watch(row):
            self.warn(text)

    def warn(self, text: str) -> None:
        """Say a sentence to the user, and keep it in metrics.jsonl."""
        warning = {"kind": "warning", "step": self.position.step, "text": text}
        self.run.log(warning)
        self.listener.warning(warning)

    def _tell(self, row: dict[str, Any]) -> None:
        self.run.log(row)
        for tracker in self.trackers:
            tracker(row)

    def _validated(self) -> bool:
        """Validate, if there is something to validate on; whether it is the best so far."""
        if self.validate is None:
            return True
        found = self.validate()
        value = found.metrics[self.task.judged][BEST_METRIC]
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
        checkpoint.trainer = (
            self.task.state()
            | {
                "optimizer": self.optimizer.state_dict(),
                "position": asdict(at),
            }
            | random_states(self.accelerator.device)
        )
        path = self.run.save(checkpoint, best)
        if best and self.config.run.published_checkpoint and self.run.main and isinstance(checkpoint, Checkpoint):
            self._save_published(checkpoint)
        checkpoint.trainer = None
        self.listener.saved(path, best)
        return path

    def _save_published(self, checkpoint: Checkpoint) -> None:
        """The published name counts epochs from 0 and holds the number of the next epoch."""
        state = self.task.state()
        running = max(self.position.epoch - (self.position.step_in_epoch == 0), 0)
        copy = Checkpoint(checkpoint.model, checkpoint.tokenizer, epoch=running + 1)
        path = self.run.path / f"checkpoint_{running:04d}_best.pth.tar"
        save_published(path, copy, state.get("queue", {}), self.optimizer.state_dict())
        for old in self.run.path.glob("checkpoint_*_best.pth.tar"):
            if old != path:
                old.unlink()


def _seen(losses: NamedLosses, monitor: Monitor, share: float) -> tuple[list[str], Tensor]:
    """Names and values of a part's losses and monitor, the means weighted by the part's share of the batch."""
    values = {**losses._asdict(), **monitor}
    weighted = [v.detach().float() * (1.0 if name == "tokens" else share) for name, v in values.items()]
    return list(values), torch.stack(weighted)


def make_optimizer(config: Config, groups: list[Any]) -> torch.optim.Optimizer:
    """SGD or AdamW over the groups, in their order; fused ones, which skip a step by a flag on the device."""
    optim = config.optim
    rows = [{"name": g.name, "params": g.parameters, "lr": g.lr, "weight_decay": g.weight_decay} for g in groups]
    if optim.name == "sgd":
        return torch.optim.SGD(rows, lr=optim.lr, momentum=optim.momentum, fused=True)
    return torch.optim.AdamW(rows, lr=optim.lr, fused=True)
