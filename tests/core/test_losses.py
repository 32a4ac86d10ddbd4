"""Losses against analytic values, torch's own cross entropy in float64, and brute force over lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from m3gal_cli.core.losses import (
    alignment,
    candidate_losses,
    positives_cross_entropy,
    pretrain_losses,
    queue_logits,
    score_logits,
    share_right,
    spread,
    uniformity,
)
from m3gal_cli.core.momentum_queue import KeyQueue

T = 0.07


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("size", [1, 7, 16384])
def test_all_similarities_equal_is_ln_of_k_plus_1(size: int) -> None:
    row = unit(1, 8)
    logits = queue_logits(row.expand(5, 8), row.expand(5, 8), row.T.expand(8, size), T)
    for loss in pretrain_losses(logits, logits):
        assert loss.item() == pytest.approx(math.log(size + 1), rel=1e-6)


@pytest.mark.parametrize("filled", [0, 1, 3, 9, 10])
def test_empty_slots_take_no_part(filled: int) -> None:
    row, queue = unit(1, 8), KeyQueue(10, 8)
    if filled:
        queue.enqueue(row.expand(filled, 8), row.expand(filled, 8))
    query = row.expand(4, 8).clone().requires_grad_(True)
    logits = queue_logits(query, row.expand(4, 8), queue.queue, T, queue.blocked(None))
    losses = pretrain_losses(logits, logits)
    for loss in losses:
        assert loss.item() == pytest.approx(math.log(filled + 1), abs=1e-6)
    losses.fused.backward()
    assert torch.isfinite(query.grad).all()
    if not filled:
        assert query.grad.abs().max() == 0, "nothing to learn where there is no negative"


def test_logits_against_loops() -> None:
    query, positive, queue = unit(3, 8), unit(3, 8, seed=1), unit(5, 8, seed=2).T
    blocked = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    found = queue_logits(query, positive, queue, T, blocked)
    for i in range(3):
        wanted = [sum(a * b for a, b in zip(query[i].tolist(), positive[i].tolist(), strict=True)) / T]
        for j in range(5):
            dot = sum(a * b for a, b in zip(query[i].tolist(), queue[:, j].tolist(), strict=True))
            wanted.append(-math.inf if blocked[i, j] else dot / T)
        assert found[i].tolist() == pytest.approx(wanted, abs=1e-5)
    assert score_logits(query, queue.T, T)[1].tolist() == pytest.approx(found[1, 1:].tolist(), abs=1e-5)


def test_logits_keep_float32_under_autocast() -> None:
    query, positive, queue = unit(3, 8), unit(3, 8, seed=1), unit(8, 5, seed=2)
    outside = queue_logits(query, positive, queue, T), score_logits(query, positive, T)
    with torch.autocast("cpu", torch.bfloat16):
        assert (query @ positive.T).dtype == torch.bfloat16
        inside = queue_logits(query, positive, queue, T), score_logits(query, positive, T)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def leaves(*shapes: Sequence[int]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(7)
    return [(5 * torch.randn(*s, generator=draw, dtype=torch.float64)).requires_grad_(True) for s in shapes]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["text", "location", "fused"])
def test_pretraining_is_cross_entropy_with_its_gradients(kind: str, masked: bool) -> None:
    text, location = leaves((6, 11), (6, 11))
    blocked = torch.rand(6, 11, generator=torch.Generator().manual_seed(1)) < 0.4
    blocked[:, 0] = False
    mask = blocked if masked else torch.zeros_like(blocked)
    logits = [x.masked_fill(mask, -math.inf) for x in (text, location)]
    own = getattr(pretrain_losses(*logits), kind)
    other = {"text": logits[0], "location": logits[1], "fused": logits[0] + logits[1]}[kind]
    wanted = F.cross_entropy(other, torch.zeros(6, dtype=torch.long))
    assert own.item() == pytest.approx(wanted.item(), rel=1e-9)  # softplus is linear from 20 on: 2e-9
    gradients = (torch.autograd.grad(x, (text, location), retain_graph=True, allow_unused=True) for x in (own, wanted))
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


@pytest.mark.parametrize("gap", [20.0, 40.0, 80.0])
def test_a_loss_near_zero_keeps_its_digits(gap: float) -> None:
    logits = torch.zeros(1, 9)
    logits[0, 0] = gap
    logits.requires_grad_(True)
    loss = pretrain_losses(logits, logits).text
    (gradient,) = torch.autograd.grad(loss, logits)
    wanted = math.log1p(8 * math.exp(-gap))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert gradient[0, 0].item() == pytest.approx(math.expm1(-wanted), rel=1e-5)
    assert gradient[0, 1:].tolist() == pytest.approx([-math.expm1(-wanted) / 8] * 8, rel=1e-5)
    positive = torch.arange(9).unsqueeze(0) == 0
    assert positives_cross_entropy(logits, positive, torch.ones(1, 9)).item() == pytest.approx(wanted, rel=1e-5)


# A query's candidates: columns of the batch's distinct passages, positives first; some stand twice, lists are ragged.
LISTS = [([0], [1, 2, 3]), ([4], [0]), ([2, 5], [6, 6, 6, 1]), ([3, 3], [0, 5]), ([1, 2, 6], []), ([6], [5, 4, 3, 2])]


def masks(lists: list[tuple[list[int], list[int]]], columns: int) -> tuple[Tensor, Tensor]:
    positive, count = torch.zeros(len(lists), columns, dtype=torch.bool), torch.zeros(len(lists), columns)
    for i, (right, wrong) in enumerate(lists):
        positive[i, right] = True
        for column in right + wrong:
            count[i, column] += 1
    return positive, count


def brute_force(table: Tensor, lists: list[tuple[list[int], list[int]]]) -> float:
    total = 0.0
    for row, (right, wrong) in zip(table.tolist(), lists, strict=True):
        share = sum(math.exp(row[c]) for c in right) / sum(math.exp(row[c]) for c in right + wrong)
        total -= math.log(share)
    return total / len(lists)


def test_candidate_losses_against_brute_force() -> None:
    text, location = (x.detach() for x in leaves((6, 7), (6, 7)))
    found = candidate_losses(text, location, *masks(LISTS, 7))
    for loss, table in zip(found, (text, location, text + location), strict=True):
        assert loss.item() == pytest.approx(brute_force(table, LISTS), rel=1e-9)
    weighted = candidate_losses(text, location, *masks(LISTS, 7), 0.25)
    assert weighted.fused.item() == pytest.approx(brute_force(text + 0.25 * location, LISTS), rel=1e-9)
    assert weighted.location == found.location
    assert weighted.separate.item() == pytest.approx(float(found.text + found.location))
    queue = pretrain_losses(text, location, 0.25)
    assert queue.fused.item() == pytest.approx(F.cross_entropy(text + 0.25 * location, torch.zeros(6).long()).item())


def test_candidates_outside_a_list_have_no_gradient_and_a_list_without_negatives_no_loss() -> None:
    (logits,) = leaves((6, 7))
    positive, count = masks(LISTS, 7)
    positives_cross_entropy(logits, positive, count).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[count == 0].abs().max() == 0
    assert logits.grad[4].abs().max() == 0
    assert (logits.grad[positive & (torch.arange(6) != 4).unsqueeze(1)] < 0).all()
    assert (logits.grad[~positive & (count > 0)] > 0).all()


def test_one_positive_a_row_is_cross_entropy_with_its_gradient() -> None:
    (logits,) = leaves((6, 7))
    target = torch.tensor([0, 3, 6, 2, 2, 5])
    positive = torch.arange(7) == target.unsqueeze(1)
    own = positives_cross_entropy(logits, positive, torch.ones(6, 7))
    wanted = F.cross_entropy(logits, target)
    assert own.item() == pytest.approx(wanted.item(), rel=1e-9)
    (a,), (b,) = (torch.autograd.grad(x, logits) for x in (own, wanted))
    torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_share_right_against_loops(seed: int) -> None:
    """A row is right if its best positive beats all that counts and is no positive; a tie is a miss."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randint(0, 4, (12, 5), generator=draw).float()
    positive = torch.rand(12, 5, generator=draw) < 0.3
    positive[:, 1] = True
    count = torch.randint(0, 3, (12, 5), generator=draw).float()
    right = 0
    for row, own, often in zip(logits.tolist(), positive.tolist(), count.tolist(), strict=True):
        best = max(v for v, p in zip(row, own, strict=True) if p)
        right += all(best > v for v, p, c in zip(row, own, often, strict=True) if not p and c)
    assert share_right(logits, positive, count).item() == pytest.approx(right / 12)
    first = sum(row[0] > max(row[1:]) for row in logits.tolist())
    assert share_right(logits).item() == pytest.approx(first / 12)


def test_share_right_where_nothing_is_left_to_beat() -> None:
    assert share_right(torch.tensor([[1.0, -math.inf]])).item() == 1.0
    logits, positive, count = torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]), torch.tensor([[1.0, 0.0]])
    assert share_right(logits, positive, count).item() == 1.0


def test_spread_alignment_uniformity_of_known_shapes() -> None:
    same = torch.tensor([[0.6, 0.8]]).repeat(5, 1)
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert spread(same).item() == pytest.approx(0.0, abs=1e-6)
    assert spread(cross).item() == pytest.approx(1.0)
    assert alignment(cross, cross).item() == 0.0
    assert alignment(cross, -cross).item() == pytest.approx(4.0)
    assert uniformity(same).item() == pytest.approx(0.0, abs=1e-5)
    assert uniformity(same[:1]).item() == 0.0
    pairs = [(a - b).square().sum().item() for i, a in enumerate(cross) for j, b in enumerate(cross) if i != j]
    wanted = math.log(sum(math.exp(-2 * d) for d in pairs) / len(pairs))
    assert uniformity(cross).item() == pytest.approx(wanted, abs=1e-5)
