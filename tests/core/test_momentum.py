"""The moving average and its ramp, against the formula written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from m3gal_cli.core.momentum_queue import momentum_at, update_ema


def layers(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize("m", [0.0, 0.01, 0.5, 0.999, 1.0])
def test_every_parameter_moves_by_the_formula(m: float) -> None:
    key, online = layers(1), layers(2)
    before = [p.detach().double() for p in key.parameters()]
    towards = [p.detach().clone() for p in online.parameters()]
    update_ema(key, online, m)
    for new, old, other in zip(key.parameters(), before, towards, strict=True):
        torch.testing.assert_close(new.detach().double(), m * old + (1 - m) * other.double(), atol=1e-7, rtol=0)
    for parameter, other in zip(online.parameters(), towards, strict=True):
        assert torch.equal(parameter, other), "the online encoder stays"


def test_the_ends_are_exact() -> None:
    key, online = layers(1), layers(2)
    before = [p.detach().clone() for p in key.parameters()]
    update_ema(key, online, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(key.parameters(), before, strict=True))
    update_ema(key, online, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(key.parameters(), online.parameters(), strict=True))


def test_many_updates_close_in_geometrically() -> None:
    """With a resting online encoder the distance after n updates is m^n of the first."""
    key, online, m, n = layers(1).double(), layers(2).double(), 0.9, 25
    first = [a.detach() - b.detach() for a, b in zip(key.parameters(), online.parameters(), strict=True)]
    for _ in range(n):
        update_ema(key, online, m)
    for a, b, gap in zip(key.parameters(), online.parameters(), first, strict=True):
        torch.testing.assert_close((a - b).detach(), m**n * gap, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("target", "increment", "epochs"), [(0.999, 0.01, 120), (0.5, 0.5, 4), (0.9, 0.4, 5), (0.9, 0.0, 3), (0.3, 1.0, 2)]
)
def test_the_ramp_is_the_published_loop(target: float, increment: float, epochs: int) -> None:
    m = 0.0
    for epoch in range(epochs):
        m = min(target, m + increment)
        assert momentum_at(epoch, target, increment) == pytest.approx(m, abs=1e-12)
