"""Store matrices in 4 bits per weight plus a low-rank correction. Imports no torch.

A matrix (N, K) is stored as four tensors:
    NAME.codes   (N, K/2) uint8: the codes 0 .. 15 of columns 2j (low bits) and 2j + 1 (high bits); 8 means 0
    NAME.scales  (N, K/32) float16: one scale per block of 32 columns
    NAME.left    (N, r) int8, NAME.gains (r,) float32 and
    NAME.right   (r, K) int8: the correction is (left * gains) @ right; r = 0: none
The matrix is (code - 8) * scale + (left * gains) @ right. All other tensors are stored as float16 by their own names.

The blocks are those of Q4_0 in GGML: the value of the largest magnitude of a block is -8 times its scale. A matrix of
this kind is therefore stored without loss. Training moves it by little, and the correction takes up the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # columns with one scale
ZERO = 8  # code of 0
FIELDS = ("codes", "scales", "left", "gains", "right")
LARGEST = 127  # of the factors of a correction
Floats = NDArray[np.float32]


class QuantisedMatrix(NamedTuple):
    """A matrix (N, K) as described above."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float16]
    left: NDArray[np.int8]
    gains: NDArray[np.float32]
    right: NDArray[np.int8]

    def values(self) -> Floats:
        """Return the matrix. Shape: -> (N, K)."""
        base = dequantise(self.codes, self.scales)
        if self.left.shape[1]:
            base += (self.left * self.gains) @ self.right.astype(np.float32)
        return base


def quantise(matrix: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Quantise a matrix to 4 bits. Shape: (N, K), K a multiple of ``BLOCK`` -> codes (N, K/2), scales (N, K/32)."""
    blocks = matrix.astype(np.float32).reshape(len(matrix), -1, BLOCK)
    at = np.abs(blocks).argmax(axis=2)[..., None]
    scales = (np.take_along_axis(blocks, at, axis=2)[..., 0] / -ZERO).astype(np.float16)
    steps = scales.astype(np.float32)[..., None]
    codes = np.rint(np.divide(blocks, steps, out=np.zeros_like(blocks), where=steps != 0)) + ZERO
    whole = codes.clip(0, 15).astype(np.uint8).reshape(matrix.shape)
    packed: NDArray[np.uint8] = whole[:, 0::2] + np.uint8(16) * whole[:, 1::2]
    return packed, scales


def dequantise(codes: NDArray[np.uint8], scales: NDArray[Any]) -> Floats:
    """Return the values (code - 8) * scale. Shape: (N, K/2), (N, K/32) -> (N, K)."""
    values = np.empty((len(codes), 2 * codes.shape[1]), np.int8)
    np.bitwise_and(codes, 15, out=values[:, 0::2], casting="unsafe")
    np.right_shift(codes, 4, out=values[:, 1::2], casting="unsafe")
    values -= ZERO
    out = values.astype(np.float32).reshape(*scales.shape, BLOCK)
    out *= scales.astype(np.float32)[..., None]
    return out.reshape(values.shape)


def low_rank(matrix: NDArray[Any], rank: int) -> tuple[NDArray[np.int8], NDArray[np.float32], NDArray[np.int8]]:
    """Return an approximation (left * gains) @ right by the first terms of the singular value decomposition.

    The singular vectors are rounded to int8, each with a scale of its own; the gains are the singular values times both
    scales. The rounding changes the correction by less than one percent, much less than the terms that are left out.

    Shape:
        (N, K) -> left (N, rank), gains (rank,), right (rank, K).
    """
    if rank == 0:
        n, k = matrix.shape
        return np.empty((n, 0), np.int8), np.empty(0, np.float32), np.empty((0, k), np.int8)
    u, s, v = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    u, s, v = u[:, :rank], s[:rank], v[:rank]
    one, other = (np.abs(part).max(axis=axis) / LARGEST for part, axis in ((u, 0), (v, 1)))
    left, right = np.rint(u / one).astype(np.int8), np.rint(v / other[:, None]).astype(np.int8)
    return left, (s * one * other).astype(np.float32), right


def compress(weights: Mapping[str, NDArray[Any]], base: Mapping[str, NDArray[Any]], rank: int) -> dict[str, Any]:
    """Return the tensors that store trained weights.

    Args:
        weights: The trained weights by name.
        base: The weights before training, by the same names; their matrices are stored in 4 bits.
        rank: Rank of the corrections. A matrix that equals its 4-bit form gets a correction of rank 0.
    """
    out: dict[str, Any] = {}
    for name, value in weights.items():
        if not _has_blocks(name, value):
            out[name] = np.ascontiguousarray(value, np.float16)
            continue
        codes, scales = quantise(base[name])
        # Rounding of the base to float16 is below the resolution of the correction.
        is_base = np.array_equal(value.astype(np.float16), base[name].astype(np.float16))
        difference = value.astype(np.float64) - dequantise(codes, scales)
        matrix = QuantisedMatrix(codes, scales, *low_rank(difference, 0 if is_base else rank))
        out |= {f"{name}.{field}": np.ascontiguousarray(part) for field, part in matrix._asdict().items()}
    return out


def _has_blocks(name: str, value: NDArray[Any]) -> bool:
    """Return whether a tensor is stored in 4 bits: matrices of layers and words, but not positions and types."""
    return value.ndim == 2 and value.shape[1] % BLOCK == 0 and "position" not in name and "token_type" not in name


def matrices_of(tensors: Mapping[str, NDArray[Any]]) -> dict[str, QuantisedMatrix]:
    """Return the matrices among stored tensors by name. Raises KeyError if a part of one is missing."""
    names = [name.removesuffix(".codes") for name in tensors if name.endswith(".codes")]
    return {name: QuantisedMatrix(*(tensors[f"{name}.{field}"] for field in FIELDS)) for name in names}


def others_of(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Return the tensors that are no matrices in 4 bits, as float32."""
    parts = tuple(f".{field}" for field in FIELDS)
    return {name: value.astype(np.float32) for name, value in tensors.items() if not name.endswith(parts)}


def expand(tensors: Mapping[str, NDArray[Any]]) -> dict[str, Floats]:
    """Return all weights that ``compress`` stored, as float32. Raises KeyError."""
    return others_of(tensors) | {name: matrix.values() for name, matrix in matrices_of(tensors).items()}


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a safetensors file as numpy arrays. Raises OSError or SafetensorError."""
    from safetensors.numpy import load_file

    tensors: dict[str, NDArray[Any]] = load_file(path)
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write tensors to a safetensors file. Raises OSError or SafetensorError."""
    from safetensors.numpy import save_file

    save_file(dict(tensors), path)
