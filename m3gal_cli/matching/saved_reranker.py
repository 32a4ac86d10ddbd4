"""The reranker weights of a checkpoint, or those of the package in their place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.rerank.weights import RerankerWeights, earlier_weights


def load_weights(checkpoint: Path, log: Callable[[str], None]) -> RerankerWeights | None:
    """Read the weights of a checkpoint; None if it has none.

    Weights of an earlier version cannot be used: after a message, those of the package take their place.

    Raises:
        InputError: The file is damaged.
    """
    own, earlier = RerankerWeights.load(checkpoint), earlier_weights(checkpoint)
    if own is not None or earlier is None:
        return own
    log(f"{earlier}: weights of an earlier version; the packaged reranker is used until the next training")
    return packaged_weights()


def packaged_weights() -> RerankerWeights:
    """Read the weights of the package."""
    weights = RerankerWeights.load(PACKAGED_MODEL)
    assert weights is not None, "the package has a reranker"
    return weights
