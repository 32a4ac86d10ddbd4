"""Chunks against all ways to split, tables against lists, and encoding in chunks against encoding in one batch."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch

from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.token_batches import TokenTable, length_chunks
from m3gal_cli.core.tokenizer import TextTokenizer
from tests.helpers.toy_models import TEXTS, toy_checkpoint

CPU = torch.device("cpu")


def lowest_cost(lengths: list[int], cost: int) -> int:
    """Return the fewest padded tokens plus cost per chunk, over all ways to split the rows in order of length."""
    rows = sorted(lengths)
    best = None
    for count in range(len(rows)):
        for cuts in combinations(range(1, len(rows)), count):
            bounds = [0, *cuts, len(rows)]
            total = sum((b - a) * rows[b - 1] + cost for a, b in pairwise(bounds))
            best = total if best is None else min(best, total)
    assert best is not None
    return best


@pytest.mark.parametrize("cost", [0, 5, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_split_costs_less(cost: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, random.integers(3, 40), random.integers(1, 11))
    chunks = length_chunks(lengths, cost)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(len(lengths))), "every row once"
    assert sum(len(c) * lengths[c].max() + cost for c in chunks) == lowest_cost(lengths.tolist(), cost)
    tops = [(lengths[c].min(), lengths[c].max()) for c in chunks]
    assert all(high <= low for (_, high), (low, _) in pairwise(tops)), "shortest first"
    assert all((np.diff(c) > 0).all() for c in chunks), "in the order given"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_a_chunk_has_at_most_the_limit_of_rows(limit: int) -> None:
    lengths = np.array([3, 3, 3, 9, 9, 3, 3, 20, 3, 3])
    chunks = length_chunks(lengths, 4, limit)
    assert sorted(np.concatenate(chunks).tolist()) == list(range(10))
    assert max(map(len, chunks)) == min(limit, 7)
    assert max(map(len, chunks)) - min(len(c) for c in chunks if lengths[c].max() == 3) <= 1, "equal parts"


def test_a_table_behaves_like_a_list_and_pads_rows_to_the_longest() -> None:
    rows = [[5, 6, 7], [8], [], [9, 10]]
    table = TokenTable(rows, 0)
    assert len(table) == 4
    assert [row.tolist() for row in table] == rows
    assert [table[i].tolist() for i in (-1, -4)] == [[9, 10], [5, 6, 7]]
    assert table.lengths.tolist() == [3, 1, 0, 2]
    for i in (4, -5):
        with pytest.raises(IndexError):
            table[i]
    assert len(TokenTable([], 0)) == 0
    ids, mask = table.pad([3, 1, 3])
    assert ids.tolist() == [[9, 10], [8, 0], [9, 10]]
    assert mask.tolist() == [[1, 1], [1, 0], [1, 1]]
    assert ids.dtype == mask.dtype == torch.int64


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("limit", [None, 2])
def test_chunks_give_the_vectors_and_gradients_of_one_batch(limit: int | None, recompute: bool) -> None:
    checkpoint = toy_checkpoint()
    encoder = checkpoint.model.encoder_q.eval()
    table = TextTokenizer(checkpoint.tokenizer, ModelSettings(), 512)(TEXTS)
    rows = np.array([3, 0, 2, 1, 3])
    batch = table.batch(rows, CPU, limit)
    assert batch.tokens == sum(len(table[i]) for i in rows)
    assert sum(len(ids) for ids, _ in batch.chunks) == len(rows)
    weight = torch.randn(len(rows), checkpoint.model.dim, generator=torch.Generator().manual_seed(0))
    result = encoder.encode(batch, recompute)
    (result * weight).sum().backward()
    gradients = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    wanted = encoder(*table.pad(rows))
    (wanted * weight).sum().backward()
    torch.testing.assert_close(result, wanted, atol=1e-6, rtol=0)
    assert gradients
    for name, p in encoder.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, atol=1e-5, rtol=1e-5)


def test_recomputing_repeats_the_dropout() -> None:
    checkpoint = toy_checkpoint()
    encoder = checkpoint.model.encoder_q.train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    batch = TextTokenizer(checkpoint.tokenizer, ModelSettings(), 512)(TEXTS).batch(range(len(TEXTS)), CPU, 2)
    assert len(batch.chunks) > 1
    seen = []
    for recompute in (False, True):
        torch.manual_seed(3)
        encoder.zero_grad()
        result = encoder.encode(batch, recompute)
        (result[:, 0].sum() + result[0].square()[3]).backward()
        seen.append((result.detach(), {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None}))
    assert torch.equal(seen[0][0], seen[1][0])
    for name, gradient in seen[0][1].items():
        torch.testing.assert_close(seen[1][1][name], gradient, atol=1e-6, rtol=1e-5)
    torch.manual_seed(4)
    assert not torch.equal(encoder.encode(batch).detach(), seen[0][0]), "there is dropout"
