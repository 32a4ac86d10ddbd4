"""Dry run of a training: one step shows shapes, parameter counts, time and memory. Nothing is written."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from m3gal_cli.core.bi_encoder import count_parameters
from m3gal_cli.training.running_means import peak_memory
from m3gal_cli.training.trainer import Trainer


@dataclass(frozen=True)
class TextBatch:
    """The texts that an encoder processes in one step: their number, padded length and tokens without padding."""

    texts: int
    length: int
    tokens: int


@dataclass(frozen=True)
class DryRun:
    """Results of a dry run. The names are keys of the JSON output. Times in seconds, memory in MB."""

    stage: str
    device: str
    processes: int
    texts: dict[str, TextBatch]  # by encoder: queries, keys
    queue: tuple[int, int] | None  # width and length
    parameters: dict[str, int]
    rows: int
    batch_size: int
    steps_per_epoch: int
    steps: int  # of each training of a model soup
    done: int  # steps of a resumed run that are already done
    members: int  # trainings of a model soup
    seconds_per_step: float
    seconds: float  # of the remaining steps of all trainings, without validations
    peak_memory_mb: float

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``--json`` prints; the batches of ``texts`` are keys of their own."""
        rows = asdict(self)
        return {k: v for name, row in rows.items() for k, v in (row if name == "texts" else {name: row}).items()}


def take_dry_run(trainer: Trainer) -> DryRun:
    """Take one step and return its measures. On CUDA a second step is timed, because the first loads kernels.

    The step changes model, optimiser and queue, so the trainer must not be used afterwards.
    """
    device, objective, config = trainer.accelerator.device, trainer.objective, trainer.config
    cuda = device.type == "cuda"
    model = trainer.accelerator.prepare(trainer.checkpoint.model)
    batches = _record_batches(trainer)
    seconds = _time_step(trainer, model)
    texts = {name: _joined(parts) for name, parts in batches.items()}
    if cuda:
        seconds = _time_step(trainer, model)
    queue = getattr(objective, "queue", None)
    done = min(trainer.state.step, trainer.total)
    return DryRun(
        stage=objective.stage,
        device=torch.cuda.get_device_name(device) if cuda else str(device),
        processes=trainer.accelerator.num_processes,
        texts=texts,
        queue=None if queue is None else (int(queue.queue.shape[0]), int(queue.queue.shape[1])),
        parameters=_parameters(trainer),
        rows=objective.rows,
        batch_size=config.optim.batch_size,
        steps_per_epoch=trainer.steps_per_epoch,
        steps=trainer.total,
        done=done,
        members=config.optim.soup_size,
        seconds_per_step=seconds,
        seconds=seconds * (trainer.total * config.optim.soup_size - done),
        peak_memory_mb=peak_memory(device) / 1e6,
    )


def _time_step(trainer: Trainer, model: Any) -> float:
    device = trainer.accelerator.device
    started = time.perf_counter()
    trainer.take_one_step(model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _parameters(trainer: Trainer) -> dict[str, int]:
    counts = {name: count_parameters(part) for name, part in trainer.checkpoint.model.parts().items()}
    trained = [p for group in trainer.groups for p in group.parameters if p.requires_grad]
    return counts | {"trainable": sum(p.numel() for p in trained)}


def _record_batches(trainer: Trainer) -> dict[str, list[TextBatch]]:
    """Return lists to which every ``objective.step`` appends the batches of the text encoders.

    The hooks are removed before the backward pass, which may run the encoders again.
    """
    encoders, step = trainer.checkpoint.model.text_encoders(), trainer.objective.step
    batches: dict[str, list[TextBatch]] = {name: [] for name in encoders}

    def add_hook(name: str) -> Any:
        def record(_module: Any, _args: Any, kwargs: dict[str, Tensor]) -> None:
            mask = kwargs["attention_mask"]
            batches[name].append(TextBatch(mask.shape[0], mask.shape[1], int(mask.sum())))

        return encoders[name].register_forward_pre_hook(record, with_kwargs=True)

    def recorded_step(*args: Any, **kwargs: Any) -> Any:
        hooks = [add_hook(name) for name in encoders]
        losses = step(*args, **kwargs)
        for hook in hooks:
            hook.remove()
        return losses

    trainer.objective.step = recorded_step  # type: ignore[method-assign]
    return batches


def _joined(parts: list[TextBatch]) -> TextBatch:
    """Return the parts of a batch as one batch."""
    length = max((p.length for p in parts), default=0)
    return TextBatch(sum(p.texts for p in parts), length, sum(p.tokens for p in parts))
