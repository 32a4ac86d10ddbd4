"""Rehearsal examples: a sample of the examples that the packaged reranker was fitted on.

A later fit sees them again, beside the queries of its own table, so that it forgets no language and no style. Only the
best candidates of each example are kept, in 8 bits, because the examples are part of the package.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.rerank.network import forward
from m3gal_cli.training.network_fit import Example

REHEARSAL_FILE = "reranker_examples.safetensors"  # in the packaged model
EXAMPLES, CANDIDATES = 600, 20
STEPS = 6.0  # per unit of a scaled feature, whose values are within ±21


def save_rehearsal(
    folder: Path, examples: Sequence[Example], arrays: Mapping[str, NDArray[np.float32]], seed: int
) -> None:
    """Write a random sample of examples. Raises OSError.

    Args:
        folder: The packaged model.
        examples: All examples.
        arrays: The fitted parameters: by their logits, the best candidates besides the gold are chosen.
        seed: Random seed of the sample.
    """
    from safetensors.numpy import save_file

    sample = random.Random(seed).sample(examples, min(EXAMPLES, len(examples)))
    kept = [_kept(example, arrays) for example in sample]
    features = [example.features[rows] for example, rows in zip(sample, kept, strict=True)]
    tensors = {
        "features": np.clip(np.round(np.concatenate(features) * STEPS), -127, 127).astype(np.int8),
        "gold": np.concatenate([example.gold[rows] for example, rows in zip(sample, kept, strict=True)]),
        "counts": np.array([len(rows) for rows in kept], np.int16),
        "style": np.stack([example.style for example in sample]).astype(np.float16),
    }
    save_file(tensors, folder / REHEARSAL_FILE)
    (folder / REHEARSAL_FILE).chmod(0o644)  # safetensors makes files readable only by their owner


def load_rehearsal(folder: Path) -> list[Example]:
    """Read the examples of the packaged model."""
    from safetensors.numpy import load_file

    tensors = load_file(folder / REHEARSAL_FILE)
    cuts = np.cumsum(tensors["counts"], dtype=np.int64)[:-1]
    features, gold = np.split(tensors["features"] / STEPS, cuts), np.split(tensors["gold"], cuts)
    return [Example(*parts) for parts in zip(features, tensors["style"].astype(np.float64), gold, strict=True)]


def _kept(example: Example, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.int64]:
    """Return the rows of the gold and of the best other candidates."""
    wide = {name: value.astype(np.float64) for name, value in arrays.items()}
    logits, _ = forward(wide, np.asarray(example.features, np.float64), np.asarray(example.style, np.float64))
    return np.sort(np.lexsort((-logits, ~example.gold))[:CANDIDATES])
