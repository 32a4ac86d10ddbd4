"""Encode texts and locations with PyTorch; each distinct one is encoded once, so that equal rows get equal vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.devices import resolve_precision
from m3gal_cli.core.token_batches import TokenTable
from m3gal_cli.core.tokenizer import TextTokenizer, max_positions
from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.encoders.text_batches import distinct_texts, encode_batches

# Padded tokens per batch. On a CPU a larger batch leaves the caches, on a GPU a smaller one leaves it idle.
BATCH_TOKENS = {"cpu": 2048, "mps": 16384, "cuda": 131072}
LOCATION_BATCH = 4096


class TorchEncoder:
    """Encoder of a checkpoint in PyTorch (see ``Encoder``).

    Args:
        checkpoint: Model and tokenizer. The model is moved to ``device`` and put into evaluation mode.
        device: Torch device, or its name.
        batch_tokens: Padded tokens per batch; None: a value that suits the device.
        precision: fp32, bf16 (autocast), or auto: bf16 where the device has instructions for it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        batch_tokens: int | None = None,
        precision: str = "fp32",
    ) -> None:
        self.model = checkpoint.model
        self.device = torch.device(device)
        self.batch_tokens = batch_tokens or BATCH_TOKENS.get(self.device.type, BATCH_TOKENS["cpu"])
        self.precision = resolve_precision(precision, self.device)
        positions = max_positions(self.model.text_config)
        self.tokenize = TextTokenizer(checkpoint.tokenizer, self.model.settings, positions)

    @property
    def dim(self) -> int:
        """Return the width D of the vectors."""
        return self.model.dim

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode query texts as unit vectors with the query encoder. Progress counts distinct texts."""
        rows, inverse = self._tokenize_distinct(texts, self.model.settings.query_prefix, "query")
        return self._encode_tokens(rows, self.model.embed_query, progress)[inverse]

    def encode_poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode POI texts as unit vectors with the key encoder. Progress counts distinct texts."""
        rows, inverse = self._tokenize_distinct(texts, self.model.settings.passage_prefix, "poi")
        return self._encode_tokens(rows, self.model.embed_poi_text, progress)[inverse]

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Encode locations in degrees with the key location encoder, as vectors of length ``location_weight``."""
        z = self.normalize_locations(lng, lat)
        distinct, inverse = np.unique(z, axis=0, return_inverse=True)
        out = np.empty((len(distinct), self.dim), np.float32)
        with self._inference():
            for start in range(0, len(distinct), LOCATION_BATCH):
                part = torch.from_numpy(distinct[start : start + LOCATION_BATCH]).to(self.device)
                out[start : start + LOCATION_BATCH] = self.model.embed_poi_location(part).cpu().numpy()
        if (weight := self.model.settings.location_weight) != 1.0:
            out *= np.float32(weight)
        return out[inverse.reshape(-1)]

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.floating]:
        """Return the z-scores that the location encoder reads. Shape: (N,), (N,) -> (N, 2), lng first."""
        return self.model.settings.normalizer(lng, lat)

    def _tokenize_distinct(self, texts: Sequence[str], prefix: str, kind: str) -> tuple[TokenTable, NDArray[np.int64]]:
        """Return the tokens of the distinct texts, and the row of each text; ``kind`` is ``query`` or ``poi``."""
        unique, inverse = distinct_texts(texts)
        return self.tokenize(unique, prefix), inverse

    def _encode_tokens(
        self, rows: TokenTable, embed: Callable[[Tensor, Tensor], Tensor], progress: Progress | None
    ) -> Vectors:
        def encode(chosen: NDArray[np.int64]) -> Vectors:
            ids, mask = rows.pad(chosen)
            vectors: Vectors = embed(ids.to(self.device), mask.to(self.device)).cpu().numpy()
            return vectors

        with self._inference(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return encode_batches(rows.lengths, self.dim, self.batch_tokens, encode, progress)

    def _inference(self) -> torch.inference_mode:
        self.model.to(self.device)
        self.model.eval()
        return torch.inference_mode()
