"""Models of a few thousand weights, and an embedder that needs none, to try core, retrieval and evaluation on."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import build_text_model
from m3gal_cli.core.tiny_encoder import small_config, train_tokenizer
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.rerank.features import FEATURES
from m3gal_cli.rerank.linear import RerankerWeights

TEXTS = ["north gate, harbour mall", "harbour street 3", "莫干山路东村43幢", "Castle Hill Library", "北门 停车场"]


def toy_checkpoint(hidden: int = 16, seed: int = 0, **settings: Any) -> Checkpoint:
    """A random model whose query and key encoders differ, as after training, and a tokenizer of ``TEXTS``."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, 200)
    model = M3gal(build_text_model(small_config(len(tokenizer), hidden, 1, 2, 0.1)), ModelSettings(**settings))
    with torch.no_grad():
        for parameter in (*model.encoder_k.parameters(), *model.gc_encoder_shadow.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Checkpoint(model.eval(), tokenizer)


class ToyEncoder(TorchEncoder):
    """Vectors of small whole numbers, drawn by the text or place: scores are exact, and many are equal."""

    def __init__(self, width: int = 3, reach: int = 1) -> None:
        self.width, self.reach = width, reach
        self.device = torch.device("cpu")

    @property
    def dim(self) -> int:
        return self.width

    def normalised(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
        return np.stack([np.asarray(lng, float), np.asarray(lat, float)], axis=-1)

    def vector(self, what: str) -> NDArray[np.float32]:
        draw = np.random.default_rng(zlib.crc32(what.encode()))
        return draw.integers(-self.reach, self.reach + 1, self.width).astype(np.float32)

    def queries(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return np.stack([self.vector(f"query {t}") for t in texts])

    def poi_texts(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return np.stack([self.vector(f"poi {t}") for t in texts])

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        pairs = zip(np.asarray(lng, float).tolist(), np.asarray(lat, float).tolist(), strict=True)
        return np.stack([self.vector(f"place {pair}") for pair in pairs])


class CrowdedEncoder(ToyEncoder):
    """Vectors of numbers that float32 cannot add exactly, in crowds of which the members differ in the last digits."""

    def __init__(self, width: int = 40, crowds: int = 4) -> None:
        super().__init__(width)
        self.crowds = crowds

    def vector(self, what: str) -> NDArray[np.float32]:
        seed = zlib.crc32(what.encode())
        found = np.random.default_rng(seed).normal(size=self.width)
        if not what.startswith("query"):
            found = np.random.default_rng(seed % self.crowds).normal(size=self.width) + 1e-6 * found
        return (found / np.linalg.norm(found)).astype(np.float32)


def weights_of(queries: int = 30, **named: float) -> RerankerWeights:
    """Weights of the hybrid score, 0 for evidence that is not named."""
    assert set(named) <= set(FEATURES)
    return RerankerWeights(tuple(named.get(name, 0.0) for name in FEATURES), queries)
