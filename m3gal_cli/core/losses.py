"""Contrastive losses and monitors as pure functions.

All losses are cross entropies over similarities divided by a temperature (InfoNCE; van den Oord et al. 2018,
"Representation Learning with Contrastive Predictive Coding").
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e4  # logit of an excluded candidate; -inf would give nan gradients in rows without negatives


class Losses(NamedTuple):
    """Mean losses of text logits, location logits, and their weighted sum (published ``total_loss``)."""

    text: Tensor
    location: Tensor
    fused: Tensor

    @property
    def separate(self) -> Tensor:
        """Return the sum of the text loss and the location loss."""
        return self.text + self.location


def queue_logits(
    query: Tensor, positive: Tensor, queue: Tensor, temperature: float, blocked: Tensor | None = None
) -> Tensor:
    """Return [q·k, q·queue] / T in float32 (He et al. 2020, MoCo, algorithm 1); bf16 would keep only two digits.

    Shape:
        query, positive: (B, D). queue: (D, K). blocked: (B or 1, K) bool -> (B, 1 + K), the positive in column 0, -inf
        where blocked.
    """
    with torch.autocast(query.device.type, enabled=False):
        own = (query * positive).sum(1, keepdim=True)
        others = query @ queue
        if blocked is not None:
            others = others.masked_fill(blocked, float("-inf"))
        return torch.cat([own, others], dim=1) / temperature


def score_logits(query: Tensor, passage: Tensor, temperature: float) -> Tensor:
    """Return q·d / T of all pairs, in float32. Shape: (B, D), (M, D) -> (B, M)."""
    with torch.autocast(query.device.type, enabled=False):
        return query @ passage.T / temperature


def pretrain_losses(text_logits: Tensor, location_logits: Tensor, weight: float = 1.0) -> Losses:
    """Return the cross entropies with target 0; the fused logits are text + weight * location (published weight: 1).

    Shape:
        text_logits, location_logits: (B, 1 + K), the positive in column 0.
    """
    kinds = (text_logits, location_logits, text_logits + weight * location_logits)
    return Losses(*(_mean_softplus(torch.logsumexp(x[:, 1:].clamp(min=MASKED), dim=1) - x[:, 0]) for x in kinds))


def candidate_losses(
    text_logits: Tensor, location_logits: Tensor, positive: Tensor, count: Tensor, weight: float = 1.0
) -> Losses:
    """Return the ``positives_cross_entropy`` of three kinds of logits; the fused ones are text + weight * location."""
    kinds = (text_logits, location_logits, text_logits + weight * location_logits)
    return Losses(*(positives_cross_entropy(logits, positive, count) for logits in kinds))


def positives_cross_entropy(logits: Tensor, positive: Tensor, count: Tensor) -> Tensor:
    """Return the mean over rows of -log(softmax mass of all positives); for one positive per row, cross entropy.

    Shape:
        logits: (B, C). positive: (B, C) bool. count: (B, C), multiplicity of a candidate in the softmax; 0: excluded.
    """
    weighted = logits + count.log()
    right = torch.logsumexp(weighted.masked_fill(~positive, MASKED).clamp(min=MASKED), dim=1)
    wrong = torch.logsumexp(weighted.masked_fill(positive, MASKED).clamp(min=MASKED), dim=1)
    return _mean_softplus(wrong - right)


def _mean_softplus(log_odds: Tensor) -> Tensor:
    """Return the mean of log(1 + n / p), from log(n / p) of the softmax masses n and p of negatives and positives.

    This is cross entropy without the loss of digits near 0: log_softmax subtracts two large numbers, and its gradient
    1 - p subtracts two numbers near 1.
    """
    return F.softplus(log_odds).mean()


@torch.no_grad()
def contrastive_accuracy(logits: Tensor, positive: Tensor | None = None, count: Tensor | None = None) -> Tensor:
    """Return the share of rows whose best positive scores above all negatives; a tie counts as a miss.

    Shape:
        logits: (B, C). positive: (B, C) bool; None: column 0. count: (B, C), 0: excluded. -> scalar.
    """
    if positive is None:
        return (logits[:, 0] > logits[:, 1:].amax(1)).float().mean()
    best = logits.masked_fill(~positive, float("-inf")).amax(1)
    excluded = positive if count is None else positive | (count == 0)
    return (best > logits.masked_fill(excluded, float("-inf")).amax(1)).float().mean()


@torch.no_grad()
def embedding_spread(vectors: Tensor) -> Tensor:
    """Return the square root of the summed variances of the D coordinates of unit vectors. Shape: (B, D) -> scalar.

    1: the mean vector is the origin. 0: all vectors are equal, the encoder has collapsed.
    """
    return vectors.var(0, unbiased=False).sum().sqrt()


@torch.no_grad()
def alignment(query: Tensor, positive: Tensor) -> Tensor:
    """Return the mean squared distance of unit vectors and their positives, 0 to 4. Shape: (B, D), (B, D) -> scalar.

    Source: see ``uniformity``.
    """
    return (query - positive).square().sum(1).mean()


@torch.no_grad()
def uniformity(vectors: Tensor) -> Tensor:
    """Return the log of the mean of exp(-2 d²) over the distances d of different rows: 0 if all are equal, at least -8.

    Wang & Isola 2020, "Understanding Contrastive Representation Learning through Alignment and Uniformity on the
    Hypersphere". For vectors spread evenly over the sphere the value is near -4.

    Shape:
        (B, D) unit vectors -> scalar; 0 for a single row.
    """
    count = vectors.shape[0]
    if count < 2:
        return vectors.new_zeros(())
    closeness = torch.exp(-4.0 * (1.0 - vectors @ vectors.T))  # d² = 2 - 2 cos
    return ((closeness.sum() - closeness.diagonal().sum()) / (count * (count - 1))).log()
