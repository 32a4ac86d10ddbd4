"""Contrastive losses as pure functions. Cross entropy over similarities (InfoNCE; van den Oord et al. 2018)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

NOTHING = -1e4  # a logit that takes no part: -inf would make the gradient of a row without negatives nan


class Losses(NamedTuple):
    """Mean losses of a batch: from text logits, from location logits, from their sum (the published total_loss)."""

    text: Tensor
    location: Tensor
    fused: Tensor

    @property
    def separate(self) -> Tensor:
        """Text and location each for itself."""
        return self.text + self.location


def queue_logits(
    query: Tensor, positive: Tensor, queue: Tensor, temperature: float, blocked: Tensor | None = None
) -> Tensor:
    """[q.k, q.queue] / T, the positive in column 0.

    Shape:
        query, positive: (B, D). queue: (D, K). blocked: (B or 1, K) bool -> (B, 1 + K), -inf where blocked.
    """
    with torch.autocast(query.device.type, enabled=False):  # bf16 logits would round similarities to 2 digits
        own = (query * positive).sum(1, keepdim=True)
        others = query @ queue
        if blocked is not None:
            others = others.masked_fill(blocked, float("-inf"))
        return torch.cat([own, others], dim=1) / temperature


def score_logits(query: Tensor, passage: Tensor, temperature: float) -> Tensor:
    """q.d / T of every query and passage, in float32. Shape: (B, D), (M, D) -> (B, M)."""
    with torch.autocast(query.device.type, enabled=False):
        return query @ passage.T / temperature


def pretrain_losses(text_logits: Tensor, location_logits: Tensor, weight: float = 1.0) -> Losses:
    """Cross entropies with target 0; ``weight`` is that of the location in the fused score (published: 1).

    Shape:
        text_logits, location_logits: (B, 1 + K).
    """
    return Losses(*map(_first_is_right, (text_logits, location_logits, text_logits + weight * location_logits)))


def _first_is_right(logits: Tensor) -> Tensor:
    return _negatives_over_positives(torch.logsumexp(logits[:, 1:].clamp(min=NOTHING), dim=1) - logits[:, 0])


@torch.no_grad()
def share_right(logits: Tensor, positive: Tensor | None = None, count: Tensor | None = None) -> Tensor:
    """Share of rows whose best positive beats every negative (a tie is a miss); a 0-dim tensor.

    Shape:
        logits: (B, C); positive: (B, C) bool, or None where column 0 is it; count: (B, C), 0 for what takes no part.
    """
    if positive is None:
        return (logits[:, 0] > logits[:, 1:].amax(1)).float().mean()
    right = logits.masked_fill(~positive, float("-inf")).amax(1)
    out = positive if count is None else positive | (count == 0)
    return (right > logits.masked_fill(out, float("-inf")).amax(1)).float().mean()


@torch.no_grad()
def spread(vectors: Tensor) -> Tensor:
    """How far unit vectors fill their sphere: root of the summed variance of their coordinates; a 0-dim tensor.

    1 where their mean is the origin, 0 where all are the same (a collapsed encoder). Shape: (B, D).
    """
    return vectors.var(0, unbiased=False).sum().sqrt()


@torch.no_grad()
def alignment(query: Tensor, positive: Tensor) -> Tensor:
    """Mean squared distance of a query and its positive, 0 to 4 (paper: see ``uniformity``). Shape: (B, D) both."""
    return (query - positive).square().sum(1).mean()


@torch.no_grad()
def uniformity(vectors: Tensor) -> Tensor:
    """log of the mean of exp(-2 d²) over pairs of different rows: 0 where all are the same, near -4 where far apart.

    Wang & Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity".

    Shape: (B, D) unit vectors -> 0-dim; of one row, 0.
    """
    count = vectors.shape[0]
    if count < 2:
        return vectors.new_zeros(())
    closeness = torch.exp(-4.0 * (1.0 - vectors @ vectors.T))  # d² = 2 - 2 cos
    return ((closeness.sum() - closeness.diagonal().sum()) / (count * (count - 1))).log()


def positives_cross_entropy(logits: Tensor, positive: Tensor, count: Tensor) -> Tensor:
    """-log of the share of the softmax that falls on any positive; with one positive a row, cross entropy.

    Shape:
        logits: (B, C). positive: (B, C) bool. count: (B, C), how often a candidate stands in
            the softmax; 0 takes no part.
    """
    weighted = logits + count.log()
    right = torch.logsumexp(weighted.masked_fill(~positive, NOTHING).clamp(min=NOTHING), dim=1)
    wrong = torch.logsumexp(weighted.masked_fill(positive, NOTHING).clamp(min=NOTHING), dim=1)
    return _negatives_over_positives(wrong - right)


def _negatives_over_positives(log_odds: Tensor) -> Tensor:
    """Mean of log(1 + negatives / positives).

    Equal to cross entropy, but a loss near 0 keeps its digits: log_softmax would take the difference of two large
    numbers, and its gradient 1 - p the difference of two numbers near 1.
    """
    return F.softplus(log_odds).mean()


def candidate_losses(
    text_logits: Tensor, location_logits: Tensor, positive: Tensor, count: Tensor, weight: float = 1.0
) -> Losses:
    """Losses over the candidates of each query (see ``positives_cross_entropy``, ``pretrain_losses``)."""
    return Losses(
        positives_cross_entropy(text_logits, positive, count),
        positives_cross_entropy(location_logits, positive, count),
        positives_cross_entropy(text_logits + weight * location_logits, positive, count),
    )
