"""Models of a few thousand weights, and encoders that draw vectors from the text without any weights."""

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
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.network import PARAMETER_SHAPES
from m3gal_cli.rerank.weights import RerankerWeights

TEXTS = ["north gate, harbour mall", "harbour street 3", "莫干山路东村43幢", "Castle Hill Library", "北门 停车场"]
LONG_TEXTS = [*TEXTS, "harbour street 莫干山路东村 north gate mall " * 5, "x", "Äpfel, 3!"]
# Model settings that together have every pooling, prefix, truncation, location encoder, and both values of append_sep.
MODEL_SETTINGS: list[dict[str, Any]] = [
    {"pooling": "mean", "query_prefix": "query: ", "passage_prefix": "passage: "},
    {"pooling": "mean", "append_sep": False, "max_length": 7, "passage_prefix": "门 "},
    {"pooling": "cls", "append_sep": False, "query_prefix": "问：", "location_encoder": "fourier"},
    {"pooling": "cls", "max_length": 6},
    {"pooling": "pooler", "append_sep": False, "location_encoder": "fourier"},
    {"pooling": "pooler", "max_length": 4, "query_prefix": "q "},
]


def toy_checkpoint(hidden: int = 16, seed: int = 0, **settings: Any) -> Checkpoint:
    """Return a random model whose query and key encoders differ, as after training, with a tokenizer of ``TEXTS``."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(TEXTS, 200)
    model = M3gal(build_text_model(small_config(len(tokenizer), hidden, 1, 2, 0.1)), ModelSettings(**settings))
    with torch.no_grad():
        for parameter in (*model.encoder_k.parameters(), *model.gc_encoder_shadow.parameters()):
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Checkpoint(model.eval(), tokenizer)


class ToyEncoder(TorchEncoder):
    """Encoder of small integer vectors, drawn by the text or location: scores are exact, and many are equal."""

    def __init__(self, width: int = 3, reach: int = 1) -> None:
        self.width, self.reach = width, reach
        self.device = torch.device("cpu")

    @property
    def dim(self) -> int:
        return self.width

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float64]:
        return np.stack([np.asarray(lng, float), np.asarray(lat, float)], axis=-1)

    def vector(self, key: str) -> NDArray[np.float32]:
        draw = np.random.default_rng(zlib.crc32(key.encode()))
        return draw.integers(-self.reach, self.reach + 1, self.width).astype(np.float32)

    def encode_queries(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return np.stack([self.vector(f"query {t}") for t in texts])

    def encode_poi_texts(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return np.stack([self.vector(f"poi {t}") for t in texts])

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        pairs = zip(np.asarray(lng, float).tolist(), np.asarray(lat, float).tolist(), strict=True)
        return np.stack([self.vector(f"place {pair}") for pair in pairs])


class ClusteredEncoder(ToyEncoder):
    """Encoder of unit vectors in four clusters, whose members differ in the last digits, so that float32 sums round."""

    def __init__(self) -> None:
        super().__init__(width=40)

    def vector(self, key: str) -> NDArray[np.float32]:
        seed = zlib.crc32(key.encode())
        vector = np.random.default_rng(seed).normal(size=self.width)
        if not key.startswith("query"):
            vector = np.random.default_rng(seed % 4).normal(size=self.width) + 1e-6 * vector
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def reranker_weights(queries: int = 30, **by_name: float) -> RerankerWeights:
    """Return reranker weights whose logits are weighted sums of features; "no match" has the logit -30."""
    assert by_name.keys() <= set(FEATURE_NAMES)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in PARAMETER_SHAPES.items()}
    arrays["linear.weight"][0] = [by_name.get(name, 0.0) for name in FEATURE_NAMES]
    arrays["no_match.2.bias"][0] = -30.0
    return RerankerWeights(arrays, queries)


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Return whether two modules have equal state dicts."""
    a, b = one.state_dict(), other.state_dict()
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def encode_both_sides(checkpoint: Checkpoint, texts: list[str]) -> dict[str, NDArray[np.float32]]:
    """Return the vectors of texts as queries and as POIs, by the folder of the encoder."""
    encoder = TorchEncoder(checkpoint)
    return {"query_encoder": encoder.encode_queries(texts), "poi_encoder": encoder.encode_poi_texts(texts)}
