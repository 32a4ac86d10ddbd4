"""Validation between epochs. Vectors and tokens that have not changed since the last validation are reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.token_batches import TokenTable
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.evaluation.rerank import evaluate_rerank
from m3gal_cli.evaluation.result import Evaluation

T = TypeVar("T")


class CachedEncoder(TorchEncoder):
    """An encoder that encodes the same rows again and again during a training.

    It keeps the tokens of the last rows of each kind, and their vectors until the weights of their encoder change.
    Weights stay the same if an encoder is frozen, or if the loss does not reach it.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._cache: dict[str, tuple[Any, Any]] = {}

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode query texts as unit vectors. Shape: (N, D)."""
        key = (weights_checksum(self.model.encoder_q), list(texts))
        return self._cached("query", key, partial(super().encode_queries, texts, progress))

    def encode_poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode POI texts as unit vectors. Shape: (N, D)."""
        key = (weights_checksum(self.model.encoder_k), list(texts))
        return self._cached("poi", key, partial(super().encode_poi_texts, texts, progress))

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Encode POI locations in degrees. Shape: (N,), (N,) -> (N, D)."""
        key = (weights_checksum(self.model.gc_encoder_shadow), [np.asarray(x).tolist() for x in (lng, lat)])
        return self._cached("location", key, partial(super().encode_locations, lng, lat))

    def _tokenize_distinct(self, texts: Sequence[str], prefix: str, kind: str) -> tuple[TokenTable, NDArray[np.int64]]:
        return self._cached(f"{kind} tokens", list(texts), partial(super()._tokenize_distinct, texts, prefix, kind))

    def _cached(self, kind: str, key: Any, compute: Callable[[], T]) -> T:
        known = self._cache.get(kind)
        if known is None or known[0] != key:
            known = self._cache[kind] = (key, compute())
        return known[1]


@torch.no_grad()
def weights_checksum(module: nn.Module) -> list[int]:
    """Return sums over the bits of all parameters, which every training step changes.

    The version counter of torch (``Tensor._version``) is no substitute: the fused optimisers do not increase it.
    """
    sums = []
    for p in module.parameters():
        bits = p.detach().contiguous().view(torch.uint8 if p.element_size() < 4 else torch.int32).reshape(-1)
        sums += [bits.sum(dtype=torch.int64), bits[::2].sum(dtype=torch.int64)]
    checksum: list[int] = torch.stack(sums).tolist()
    return checksum


def make_validation(
    checkpoint: Checkpoint, records: Sequence[Record], config: Config, device: torch.device
) -> Callable[[], Evaluation]:
    """Return a function that evaluates the current model on candidate records.

    The function leaves the model in training mode and does not change the random state.
    """
    encoder = CachedEncoder(checkpoint, device, config.eval.batch_tokens, config.eval.precision)

    def validate() -> Evaluation:
        result = evaluate_rerank(records, encoder, config.data.max_chars, seed=config.seed)
        checkpoint.model.train()
        return result

    return validate
