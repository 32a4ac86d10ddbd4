"""Score tiles: exact scores against exact sums, and float32 comparisons against all exact scores."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from m3gal_cli.evaluation import score_tiles as tiles
from m3gal_cli.evaluation.score_tiles import Block, BlockVectors, QueryBatch, exact_products, relative_error

CPU = torch.device("cpu")


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 3, 64, 97])
def test_exact_products_equal_exact_sums(dim: int) -> None:
    a, b = unit(300, dim, 1), unit(300, dim, 2)
    products = exact_products(torch.from_numpy(a), torch.from_numpy(b)).tolist()
    sums = [math.fsum(x * y for x, y in zip(*rows, strict=True)) for rows in zip(a.tolist(), b.tolist(), strict=True)]
    assert products == pytest.approx(sums, rel=0, abs=2e-16 * math.log2(dim + 1) + 1e-17)


def test_exact_products_do_not_depend_on_the_batch() -> None:
    a, b = (torch.from_numpy(unit(100, 97, seed)) for seed in (3, 4))
    whole = exact_products(a, b)
    assert torch.equal(whole, torch.cat([exact_products(a[i : i + 1], b[i : i + 1]) for i in range(100)]))
    assert torch.equal(whole, exact_products(a, b, batch=7))


@pytest.mark.parametrize("dim", [3, 64, 1024])
def test_the_error_of_float32_products_is_far_below_the_bound(dim: int) -> None:
    a, b = np.abs(unit(200, dim, 5)), np.abs(unit(2000, dim, 6))  # rounding errors of one sign add up
    products = (torch.from_numpy(a) @ torch.from_numpy(b).T).double().numpy()
    assert np.abs(products - a.astype(np.float64) @ b.T.astype(np.float64)).max() < relative_error(dim) / 3
    assert relative_error(dim) <= 1.01 * (dim + 4) * 2**-24


@pytest.mark.parametrize("n", [1, 7, 200])
def test_comparisons_on_cpu_and_device_equal_loops(n: int) -> None:
    draw = np.random.default_rng(n)
    scores = draw.integers(0, 9, (12, n)).astype(np.float32)
    chosen = np.flatnonzero(draw.random(12) < 0.7)
    low, high = np.full(len(chosen), 3, np.float32), np.full(len(chosen), 6, np.float32)
    high[::3] = np.inf
    pairs = [(i, j) for i, row in enumerate(chosen) for j in range(n) if low[i] <= scores[row, j] <= high[i]]
    above = [(scores[row] > high[i]).sum() for i, row in enumerate(chosen)]
    for compare in (tiles.compare_on_device, tiles.compare_on_cpu, partial(tiles.compare_on_cpu, slice_size=100)):
        query, column, counts = compare(torch.from_numpy(scores), chosen, low, high)
        assert sorted(zip(query.tolist(), column.tolist(), strict=True)) == pairs
        assert counts.tolist() == above


def block(texts: int, locations: int, rows: int, dim: int = 24) -> tuple[Block, np.ndarray, np.ndarray]:
    """Rows that share texts and locations, one text vector of which is NaN; and both vectors of each row."""
    draw = np.random.default_rng(rows)
    text, location = unit(texts, dim, 7), unit(locations, dim, 8)
    text[0, 3] = np.nan
    codes, places = draw.integers(0, texts, rows), np.sort(draw.integers(0, locations, rows))
    own = Block(np.arange(rows) + 1000, BlockVectors(text, codes, CPU), BlockVectors(location, places, CPU))
    return own, text[codes], location[places]


def all_products(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    pairs = [np.repeat(queries, len(rows), axis=0), np.tile(rows, (len(queries), 1))]
    out = exact_products(*(torch.from_numpy(x) for x in pairs)).numpy().reshape(len(queries), len(rows))
    return np.where(np.isnan(out), -np.inf, out)


@pytest.mark.parametrize(("texts", "locations"), [(50, 50), (4, 3)], ids=["mostly distinct", "mostly shared"])
def test_counts_and_pairs_left_to_exact_scores(texts: int, locations: int) -> None:
    own, text, location = block(texts, locations, 60)
    vectors = unit(9, 24, 9)
    queries = QueryBatch.of(np.arange(9), vectors, CPU)
    exact = {"text": all_products(vectors, text), "location": all_products(vectors, location)}
    exact["fused"] = exact["text"] + exact["location"]
    for tile in tiles.score_tiles(queries, own):
        scores = exact[tile.kind]
        assert (tile.exact(tuple(x.reshape(-1) for x in np.indices(scores.shape))) == scores.reshape(-1)).all()
        thresholds = scores[np.arange(9), [1, 5, 9, 13, 17, 21, 25, 29, 33]]
        thresholds[4] = np.inf
        above, (query, column) = tile.compare(np.where(thresholds == -np.inf, np.inf, thresholds))
        near = np.zeros(scores.shape, bool)
        near[query, column] = True
        for i, threshold in enumerate(thresholds):
            if np.isfinite(threshold):
                assert above[i] == (scores[i][~near[i]] > threshold).sum()
                assert near[i][scores[i] == threshold].all(), "float32 products never decide a tie"
                assert (np.abs(scores[i][near[i]] - threshold) < 4 * tile.margin[i]).all()
            else:
                assert above[i] == near[i].sum() == 0
        fifth = np.sort(scores, axis=1)[:, -5]
        query, column = tile.reaching(fifth)
        for i in range(9):
            assert set(np.argsort(scores[i])[-5:]) <= set(column[query == i])
        bound = tile.kth_score_bound(5, np.arange(9))
        assert (bound <= fifth).all()
        assert (bound >= fifth - 3 * tile.margin).all()
        assert (tile.kth_score_bound(61, np.arange(9)) == -np.inf).all()


def test_a_block_without_finite_vectors() -> None:
    vectors = BlockVectors(np.full((1, 4), np.nan, np.float32), np.zeros(3, np.int64), CPU)
    queries = QueryBatch.of(np.arange(2), unit(2, 4, 1), CPU)
    *_, tile = tiles.score_tiles(queries, Block(np.arange(3), vectors, vectors))
    above, pairs = tile.compare(np.zeros(2))
    assert above.tolist() == [0, 0]
    assert not len(pairs[0])
    assert not len(tile.reaching(np.full(2, -np.inf))[0])
