"""Losses against analytic values, torch's cross entropy in float64, and brute force over lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from m3gal_cli.core import losses

T = 0.07


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_logits_equal_those_of_loops() -> None:
    query, positive, queue = unit(3, 8), unit(3, 8, seed=1), unit(5, 8, seed=2).T
    blocked = torch.tensor([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    result = losses.queue_logits(query, positive, queue, T, blocked)
    for i in range(3):
        keys = [positive[i].tolist(), *queue.T.tolist()]
        dots = [sum(a * b for a, b in zip(query[i].tolist(), key, strict=True)) / T for key in keys]
        wanted = [dots[0], *(-math.inf if block else dot for dot, block in zip(dots[1:], blocked[i], strict=True))]
        assert result[i].tolist() == pytest.approx(wanted, abs=1e-5)
    assert losses.score_logits(query, queue.T, T)[1].tolist() == pytest.approx(result[1, 1:].tolist(), abs=1e-5)


def test_logits_are_float32_under_autocast() -> None:
    query, positive, queue = unit(3, 8), unit(3, 8, seed=1), unit(8, 5, seed=2)
    outside = losses.queue_logits(query, positive, queue, T), losses.score_logits(query, positive, T)
    with torch.autocast("cpu", torch.bfloat16):
        assert (query @ positive.T).dtype == torch.bfloat16
        inside = losses.queue_logits(query, positive, queue, T), losses.score_logits(query, positive, T)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def leaves(*shapes: Sequence[int]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(7)
    return [(5 * torch.randn(*s, generator=draw, dtype=torch.float64)).requires_grad_(True) for s in shapes]


@pytest.mark.parametrize("kind", ["text", "location", "fused"])
def test_pretraining_losses_are_cross_entropies_with_their_gradients(kind: str) -> None:
    text, location = leaves((6, 11), (6, 11))
    blocked = torch.rand(6, 11, generator=torch.Generator().manual_seed(1)) < 0.4
    blocked[1] = True  # a query without negatives
    blocked[:, 0] = blocked[0] = False
    logits = [x.masked_fill(blocked, -math.inf) for x in (text, location)]
    own = getattr(losses.pretrain_losses(*logits), kind)
    other = {"text": logits[0], "location": logits[1], "fused": logits[0] + logits[1]}[kind]
    wanted = F.cross_entropy(other, torch.zeros(6, dtype=torch.long))
    assert own.item() == pytest.approx(wanted.item(), rel=1e-9)  # softplus is linear above 20: an error of 2e-9
    gradients = (torch.autograd.grad(x, (text, location), retain_graph=True, allow_unused=True) for x in (own, wanted))
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


@pytest.mark.parametrize("gap", [20.0, 80.0])
def test_a_loss_near_zero_keeps_its_digits(gap: float) -> None:
    logits = torch.zeros(1, 9)
    logits[0, 0] = gap
    logits.requires_grad_(True)
    loss = losses.pretrain_losses(logits, logits).text
    (gradient,) = torch.autograd.grad(loss, logits)
    wanted = math.log1p(8 * math.exp(-gap))
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    assert gradient[0, 0].item() == pytest.approx(math.expm1(-wanted), rel=1e-5)
    assert gradient[0, 1:].tolist() == pytest.approx([-math.expm1(-wanted) / 8] * 8, rel=1e-5)
    positive = torch.arange(9).unsqueeze(0) == 0
    assert losses.positives_cross_entropy(logits, positive, torch.ones(1, 9)).item() == pytest.approx(wanted, rel=1e-5)


# Candidates per query: columns of positives and of negatives; some columns repeat, lists have different lengths.
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


def test_candidate_losses_equal_brute_force() -> None:
    text, location = (x.detach() for x in leaves((6, 7), (6, 7)))
    result = losses.candidate_losses(text, location, *masks(LISTS, 7))
    for loss, table in zip(result, (text, location, text + location), strict=True):
        assert loss.item() == pytest.approx(brute_force(table, LISTS), rel=1e-9)
    weighted = losses.candidate_losses(text, location, *masks(LISTS, 7), 0.25)
    assert weighted.fused.item() == pytest.approx(brute_force(text + 0.25 * location, LISTS), rel=1e-9)
    assert weighted.location == result.location
    assert weighted.separate.item() == pytest.approx(float(result.text + result.location))
    queue = losses.pretrain_losses(text, location, 0.25)
    assert queue.fused.item() == pytest.approx(F.cross_entropy(text + 0.25 * location, torch.zeros(6).long()).item())


def test_excluded_candidates_and_lists_without_negatives_have_no_gradient() -> None:
    (logits,) = leaves((6, 7))
    positive, count = masks(LISTS, 7)
    losses.positives_cross_entropy(logits, positive, count).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[count == 0].abs().max() == 0
    assert logits.grad[4].abs().max() == 0
    assert (logits.grad[positive & (torch.arange(6) != 4).unsqueeze(1)] < 0).all()
    assert (logits.grad[~positive & (count > 0)] > 0).all()


def test_accuracy_equals_that_of_loops() -> None:
    torch.manual_seed(0)
    logits, positive = torch.randint(0, 4, (60, 5)).float(), torch.rand(60, 5) < 0.3
    positive[:, 1] = True
    count = torch.randint(0, 3, (60, 5)).float()
    count[0] = positive[0].float()  # a row without negatives counts as correct
    right = 0
    for row, own, often in zip(logits.tolist(), positive.tolist(), count.tolist(), strict=True):
        best = max(v for v, p in zip(row, own, strict=True) if p)
        right += all(best > v for v, p, c in zip(row, own, often, strict=True) if not p and c)
    assert losses.contrastive_accuracy(logits, positive, count).item() == pytest.approx(right / 60)
    logits[0, 1:] = -math.inf
    first = sum(row[0] > max(row[1:]) for row in logits.tolist())
    assert losses.contrastive_accuracy(logits).item() == pytest.approx(first / 60)


def test_monitors_of_known_shapes() -> None:
    same = torch.tensor([[0.6, 0.8]]).repeat(5, 1)
    cross = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert losses.embedding_spread(same).item() == pytest.approx(0.0, abs=1e-6)
    assert losses.embedding_spread(cross).item() == pytest.approx(1.0)
    assert losses.alignment(cross, cross).item() == 0.0
    assert losses.alignment(cross, -cross).item() == pytest.approx(4.0)
    assert losses.uniformity(same).item() == pytest.approx(0.0, abs=1e-5)
    assert losses.uniformity(same[:1]).item() == 0.0
    wanted = math.log((2 * math.exp(-2 * 2) + math.exp(-2 * 4)) / 3)  # d² is 2, 2 and 4
    assert losses.uniformity(cross).item() == pytest.approx(wanted, abs=1e-5)
