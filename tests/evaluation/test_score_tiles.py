"""Scores in tiles: exact ones against exact sums, what may be told from float32 products against all exact scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from m3gal_cli.evaluation import score_tiles as module
from m3gal_cli.evaluation.score_tiles import Block, Queries, Side, exact_products, relative_error, tiles

CPU = torch.device("cpu")


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 64, 97, 384])
def test_exact_products_against_exact_sums(dim: int) -> None:
    a, b = unit(300, dim, 1), unit(300, dim, 2)
    found = exact_products(torch.from_numpy(a), torch.from_numpy(b)).tolist()
    wanted = [math.fsum(x * y for x, y in zip(*rows, strict=True)) for rows in zip(a.tolist(), b.tolist(), strict=True)]
    assert found == pytest.approx(wanted, rel=0, abs=2e-16 * math.log2(dim + 1) + 1e-17)


def test_exact_products_do_not_depend_on_what_is_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (torch.from_numpy(unit(100, 97, seed)) for seed in (3, 4))
    whole = exact_products(a, b)
    single = torch.cat([exact_products(a[i : i + 1], b[i : i + 1]) for i in range(100)])
    monkeypatch.setattr(module, "EXACT_AT_ONCE", 7)
    assert torch.equal(whole, single)
    assert torch.equal(whole, exact_products(a, b))


@pytest.mark.parametrize("dim", [3, 64, 384, 1024])
def test_the_error_of_float32_products_is_far_below_the_one_foreseen(dim: int) -> None:
    a, b = np.abs(unit(200, dim, 5)), np.abs(unit(2000, dim, 6))  # of one sign: roundings add up
    found = (torch.from_numpy(a) @ torch.from_numpy(b).T).double().numpy()
    assert np.abs(found - a.astype(np.float64) @ b.T.astype(np.float64)).max() < relative_error(dim) / 3
    assert relative_error(dim) <= 1.01 * (dim + 4) * 2**-24


def block(texts: int, places: int, rows: int, dim: int = 24) -> tuple[Block, np.ndarray, np.ndarray]:
    """Rows that share texts and places, one text of which has no vector; and each row's own two vectors."""
    draw = np.random.default_rng(rows)
    text, place = unit(texts, dim, 7), unit(places, dim, 8)
    text[0, 3] = np.nan
    codes, spots = draw.integers(0, texts, rows), np.sort(draw.integers(0, places, rows))
    own = Block(np.arange(rows) + 1000, Side(text, codes, CPU), Side(place, spots, CPU))
    return own, text[codes], place[spots]


def by_rows(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    pairs = [np.repeat(queries, len(rows), axis=0), np.tile(rows, (len(queries), 1))]
    out = exact_products(*(torch.from_numpy(x) for x in pairs)).numpy().reshape(len(queries), len(rows))
    return np.where(np.isnan(out), -np.inf, out)


@pytest.fixture(params=["cpu", "device"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of the CPU, and that of a GPU on a CPU."""
    if request.param == "device":
        monkeypatch.setattr(module, "_band_on_cpu", module._band_on_device)
    else:
        monkeypatch.setattr(module, "SLICE_SCORES", 100)


@pytest.mark.parametrize(("texts", "places"), [(50, 50), (4, 3)], ids=["mostly distinct", "mostly shared"])
def test_what_is_counted_and_what_is_left_to_exact_scores(where: None, texts: int, places: int) -> None:
    own, text, place = block(texts, places, 60)
    vectors = unit(9, 24, 9)
    queries = Queries.of(np.arange(9), vectors, CPU)
    exact = {"text": by_rows(vectors, text), "location": by_rows(vectors, place)}
    exact["fused"] = exact["text"] + exact["location"]
    for tile in tiles(queries, own):
        wanted = exact[tile.kind]
        every = tuple(x.reshape(-1) for x in np.indices(wanted.shape))
        assert (tile.exact(every) == wanted.reshape(-1)).all()
        centre = wanted[np.arange(9), [1, 5, 9, 13, 17, 21, 25, 29, 33]]
        centre[4] = np.inf
        above, (query, column) = tile.band(np.where(centre == -np.inf, np.inf, centre))
        near = np.zeros(wanted.shape, bool)
        near[query, column] = True
        for i, least in enumerate(centre):
            if np.isfinite(least):
                assert above[i] == (wanted[i][~near[i]] > least).sum()
                assert near[i][wanted[i] == least].all(), "a tie is never told from float32 products"
                assert (np.abs(wanted[i][near[i]] - least) < 4 * tile.margin[i]).all()
            else:
                assert above[i] == near[i].sum() == 0
        query, column = tile.reaching(np.sort(wanted, axis=1)[:, -5])
        for i in range(9):
            assert set(np.argsort(wanted[i])[-5:]) <= set(column[query == i])
        fifth = np.sort(wanted, axis=1)[:, -5]
        assert (tile.reached_by(5, np.arange(9)) <= fifth).all()
        assert (tile.reached_by(5, np.arange(9)) >= fifth - 3 * tile.margin).all()
        assert (tile.reached_by(61, np.arange(9)) == -np.inf).all()


def test_a_block_without_any_score(where: None) -> None:
    nothing = Side(np.full((1, 4), np.nan, np.float32), np.zeros(3, np.int64), CPU)
    queries = Queries.of(np.arange(2), unit(2, 4, 1), CPU)
    *_, tile = tiles(queries, Block(np.arange(3), nothing, nothing))
    above, pairs = tile.band(np.zeros(2))
    assert above.tolist() == [0, 0]
    assert not len(pairs[0])
    assert not len(tile.reaching(np.full(2, -np.inf))[0])
