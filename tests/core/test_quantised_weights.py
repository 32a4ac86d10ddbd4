"""Weights in 4 bits with a low-rank correction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from m3gal_cli.core.quantised_weights import (
    BLOCK,
    QuantisedMatrix,
    compress,
    dequantise,
    expand,
    low_rank,
    quantise,
    read_tensors,
    write_tensors,
)

N, K = 6, 3 * BLOCK


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def on_grid(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.float16], NDArray[np.float32]]:
    """Return codes 0 .. 15, scales and the matrix that they mean; every block has the code 0, as in Q4_0."""
    codes = rng.integers(0, 16, (N, K // BLOCK, BLOCK))
    np.put_along_axis(codes, rng.integers(0, BLOCK, (N, K // BLOCK, 1)), 0, axis=2)
    scales = rng.normal(0, 0.01, (N, K // BLOCK)).astype(np.float16)
    matrix = np.zeros((N, K), np.float32)
    for row in range(N):
        for column in range(K):
            block, within = divmod(column, BLOCK)
            matrix[row, column] = (codes[row, block, within] - 8) * np.float32(scales[row, block])
    return codes.reshape(N, K), scales, matrix


def test_a_matrix_on_the_grid_gives_its_own_codes_and_scales(rng: np.random.Generator) -> None:
    codes, scales, matrix = on_grid(rng)
    packed, own_scales = quantise(matrix)
    assert np.array_equal(own_scales, scales)
    assert np.array_equal(packed & 15, codes[:, 0::2])
    assert np.array_equal(packed >> 4, codes[:, 1::2])
    assert np.array_equal(dequantise(packed, own_scales), matrix)
    assert np.array_equal(quantise(matrix.astype(np.float16))[0], packed), "the rounding to float16 changes no code"


def test_other_matrices_are_within_half_a_step_of_their_codes_except_at_the_cut_end(rng: np.random.Generator) -> None:
    matrix = rng.normal(size=(N, K)).astype(np.float32)
    matrix[0, :BLOCK] = 0.0
    codes, scales = quantise(matrix)
    steps = np.repeat(np.abs(scales.astype(np.float32)), BLOCK, axis=1)
    error = np.abs(dequantise(codes, scales) - matrix)
    largest_code = np.repeat(scales.astype(np.float32), BLOCK, axis=1) * 7
    cut = np.abs(matrix) > np.abs(largest_code)  # the code 8 of the other sign does not exist
    assert (error[~cut] <= 0.501 * steps[~cut]).all()
    assert (error <= 1.01 * steps).all()
    assert not dequantise(codes, scales)[0, :BLOCK].any()


def test_a_correction_is_as_near_as_the_best_one_of_its_rank(rng: np.random.Generator) -> None:
    matrix = rng.normal(size=(40, 12)) @ rng.normal(size=(12, 64)) * 1e-3
    values = np.linalg.svd(matrix, compute_uv=False)
    for rank in (1, 4, 12):
        left, gains, right = low_rank(matrix, rank)
        error = np.linalg.norm(matrix - (left * gains) @ right)
        best = np.sqrt((values[rank:] ** 2).sum())  # Eckart and Young 1936
        assert best - 1e-12 <= error <= best + 0.01 * np.linalg.norm(matrix)
    assert low_rank(matrix, 0)[0].shape == (40, 0)


def test_trained_weights_are_their_base_plus_a_correction(rng: np.random.Generator) -> None:
    _, _, base = on_grid(rng)
    change = np.outer(rng.normal(size=N), rng.normal(size=K)).astype(np.float32) * 1e-3
    before = {"a.weight": base, "b.weight": base, "c.bias": np.zeros(5, np.float32)}
    bias = rng.normal(size=5).astype(np.float32)
    tensors = compress({"a.weight": base + change, "b.weight": base, "c.bias": bias}, before, rank=1)
    assert np.array_equal(tensors["a.weight.codes"], quantise(base)[0])
    assert tensors["b.weight.left"].shape == (N, 0)
    weights = expand(tensors)
    assert set(weights) == set(before)
    assert np.array_equal(weights["b.weight"], base)
    assert np.array_equal(weights["c.bias"], bias.astype(np.float16))
    assert np.abs(weights["a.weight"] - base - change).max() < 0.01 * np.abs(change).max()


def test_embeddings_of_positions_and_types_stay_float16(rng: np.random.Generator) -> None:
    names = ("embeddings.position_embeddings.weight", "embeddings.token_type_embeddings.weight")
    tables = {name: rng.normal(size=(4, BLOCK)).astype(np.float32) for name in names}
    assert set(compress(tables, tables, 2)) == set(names)


def test_a_file_gives_its_tensors_back(rng: np.random.Generator, tmp_path: Path) -> None:
    tensors = compress({"a": on_grid(rng)[2]}, {"a": np.zeros((N, K), np.float32)}, 2)
    write_tensors(tmp_path / "w.safetensors", tensors)
    read = read_tensors(tmp_path / "w.safetensors")
    assert {name: (v.dtype, v.tolist()) for name, v in read.items()} == {
        name: (v.dtype, v.tolist()) for name, v in tensors.items()
    }
    read.pop("a.scales")
    with pytest.raises(KeyError, match=r"a\.scales"):
        expand(read)


def test_a_matrix_without_a_correction_is_its_dequantised_codes(rng: np.random.Generator) -> None:
    codes, scales = quantise(rng.normal(size=(N, K)))
    matrix = QuantisedMatrix(codes, scales, *low_rank(np.zeros((N, K)), 0))
    assert np.array_equal(matrix.values(), dequantise(codes, scales))
