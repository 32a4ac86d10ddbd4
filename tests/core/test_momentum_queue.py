"""The moving average against its formula, and the queue of keys against a list."""

from __future__ import annotations

from collections import deque

import pytest
import torch
from torch import nn

from m3gal_cli.core.momentum_queue import KeyQueue, location_momentum, update_ema

DIM = 3
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batches(*sizes: int) -> list[Batch]:
    """Return batches of text keys, location keys, place ids and z; all rows differ."""
    torch.manual_seed(sum(sizes))
    return [(torch.randn(n, DIM), torch.randn(n, DIM), torch.randint(0, 5, (n,)), torch.randn(n, 2)) for n in sizes]


def by_age(queue: KeyQueue) -> list[list[float]]:
    """Return the filled slots, oldest first, as one flat row each."""
    filled, pointer = int(queue.filled), int(queue.queue_ptr)
    order = list(range(filled)) if filled < queue.size else [(pointer + i) % queue.size for i in range(queue.size)]
    rows = torch.cat([queue.queue.T, queue.gc_queue.T, queue.place.unsqueeze(1), queue.z], dim=1)
    return rows[order].tolist()


def layers(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


@pytest.mark.parametrize("m", [0.0, 0.5, 0.999, 1.0])
def test_every_parameter_is_averaged_by_the_formula(m: float) -> None:
    """The distance to an online encoder that does not change shrinks by m with every update; m 0 and 1 are exact."""
    key, online = layers(1), layers(2)
    before, target = ([p.detach().double() for p in module.parameters()] for module in (key, online))
    for updates in (1, 2, 3):
        update_ema(key, online, m)
        for new, old, other in zip(key.parameters(), before, target, strict=True):
            wanted = other + m**updates * (old - other)
            tolerance = 0 if m in (0.0, 1.0) else 1e-6
            torch.testing.assert_close(new.detach().double(), wanted, atol=tolerance, rtol=0)
    assert all(torch.equal(p.double(), other) for p, other in zip(online.parameters(), target, strict=True))


@pytest.mark.parametrize(("target", "increment"), [(0.999, 0.01), (0.9, 0.4), (0.9, 0.0)])
def test_the_location_momentum_is_the_published_ramp(target: float, increment: float) -> None:
    m = 0.0
    for epoch in range(120):
        m = min(target, m + increment)
        assert location_momentum(epoch, target, increment) == pytest.approx(m, abs=1e-12)


@pytest.mark.parametrize("size", [1, 3, 8, 13, 100])
def test_the_queue_is_first_in_first_out(size: int) -> None:
    queue = KeyQueue(size, DIM)
    oracle: deque[list[float]] = deque(maxlen=size)
    count = 0
    for batch in batches(4, 4, 1, 7, 2, 30, 3):
        queue.enqueue(*batch)
        keys, locations, place, z = batch
        oracle.extend(torch.cat([keys, locations, place.unsqueeze(1), z], dim=1).tolist())
        count += len(keys)
        assert by_age(queue) == list(oracle)
        assert int(queue.filled) == len(oracle)
        assert int(queue.queue_ptr) == count % size
    assert queue.queue.shape == queue.gc_queue.shape == (DIM, size)


@pytest.mark.parametrize("size", [2, 9, 12])
def test_empty_slots_and_keys_of_the_same_place_are_blocked(size: int) -> None:
    queue, asked = KeyQueue(size, DIM), torch.tensor([0, 3, -1, 4, 99])
    for batch in batches(4, 4, 1):
        queue.enqueue(*batch)
        held, filled = queue.place.tolist(), int(queue.filled)
        wanted = [[slot >= filled or (p >= 0 and p == held[slot]) for slot in range(size)] for p in asked.tolist()]
        assert queue.blocked(asked).tolist() == wanted
        empty = queue.blocked(None)
        assert (empty is None) == (filled == size)
        assert empty is None or empty.tolist() == [[slot >= filled for slot in range(size)]]


def test_keys_of_unknown_place_are_not_blocked_and_are_stored_as_float32() -> None:
    queue, keys = KeyQueue(4, DIM), torch.randn(2, DIM).bfloat16()
    queue.enqueue(keys, keys)
    assert torch.equal(queue.queue[:, :2], keys.float().T)
    assert queue.place.tolist() == [-1] * 4
    assert queue.z.abs().sum() == 0
    assert queue.blocked(torch.tensor([-1, 0])).tolist() == [[False, False, True, True]] * 2


def test_the_published_queue_starts_with_unit_noise_in_all_slots() -> None:
    torch.manual_seed(1)
    queue = KeyQueue(6, DIM, fill="random")
    for name in ("queue", "gc_queue"):
        torch.testing.assert_close(getattr(queue, name).norm(dim=0), torch.ones(6))
    assert not torch.equal(queue.queue, queue.gc_queue)
    assert int(queue.filled) == 6
    assert queue.blocked(None) is None
