"""A training up to its next step, to see whether it would run: what goes in, how large, how long; without a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from m3gal_cli.core.bi_encoder import count_parameters
from m3gal_cli.training.running_means import memory
from m3gal_cli.training.trainer import Trainer


@dataclass(frozen=True)
class Batch:
    """Texts that an encoder took in one step, padded to so many tokens, of which so many are of the texts."""

    texts: int
    length: int
    tokens: int


@dataclass(frozen=True)
class DryRun:
    """What one step has shown. Times are in seconds, memory in 10^6 bytes."""

    stage: str
    device: str
    processes: int
    texts: dict[str, Batch]  # by what an encoder reads: queries and keys, or pairs
    queue: tuple[int, int] | None  # width and length
    parameters: dict[str, int]
    rows: int
    batch_size: int
    steps_per_epoch: int
    steps: int  # of each member
    done: int
    members: int
    seconds_per_step: float
    seconds: float  # of the steps that are left, without validations
    peak_memory_mb: float

    def to_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        rows = asdict(self)
        return {k: v for name, row in rows.items() for k, v in (row if name == "texts" else {name: row}).items()}


def rehearse(trainer: Trainer) -> DryRun:
    """Take one step (on a CUDA device a second one, which is timed) and tell what it took.

    Model, optimiser and queue have moved afterwards: the trainer is to be thrown away.
    """
    device, task = trainer.accelerator.device, trainer.task
    cuda = device.type == "cuda"
    model = trainer.accelerator.prepare(trainer.checkpoint.model)
    with _recorded(trainer) as seen:
        seconds = _timed(trainer, model)
    if cuda:  # the first step of a GPU loads its kernels
        seconds = _timed(trainer, model)
    queue = getattr(task, "queue", None)
    done = min(trainer.position.step, trainer.total)
    return DryRun(
        task.stage,
        torch.cuda.get_device_name(device) if cuda else str(device),
        trainer.accelerator.num_processes,
        {name: _batch(parts) for name, parts in seen.items()},
        None if queue is None else (int(queue.queue.shape[0]), int(queue.queue.shape[1])),
        _parameters(trainer),
        task.rows,
        trainer.config.optim.batch_size,
        trainer.steps_per_epoch,
        trainer.total,
        done,
        trainer.config.optim.soup_size,
        seconds,
        seconds * (trainer.total * trainer.config.optim.soup_size - done),
        memory(device) / 1e6,
    )


def _timed(trainer: Trainer, model: Any) -> float:
    device = trainer.accelerator.device
    began = time.perf_counter()
    trainer.try_step(model)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _parameters(trainer: Trainer) -> dict[str, int]:
    model = trainer.checkpoint.model
    counts = {name: count_parameters(part) for name, part in model.parts().items()}
    trained = [p for group in trainer.groups for p in group.parameters if p.requires_grad]
    return counts | {"trainable": sum(p.numel() for p in trained)}


@contextmanager
def _recorded(trainer: Trainer) -> Iterator[dict[str, list[Batch]]]:
    """Within the block: what the text encoders take within a step of the task (backward may run them again)."""
    encoders, task = trainer.checkpoint.model.text_encoders(), trainer.task
    seen: dict[str, list[Batch]] = {name: [] for name in encoders}
    within = False

    def note(name: str, mask: Tensor) -> None:
        if within:
            seen[name].append(Batch(mask.shape[0], mask.shape[1], int(mask.sum())))

    def hook(name: str) -> Any:
        def before(_module: Any, _inputs: Any, given: dict[str, Tensor]) -> None:
            note(name, given["attention_mask"])

        return encoders[name].register_forward_pre_hook(before, with_kwargs=True)

    step = task.step

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal within
        within = True
        try:
            return step(*args, **kwargs)
        finally:
            within = False

    hooks = [hook(name) for name in seen]
    task.step = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        task.step = step  # type: ignore[method-assign]
        for each in hooks:
            each.remove()


def _batch(parts: list[Batch]) -> Batch:
    """Parts of a batch as one."""
    texts, tokens = sum(p.texts for p in parts), sum(p.tokens for p in parts)
    return Batch(texts, max((p.length for p in parts), default=0), tokens)
