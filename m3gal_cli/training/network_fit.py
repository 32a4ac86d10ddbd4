"""Fit of the reranker network on labelled queries that the encoders were not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.network import HIDDEN, NO_MATCH_HIDDEN, SCALE

EPOCHS, BATCH, RATE, DECAY = 16, 128, 3e-3, 1e-3
FURTHER_RATE = 1e-3  # from a prior; with 3e-3 a fit forgets styles and languages that its table does not have
FEATURE_DROPOUT = 0.1  # share of the features of a query that are 0 in a step: no feature decides alone
# Queries that are made from a POI table are closer to their POI than queries that people type. With weight 1, the fit
# takes too many of the latter for queries without POI.
NO_MATCH_WEIGHT = 0.5


@dataclass(frozen=True)
class Example:
    """The shortlist of one query. Without gold, the query is one for which no POI of the table is meant.

    Shape:
        features: (m, F). style: (Z,). gold: (m,).
    """

    features: Floats
    style: Floats
    gold: NDArray[np.bool_]


class Network(nn.Module):
    """The network of ``rerank.network`` in torch, for many queries at once."""

    def __init__(self, features: int, styles: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1, bias=False)
        self.features, self.style = nn.Linear(features, HIDDEN, bias=False), nn.Linear(styles, HIDDEN)
        self.hidden, self.out = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, 1)
        self.no_match = nn.Sequential(nn.Linear(styles, NO_MATCH_HIDDEN), nn.ReLU(), nn.Linear(NO_MATCH_HIDDEN, 1))
        nn.init.constant_(self.linear.weight, 0.2)

    def forward(self, features: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits. Shape: features: (B, m, F). style: (B, Z) -> (B, m), (B,)."""
        style = style * SCALE
        hidden = torch.relu(self.features(features * SCALE) + self.style(style)[:, None])
        hidden = torch.relu(self.hidden(hidden))
        return (self.linear(features) + self.out(hidden))[..., 0], self.no_match(style)[:, 0]


def fit_network(
    examples: Sequence[Example], seed: int, prior: Mapping[str, NDArray[np.float32]] | None = None
) -> dict[str, NDArray[np.float32]]:
    """Return the parameters that minimise the weighted mean of -log P(gold or "no match"), by AdamW.

    P is the softmax over the shortlist and "no match". Queries without gold have the weight ``NO_MATCH_WEIGHT``. With a
    prior, the parameters start from it.

    Args:
        examples: At least one.
        seed: Random seed of the initial parameters and of the order.
        prior: Parameters of another fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        data = _padded(examples)
        network = Network(data[0].shape[2], data[1].shape[1])
        if prior is not None:
            network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in prior.items()})
        rate, decay = (RATE, DECAY) if prior is None else (FURTHER_RATE, 0.0)
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        steps = EPOCHS * -(-len(examples) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(examples)).split(BATCH):
                loss = _loss(network, [part[batch] for part in data])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return {name: value.detach().numpy() for name, value in network.state_dict().items()}


def _padded(examples: Sequence[Example]) -> list[Tensor]:
    """Return features (B, m, F), styles (B, Z), gold (B, m), and which candidates exist (B, m)."""
    size = max(len(example.gold) for example in examples)
    features = np.zeros((len(examples), size, examples[0].features.shape[1]), np.float32)
    gold, exists = np.zeros((2, len(examples), size), bool)
    for i, example in enumerate(examples):
        count = len(example.gold)
        features[i, :count], gold[i, :count], exists[i, :count] = example.features, example.gold, True
    styles = np.stack([example.style for example in examples]).astype(np.float32)
    return [torch.from_numpy(array) for array in (features, styles, gold, exists)]


def _loss(network: Network, data: Sequence[Tensor]) -> Tensor:
    features, styles, gold, exists = data
    keep = (torch.rand(len(features), features.shape[2]) >= FEATURE_DROPOUT).float()
    described = styles.shape[1] - 2 * features.shape[2]
    styles = styles * torch.cat([torch.ones(len(styles), described), keep, keep], dim=1)
    features = features * keep[:, None]
    logits, no_match = network(features, styles)
    logits = logits.masked_fill(~exists, -1e9)
    total = torch.logsumexp(torch.cat([logits, no_match[:, None]], dim=1), dim=1)
    right = torch.logsumexp(logits.masked_fill(~gold, -1e9), dim=1)
    answerable = gold.any(dim=1)
    weights = torch.where(answerable, 1.0, NO_MATCH_WEIGHT)
    return (weights * (total - torch.where(answerable, right, no_match))).sum() / weights.sum()
