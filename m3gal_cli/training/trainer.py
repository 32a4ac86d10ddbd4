"""The training loop: it takes optimiser steps, logs, validates, saves checkpoints and stops at signals."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.losses import Losses
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.training.health import HealthMonitor
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.objectives.objective import Monitor, Objective, ParameterGroup
from m3gal_cli.training.rng_state import rng_states
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.running_means import RunningMeans
from m3gal_cli.training.schedules import epoch_order, ramp_factor, step_factor
from m3gal_cli.training.signals import stop_signals

SELECTION_SCORE, SELECTION_METRIC = "fused", "recall@1"  # the best checkpoint has the highest value in validation
STEPS_BETWEEN_SIGNAL_CHECKS = 10  # with several processes, because the check waits for the device


class Interrupted(Exception):
    """A signal stopped the training at ``step``; ``path`` is the saved checkpoint, ``run`` the folder to continue."""

    def __init__(self, path: Path, step: int, run: Path) -> None:
        super().__init__(f"stopped at step {step}")
        self.path, self.step, self.run = path, step, run


@dataclass
class TrainerState:
    """The position of a run. The field names are keys of ``position`` in trainer.pt."""

    epoch: int = 0  # whole epochs done
    step_in_epoch: int = 0  # steps done of the next epoch
    step: int = 0  # steps done in all
    best: float = -1.0  # highest value of the selection metric so far
    due: bool = False  # a signal arrived after an epoch and before its validation, which is still to be done


@dataclass
class Trainer:
    """The training loop: ``fit`` trains to the end, ``step`` is one optimiser step.

    Attributes:
        validate: Evaluates the current model; None without validation records.
        track: Receives every row of kind ``step`` or ``validation``, e.g. a TensorBoard writer.
        after_save: Is called after every saved checkpoint.
    """

    objective: Objective
    checkpoint: Checkpoint
    config: Config
    run: RunDirectory
    accelerator: Any
    listener: Listener
    validate: Callable[[], Evaluation] | None = None
    state: TrainerState = field(default_factory=TrainerState)
    track: Callable[[dict[str, Any]], None] = lambda row: None
    after_save: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        optim, processes = self.config.optim, self.accelerator.num_processes
        if optim.batch_size % processes:
            what = f"--batch-size {optim.batch_size} is not a multiple of the {processes} processes"
            raise InputError(what, hint="The batch size is that of all processes together.")
        self.steps_per_epoch = self.objective.rows // optim.batch_size
        self.total = optim.epochs * self.steps_per_epoch
        if optim.max_steps is not None:
            self.total = min(self.total, optim.max_steps)
        self.checkpoint.model.to(self.accelerator.device)
        self.groups = self.objective.groups()
        for module in self.objective.modules_without_gradient():
            module.requires_grad_(False)  # after groups(), so that the parameters keep the published order
        self.optimizer = make_optimizer(self.config, self.groups)
        self.parameters = [p for g in self.groups for p in g.parameters]
        self.first_bad_step = torch.full((), -1, device=self.accelerator.device)
        momentum = self.config.momentum
        queue_size = momentum.queue_size if self.objective.stage == "pretrain" else 0
        self.health = HealthMonitor(queue_size, optim.batch_size, momentum.text, optim.loss)

    def load_optimizer(self, state: dict[str, Any]) -> None:
        """Restore the optimiser's buffers; learning rates and weight decays stay those of this run.

        Raises:
            InputError: The buffers belong to another model.
        """
        own = self.optimizer.state_dict()
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        buffers = {i: row for i, row in state.get("state", {}).items() if i < len(parameters)}
        for i, row in buffers.items():
            for value in row.values():
                if isinstance(value, Tensor) and value.dim() and value.shape != parameters[i].shape:
                    what = "the optimiser state of the checkpoint belongs to another model"
                    raise InputError(what, hint="Start from its weights only: --init PATH.")
        self.optimizer.load_state_dict({"state": buffers, "param_groups": own["param_groups"]})

    @property
    def finished(self) -> bool:
        """Whether a resumed run has no step and no validation left."""
        return 0 < self.total <= self.state.step and not self.state.due

    def fit(self) -> None:
        """Train to the end. Raises Interrupted after a signal, once a checkpoint is saved."""
        model, state = self.accelerator.prepare(self.checkpoint.model), self.state
        self.listener.begin(self.total, state.step, self.steps_per_epoch)
        if self.total == 0 or state.due:
            state.due = False
            self._save(best=self._validate())
        with stop_signals() as stopped:
            while state.step < self.total:
                self._epoch(model, stopped)
        self.listener.end()

    def take_one_step(self, model: Any) -> None:
        """Take the next step of the epoch without logging, saving or counting it."""
        self.objective.start_epoch(self.state.epoch)
        self.step(model, self._batches()[self.state.step_in_epoch % self.steps_per_epoch])

    def _batches(self) -> NDArray[np.int64]:
        """Return the row numbers of each step of the current epoch. Shape: -> (steps per epoch, batch size)."""
        size = self.config.optim.batch_size
        order = epoch_order(self.objective.rows, self.state.epoch, self.config.seed, self.config.data.shuffle)
        return order[: self.steps_per_epoch * size].reshape(-1, size)

    def _epoch(self, model: Any, stopped: Callable[[], bool]) -> None:
        """Take the remaining steps of an epoch, then validate or save if that is due."""
        state, stop = self.state, False
        self.objective.start_epoch(state.epoch)
        batches = self._batches()
        running_means = RunningMeans(batches.shape[1])
        for i in range(state.step_in_epoch, self.steps_per_epoch):
            running_means.add(*self.step(model, batches[i]))
            state.step, state.step_in_epoch = state.step + 1, i + 1
            self.listener.advance(state.step)
            if state.step % self.config.run.print_freq == 0 or state.step == self.total:
                self._log(running_means)
            stop = self._any_process(stopped())
            if state.step == self.total or stop:
                break
            if self._save_is_due() and state.step_in_epoch < self.steps_per_epoch:
                self._stop_if_not_finite()
                self._save(best=False)
        self._stop_if_not_finite()
        if state.step_in_epoch == self.steps_per_epoch:
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
        epoch_ended = state.step_in_epoch == 0
        state.due = state.step == self.total or (epoch_ended and state.epoch % self.config.run.validate_every == 0)
        if stop and state.step < self.total:
            raise Interrupted(self._save(best=False), state.step, self.run.path)
        if state.due:
            state.due = False
            self._save(best=self._validate())
        elif self._save_is_due():
            self._save(best=False)

    def _save_is_due(self) -> bool:
        """Return whether ``run.save_every`` asks for a checkpoint at this step."""
        every = self.config.run.save_every
        return every is not None and self.state.step % every == 0

    def _any_process(self, stop: bool) -> bool:
        """Return in all processes whether one of them received a signal, so that all stop at the same step."""
        accelerator, state = self.accelerator, self.state
        if accelerator.num_processes == 1:
            return stop
        ends = state.step_in_epoch == self.steps_per_epoch or state.step == self.total
        if state.step % STEPS_BETWEEN_SIGNAL_CHECKS and not ends:
            return False
        return bool(accelerator.reduce(torch.tensor(float(stop), device=accelerator.device), "sum") > 0)

    def step(self, model: Any, rows: NDArray[np.int64]) -> tuple[list[str], Tensor]:
        """Take one optimiser step.

        Args:
            model: The model, prepared by accelerate.
            rows: Row numbers of the batch of all processes.

        Returns:
            Names and values of losses, monitored values and gradient norm. The values stay on the device, so that no
            step waits for it.
        """
        accelerator, optim = self.accelerator, self.config.optim
        grid = rows.reshape(accelerator.num_processes, -1)  # one line per process
        self._set_learning_rates()
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
                    losses = self.objective.step(model, grid[:, part].reshape(-1), accelerator.device, own)
                accelerator.backward(getattr(losses, optim.loss) * share)
            names, values = _weighted_values(losses, self.objective.monitor, share)
            sums.append(values)
        values = torch.stack(sums).sum(0)
        values = accelerator.reduce(values, "mean") if accelerator.num_processes > 1 else values
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        values = torch.cat([values, norm.reshape(1)])
        self._skip_nonfinite(values)
        if optim.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, optim.clip, norm)
        self.optimizer.step()
        self.objective.after_backward()
        return [*names, "grad_norm"], values

    def _skip_nonfinite(self, values: Tensor) -> None:
        """Record the first step with a loss or gradient that is not finite; the optimiser skips it and all later steps.

        The fused optimisers read ``found_inf`` on the device, so no step waits for a GPU. The logging reads it later.
        On a CPU there is nothing to wait for, and the training stops at once.
        """
        step = torch.full_like(self.first_bad_step, self.state.step)
        is_first = (self.first_bad_step < 0) & ~values.isfinite().all()
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)
        self.optimizer.found_inf = (self.first_bad_step >= 0).float()  # type: ignore[attr-defined]
        if values.device.type == "cpu":
            self._stop_if_not_finite()

    def _stop_if_not_finite(self) -> None:
        """Save the weights from before the first bad step and raise InputError with that step and its rows."""
        state, steps_before = self.state, int(self.first_bad_step)
        if steps_before < 0:
            return
        state.step_in_epoch -= state.step - steps_before
        state.step = steps_before
        rows = self._batches()[state.step_in_epoch].tolist()
        self.run.log({"kind": "failure", "step": steps_before + 1, "epoch": state.epoch, "rows": rows})
        saved = self._save(best=False)
        some = ", ".join(map(str, rows[:3])) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
        what = f"losses or gradients are not finite at step {steps_before + 1}"
        what += f" (rows {some}, counted from 0; metrics.jsonl lists all)"
        hint = f"Saved the state before that step: {saved}."
        hint += " Lower --lr and --lr-location, or clip gradients (--set optim.clip=1), then --resume auto."
        raise InputError(what, where=self.run.path, hint=hint)

    def _set_learning_rates(self) -> None:
        optim, state = self.config.optim, self.state
        factor = step_factor(state.epoch, optim.schedule)
        factor *= ramp_factor(state.step, self.total, optim.warmup, optim.decay)
        for group, own in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = own.lr * factor

    def _log(self, running_means: RunningMeans) -> None:
        self._stop_if_not_finite()
        means = running_means.read(self.accelerator.num_processes, self.accelerator.device)
        rates = {g.name: p["lr"] for g, p in zip(self.groups, self.optimizer.param_groups, strict=True)}
        row: dict[str, Any] = {"kind": "step", "step": self.state.step, "epoch": self.state.epoch}
        row |= {f"{name}_loss": means.pop(name) for name in Losses._fields}
        row |= {"lr": rates.pop("text")} | {f"{name}_lr": rate for name, rate in rates.items()} | means
        self.run.log(row)
        self.track(row)
        self.listener.step(row)
        for text in self.health(row):
            self.warn(text)

    def warn(self, text: str) -> None:
        """Show a warning to the user and write it to metrics.jsonl."""
        warning = {"kind": "warning", "step": self.state.step, "text": text}
        self.run.log(warning)
        self.listener.warning(warning)

    def _validate(self) -> bool:
        """Validate and return whether this is the best validation so far; True without validation records."""
        if self.validate is None:
            return True
        result = self.validate()
        value = result.metrics[SELECTION_SCORE][SELECTION_METRIC]
        best = value > self.state.best
        self.state.best = max(self.state.best, value)
        row: dict[str, Any] = {"kind": "validation", "step": self.state.step, "epoch": self.state.epoch}
        row |= {"n_queries": result.n_queries, "seconds": round(result.seconds, 3), "metrics": result.metrics}
        self.checkpoint.metrics = {f"{k}.{n}": v for k, r in result.metrics.items() for n, v in r.items()}
        self.run.log(row)
        self.track(row)
        self.listener.validation(row)
        return best

    def _save(self, best: bool) -> Path:
        state, checkpoint = self.state, self.checkpoint
        checkpoint.stage, checkpoint.epoch, checkpoint.step = self.objective.stage, state.epoch, state.step
        checkpoint.trainer = self.objective.state() | {
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(state),
            **rng_states(self.accelerator.device),
        }
        path = self.run.save(checkpoint, best)
        if best and self.config.run.published_checkpoint and self.run.main:
            self._save_published()
        checkpoint.trainer = None
        self.after_save()
        self.listener.saved(path, best)
        return path

    def _save_published(self) -> None:
        """Write checkpoint_EEEE_best.pth.tar. The name counts epochs from 0; the content names the next epoch."""
        state, checkpoint = self.objective.state(), self.checkpoint
        epoch = max(self.state.epoch - (self.state.step_in_epoch == 0), 0)
        copy = Checkpoint(checkpoint.model, checkpoint.tokenizer, epoch=epoch + 1)
        path = self.run.path / f"checkpoint_{epoch:04d}_best.pth.tar"
        save_published(path, copy, state.get("queue", {}), self.optimizer.state_dict())
        for old in self.run.path.glob("checkpoint_*_best.pth.tar"):
            if old != path:
                old.unlink()


def _weighted_values(losses: Losses, monitor: Monitor, share: float) -> tuple[list[str], Tensor]:
    """Return names and values of losses and monitor; means are weighted by the part's share of the batch."""
    values = {**losses._asdict(), **monitor}
    weighted = [v.detach().float() * (1.0 if name == "tokens" else share) for name, v in values.items()]
    return list(values), torch.stack(weighted)


def make_optimizer(config: Config, groups: list[ParameterGroup]) -> torch.optim.Optimizer:
    """Return SGD or AdamW over the groups, in their order. Both are fused: only these can skip a step on the device."""
    optim = config.optim
    rows = [{"name": g.name, "params": g.parameters, "lr": g.lr, "weight_decay": g.weight_decay} for g in groups]
    if optim.name == "sgd":
        return torch.optim.SGD(rows, lr=optim.lr, momentum=optim.momentum, fused=True)
    return torch.optim.AdamW(rows, lr=optim.lr, fused=True)
