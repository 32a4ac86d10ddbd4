"""Validation between epochs: what did not change since the last one is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from m3gal_cli.config.schema import Config
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.token_batches import TokenTable
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.encoder import Progress, TorchEncoder, Vectors
from m3gal_cli.evaluation.rerank import evaluate_rerank
from m3gal_cli.evaluation.result import Evaluation

Distinct = tuple[TokenTable, NDArray[np.int64]]


class LastingEmbedder(TorchEncoder):
    """An embedder of the same rows again and again: tokens are kept, and vectors as long as their encoder stands still.

    Still stands a frozen encoder, or the location encoder while text alone is trained. Only the last rows of each kind
    are kept.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        batch_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        super().__init__(checkpoint, device, batch_tokens, precision)
        self._tokens: dict[str, tuple[list[str], Distinct]] = {}
        self._vectors: dict[str, tuple[Any, Any, Vectors]] = {}

    def queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        own = super().queries
        return self._kept("query", self.model.encoder_q, list(texts), lambda: own(texts, progress))

    def poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        own = super().poi_texts
        return self._kept("poi", self.model.encoder_k, list(texts), lambda: own(texts, progress))

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        own, places = super().locations, [np.asarray(x).tolist() for x in (lng, lat)]
        return self._kept("location", self.model.gc_encoder_shadow, places, lambda: own(lng, lat))

    def _kept(self, kind: str, module: nn.Module, rows: Any, make: Callable[[], Vectors]) -> Vectors:
        weights = fingerprint(module)
        known = self._vectors.get(kind)
        if known is None or known[0] != weights or known[1] != rows:
            known = (weights, rows, make())
            self._vectors[kind] = known
        return known[2]

    def _distinct(self, texts: Sequence[str], prefix: str, kind: str) -> Distinct:
        known = self._tokens.get(kind)
        if known is None or known[0] != list(texts):
            known = (list(texts), super()._distinct(texts, prefix, kind))
            self._tokens[kind] = known
        return known[1]


@torch.no_grad()
def fingerprint(module: nn.Module) -> list[int]:
    """Sums over the bits of all parameters and over those of every other number, which any training step changes.

    torch's own count of writes (``_version``) misses those of the fused optimisers.
    """
    sums = []
    for p in module.parameters():
        bits = p.detach().contiguous().view(torch.uint8 if p.element_size() < 4 else torch.int32).reshape(-1)
        sums += [bits.sum(dtype=torch.int64), bits[::2].sum(dtype=torch.int64)]
    found: list[int] = torch.stack(sums).tolist()
    return found


def validation_of(
    checkpoint: Checkpoint, records: Sequence[Record], config: Config, device: torch.device
) -> Callable[[], Evaluation]:
    """A function that gives the candidate metrics of the model as it then stands.

    The model comes back in training mode and the random state untouched.
    """
    encoder = LastingEmbedder(checkpoint, device, config.eval.batch_tokens, config.eval.precision)

    def validate() -> Evaluation:
        found = evaluate_rerank(records, encoder, config.data.max_chars, seed=config.seed)
        checkpoint.model.train()
        return found

    return validate
