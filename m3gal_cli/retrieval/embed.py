"""Texts and places to vectors in bulk. Each distinct one is encoded once, so that equal rows get equal vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.text import TextTokenizer, max_positions
from m3gal_cli.core.tokens import TokenTable

Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Embedder:
    """A checkpoint as three functions from rows to unit vectors of shape (N, D), float32.

    Args:
        checkpoint: model (put into evaluation mode and on ``device``) and tokenizer.
        batch_size: texts encoded at once; batches hold texts of like length.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device | str = "cpu", batch_size: int = 128) -> None:
        self.model = checkpoint.model
        self.device = torch.device(device)
        self.batch_size = batch_size
        settings = self.model.settings
        config = self.model.encoder_q.text_encoder.config
        self.tokenize = TextTokenizer(checkpoint.tokenizer, settings, max_positions(config))

    @property
    def dim(self) -> int:
        return self.model.dim

    def queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query texts to vectors, by the query encoder."""
        return self._texts(texts, self.model.settings.query_prefix, self.model.embed_query, progress)

    def poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """POI texts to vectors, by the key encoder."""
        return self._texts(texts, self.model.settings.passage_prefix, self.model.embed_poi_text, progress)

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Places in degrees to vectors, by the key location encoder."""
        z = self.model.settings.normalizer(lng, lat)
        if not len(z):
            return np.zeros((0, self.dim), np.float32)
        distinct, inverse = np.unique(z, axis=0, return_inverse=True)
        out = np.empty((len(distinct), self.dim), np.float32)
        with self._inference():
            for start in range(0, len(distinct), 4096):
                part = torch.from_numpy(distinct[start : start + 4096]).to(self.device)
                out[start : start + 4096] = self.model.embed_poi_location(part).cpu().numpy()
        return out[inverse.reshape(-1)]

    def _texts(
        self,
        texts: Sequence[str],
        prefix: str,
        embed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        progress: Progress | None,
    ) -> Vectors:
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        rows, inverse = self._distinct(texts, prefix, embed.__name__)
        order = np.argsort(rows.lengths, kind="stable")
        out = np.empty((len(rows), self.dim), np.float32)
        with self._inference():
            for start in range(0, len(order), self.batch_size):
                chosen = order[start : start + self.batch_size]
                ids, mask = rows.pad(chosen)
                out[chosen] = embed(ids.to(self.device), mask.to(self.device)).cpu().numpy()
                if progress is not None:
                    progress(min(start + self.batch_size, len(order)), len(order))
        return out[inverse]

    def _distinct(self, texts: Sequence[str], prefix: str, kind: str) -> tuple[TokenTable, NDArray[np.int64]]:
        """Tokens of the distinct texts, and every text's number among them; ``kind`` names the encoder's method."""
        index: dict[str, int] = {}
        inverse = np.array([index.setdefault(t, len(index)) for t in texts], np.int64)
        return self.tokenize(list(index), prefix), inverse

    def _inference(self) -> torch.inference_mode:
        self.model.to(self.device)
        self.model.eval()
        return torch.inference_mode()
