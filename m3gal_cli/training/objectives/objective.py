"""What the loop needs of a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.losses import Losses

Forward = Callable[..., tuple[Tensor, ...]]
Monitor = dict[str, Tensor]  # names to 0-dim tensors, on the device: reading them would wait for it


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate and a weight decay."""

    name: str
    parameters: list[nn.Parameter]
    lr: float
    weight_decay: float


class NamedLosses(Protocol):
    """A named tuple of 0-dim losses."""

    def _asdict(self) -> dict[str, Any]:
        """Name to loss."""


class Task(Protocol):
    """A stage of training: rows, parameter groups and a step.

    Attributes:
        monitor: what the last step saw, beside its losses: its keys go into metrics.jsonl, tokens as a rate.
        losses: names of the losses of a step.
        judged: the kind of score whose recall@1 chooses the best checkpoint.
    """

    stage: str
    monitor: Monitor
    losses: tuple[str, ...]
    judged: str

    @property
    def rows(self) -> int:
        """Rows an epoch."""

    @property
    def minimised(self) -> str:
        """Name of the loss that is minimised."""

    def groups(self) -> list[Group]:
        """Parameter groups, the location group first (the published order); one of them is named text."""

    def unreached(self) -> list[nn.Module]:
        """Parts that the groups hold but the loss gives no gradient; data-parallel training would wait for theirs."""

    def start_epoch(self, epoch: int) -> None:
        """Called before the first step of every epoch (from 0)."""

    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = ...) -> NamedLosses:
        """Losses of rows, with gradient; ``forward`` is the model's, wrapped for its devices.

        Args:
            rows: numbers of the rows of all processes.
            own: which of them are this process's, whose losses are returned.
        """

    def finish(self) -> None:
        """Called once the gradients of all rows of a step are there: what the step saved for them may change now."""

    def state(self) -> dict[str, Any]:
        """Tensors and numbers beyond the model that a resumed run needs."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""


def trainable(module: nn.Module, freeze: list[str]) -> list[nn.Parameter]:
    """Parameters that take gradients; those whose name has one of the words in ``freeze`` are frozen."""
    for name, parameter in module.named_parameters():
        if any(word in name for word in freeze):
            parameter.requires_grad_(False)
    return [p for p in module.parameters() if p.requires_grad]


def location_side(query: Tensor, config: Config) -> tuple[Tensor, float]:
    """Queries as the location loss sees them, and its temperature.

    In the loss ``apart`` the location encoder learns from queries that it does not change: in a joint loss the text
    tells nearly all, and location scores stay at chance.
    """
    if config.optim.loss != "separate":
        return query, config.momentum.temperature
    return query.detach(), config.momentum.location_temperature or config.momentum.temperature


class BiEncoderTask:
    """What pretraining and finetuning have in common."""

    stage: str
    model: M3gal
    config: Config
    losses: tuple[str, ...] = Losses._fields
    judged = "fused"

    @property
    def minimised(self) -> str:
        return self.config.optim.loss

    def unreached(self) -> list[nn.Module]:
        model, loss = self.model, self.config.optim.loss
        if loss == "text":
            return [model.gc_encoder, model.gc_encoder_shadow]
        return [model.encoder_k] if loss == "location" and self.stage == "finetune" else []
