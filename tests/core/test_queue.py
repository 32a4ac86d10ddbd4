"""The queue of keys against a first-in-first-out list, alone and under two processes."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.core.momentum_queue import KeyQueue

DIM = 3
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def batches(*sizes: int) -> list[Batch]:
    """Batches of text keys, location keys, place ids and z, all rows different."""
    draw = torch.Generator().manual_seed(sum(sizes))
    return [
        (
            torch.randn(n, DIM, generator=draw),
            torch.randn(n, DIM, generator=draw),
            torch.randint(0, 5, (n,), generator=draw),
            torch.randn(n, 2, generator=draw),
        )
        for n in sizes
    ]


def by_age(queue: KeyQueue) -> list[list[float]]:
    """What the queue holds, oldest first, one flat row a slot."""
    filled, pointer = int(queue.filled), int(queue.queue_ptr)
    order = list(range(filled)) if filled < queue.size else [(pointer + i) % queue.size for i in range(queue.size)]
    rows = torch.cat([queue.queue.T, queue.gc_queue.T, queue.place.unsqueeze(1), queue.z], dim=1)
    return rows[order].tolist()


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 10, 13, 100])
@pytest.mark.parametrize("sizes", [(4, 4, 4, 4, 4), (4, 1, 7, 2, 30, 3)], ids=["even", "ragged"])
def test_first_in_first_out(size: int, sizes: tuple[int, ...]) -> None:
    queue = KeyQueue(size, DIM)
    oracle: deque[list[float]] = deque(maxlen=size)
    count = 0
    for batch in batches(*sizes):
        queue.enqueue(*batch)
        keys, locations, place, z = batch
        oracle.extend(torch.cat([keys, locations, place.unsqueeze(1), z], dim=1).tolist())
        count += len(keys)
        assert by_age(queue) == list(oracle)
        assert int(queue.filled) == len(oracle)
        assert int(queue.queue_ptr) == count % size
    assert queue.queue.shape == queue.gc_queue.shape == (DIM, size)


@pytest.mark.parametrize("size", [2, 7, 9, 12])
def test_blocked_are_the_empty_slots_and_the_rows_own_place(size: int) -> None:
    queue, asked = KeyQueue(size, DIM), torch.tensor([0, 3, -1, 4, 99])
    for batch in batches(4, 4, 1):
        queue.enqueue(*batch)
        held, filled = queue.place.tolist(), int(queue.filled)
        wanted = [[slot >= filled or (p >= 0 and p == held[slot]) for slot in range(size)] for p in asked.tolist()]
        assert queue.blocked(asked).tolist() == wanted
        empty = queue.blocked(None)
        if filled < size:
            assert empty.tolist() == [[slot >= filled for slot in range(size)]]
        else:
            assert empty is None


def test_keys_without_place_are_nobodys_own() -> None:
    queue = KeyQueue(4, DIM)
    queue.enqueue(torch.ones(2, DIM), torch.ones(2, DIM))
    assert queue.place.tolist() == [-1] * 4
    assert queue.z.abs().sum() == 0
    assert queue.blocked(torch.tensor([-1, 0])).tolist() == [[False, False, True, True]] * 2


def test_the_published_start_is_unit_noise_in_every_slot() -> None:
    torch.manual_seed(1)
    queue = KeyQueue(6, DIM, fill="random")
    for name in ("queue", "gc_queue"):
        torch.testing.assert_close(getattr(queue, name).norm(dim=0), torch.ones(6))
    assert not torch.equal(queue.queue, queue.gc_queue)
    assert int(queue.filled) == 6
    assert queue.blocked(None) is None
    (batch,) = batches(4)
    noise = queue.queue[:, 4:].clone()
    queue.enqueue(*batch)
    assert torch.equal(queue.queue[:, :4], batch[0].T)
    assert torch.equal(queue.queue[:, 4:], noise)
    assert int(queue.filled) == 6


def test_keys_of_lower_precision_go_in() -> None:
    queue = KeyQueue(4, DIM)
    keys = torch.randn(2, DIM).bfloat16()
    queue.enqueue(keys, keys)
    assert queue.queue.dtype == torch.float32
    assert torch.equal(queue.queue[:, :2], keys.float().T)


WORKER = """
import sys
import torch
import torch.distributed as dist
from m3gal_cli.core.momentum_queue import KeyQueue

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
states = []
for size in (3, 7, 10, 64):
    queue = KeyQueue(size, 3)
    for batch in torch.load(f"{folder}/batches.pt"):
        queue.enqueue(*(half.chunk(2)[rank] for half in batch))
        states.append({k: v.clone() for k, v in queue.state_dict().items()})
torch.save(states, f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_equal_one_with_the_joined_batch(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    joined = batches(4, 6, 10, 2)
    torch.save(joined, tmp_path / "batches.pt")
    command = [sys.executable, str(tmp_path / "worker.py")]
    workers = [
        subprocess.Popen([*command, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True) for rank in (0, 1)
    ]
    for worker in workers:
        _, complaint = worker.communicate(timeout=120)
        assert worker.returncode == 0, complaint
    wanted: list[dict[str, Any]] = []
    for size in (3, 7, 10, 64):
        queue = KeyQueue(size, DIM)
        for batch in joined:
            queue.enqueue(*batch)
            wanted.append({k: v.clone() for k, v in queue.state_dict().items()})
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert len(found) == len(wanted)
        for own, one in zip(found, wanted, strict=True):
            assert set(own) == set(one)
            assert all(torch.equal(own[name], value) for name, value in one.items())
