"""The base class of objectives: the interface that the trainer calls, and shared parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.losses import Losses, alignment, embedding_spread, uniformity

Forward = Callable[..., tuple[Tensor, ...]]  # ``M3gal.forward``, wrapped by accelerate
Monitor = dict[str, Tensor]  # names to 0-dim tensors on the device: reading one would wait for the device


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    name: str
    parameters: list[nn.Parameter]
    lr: float
    weight_decay: float


class Objective(ABC):
    """Training rows, parameter groups and the losses of a batch.

    Attributes:
        stage: ``pretrain`` or ``finetune``.
        rows: Number of training rows per epoch.
        monitor: Further values of the last batch, by their names in metrics.jsonl; ``tokens`` is logged as a rate.
    """

    stage: str
    model: M3gal
    config: Config
    rows: int
    monitor: Monitor

    @abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """Return the parameter groups: the location group first (the published order), then the text group."""

    @abstractmethod
    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)) -> Losses:
        """Return the losses of a batch, with gradient.

        Args:
            forward: The model's forward method, wrapped for its devices.
            rows: Row numbers of the batch of all processes.
            device: The device of the model.
            own: The part of ``rows`` that belongs to this process. The losses are means over this part.
        """

    def start_epoch(self, epoch: int) -> None:
        """Prepare an epoch (from 0). The trainer calls this before the first step of the epoch."""
        self.epoch = epoch

    def after_backward(self) -> None:  # noqa: B027
        """Update state, such as a queue, after the backward pass of all parts of a batch."""

    def state(self) -> dict[str, Any]:
        """Return tensors and numbers, besides the model, that a resumed run needs."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore the result of ``state``."""

    def modules_without_gradient(self) -> list[nn.Module]:
        """Return the encoders of the groups that get no gradient from the chosen loss."""
        model, loss = self.model, self.config.optim.loss
        if loss == "text":
            return [model.gc_encoder, model.gc_encoder_shadow]
        return [model.encoder_k] if loss == "location" and self.stage == "finetune" else []

    def parameter_groups(self, text: list[nn.Module], location: nn.Module) -> list[ParameterGroup]:
        """Return the location group and the text group over the given encoders."""
        optim = self.config.optim
        location_parameters = trainable(location, optim.freeze)
        text_parameters = [p for module in text for p in trainable(module, optim.freeze)]
        return [
            ParameterGroup("location", location_parameters, optim.location_lr, optim.location_weight_decay),
            ParameterGroup("text", text_parameters, optim.lr, optim.weight_decay),
        ]


def trainable(module: nn.Module, freeze: list[str]) -> list[nn.Parameter]:
    """Freeze parameters whose name contains a word of ``freeze``; return the parameters that take gradients."""
    for name, parameter in module.named_parameters():
        if any(word in name for word in freeze):
            parameter.requires_grad_(False)
    return [p for p in module.parameters() if p.requires_grad]


def location_query(query: Tensor, config: Config) -> tuple[Tensor, float]:
    """Return the query vectors and the temperature of the location loss.

    With the loss ``separate`` the location encoder learns from detached queries. A joint loss is small as soon as the
    text scores are good, so the location scores would stay at random level.
    """
    if config.optim.loss != "separate":
        return query, config.momentum.temperature
    return query.detach(), config.momentum.location_temperature or config.momentum.temperature


@torch.no_grad()
def vector_monitor(query: Tensor, positive: Tensor, tokens: int) -> Monitor:
    """Return the monitored values of both objectives. Shape: query, positive: (B, D) unit vectors."""
    return {
        "spread": embedding_spread(query),
        "alignment": alignment(query, positive),
        "uniformity": uniformity(query),
        "tokens": query.new_tensor(float(tokens)),
    }
