"""Reference implementation of the published model in plain torch, written from its description without m3gal_cli."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.nn.functional import linear, normalize, relu
from transformers import BertConfig, BertModel, BertTokenizer

Vectors = NDArray[np.float32]


class PublishedModel:
    """Encode texts and locations with a published checkpoint file and its text encoder."""

    def __init__(self, checkpoint: Path, text_encoder: Path) -> None:
        self.state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        self.tokenizer = BertTokenizer.from_pretrained(text_encoder)
        self.config = BertConfig.from_pretrained(text_encoder)
        self.encoders = {side: self._encoder(side) for side in ("encoder_q", "encoder_k")}

    def _encoder(self, side: str) -> BertModel:
        encoder = BertModel(self.config).eval()
        prefix = f"{side}.text_encoder."
        weights = {k.removeprefix(prefix): v for k, v in self.state.items() if k.startswith(prefix)}
        encoder.load_state_dict({k: v for k, v in weights.items() if not k.endswith("position_ids")})
        return encoder

    def texts(self, side: str, texts: list[str]) -> Vectors:
        """Encode texts one at a time: [CLS] and the tokens without [SEP], pooler output. Shape: -> (N, D)."""
        rows = []
        with torch.no_grad():
            for text in texts:
                tokens = ["[CLS]", *self.tokenizer.tokenize(text)]
                ids = torch.tensor([self.tokenizer.convert_tokens_to_ids(tokens)])
                rows.append(normalize(self.encoders[side](input_ids=ids).pooler_output, dim=1)[0])
        return torch.stack(rows).numpy()

    def places(self, lng: list[float], lat: list[float]) -> Vectors:
        """Encode locations with the key location encoder and the published z-score. Shape: (N,), (N,) -> (N, D)."""
        z_lng = (np.array(lng) - 120.22537389613467) / 0.13344521724616895
        z_lat = (np.array(lat) - 30.265117058856283) / 0.10241391371600085
        names = sorted(n for n in self.state if n.startswith("gc_encoder_shadow.") and n.endswith(".weight"))
        names.sort(key=lambda name: [int(part) for part in name.split(".") if part.isdigit()])
        x = torch.from_numpy(np.stack([z_lng, z_lat], axis=1).astype(np.float32))
        for i, name in enumerate(names):
            x = linear(x, self.state[name], self.state[name.replace(".weight", ".bias")])
            x = relu(x) if i < len(names) - 1 else x
        out: Vectors = normalize(x, dim=1).numpy()
        return out


def read_pois(path: Path) -> list[Any]:
    """Return the columns address, lng and lat."""
    table = pd.read_csv(path, float_precision="round_trip")
    return [table[name].tolist() for name in ("address", "lng", "lat")]


def rank_bounds(scores: NDArray[np.float32], gold: list[int]) -> tuple[int, int]:
    """Return the ranks of the best gold if it wins all ties, and if it loses all ties."""
    best, others = max(scores[i] for i in gold), [s for i, s in enumerate(scores) if i not in gold]
    return 1 + sum(s > best for s in others), 1 + sum(s >= best for s in others)


def metrics(ranks: list[int]) -> dict[str, float]:
    """Return recall@k and MRR@k for k = 1, 3, 5."""
    out = {f"recall@{k}": sum(r <= k for r in ranks) / len(ranks) for k in (1, 3, 5)}
    return out | {f"mrr@{k}": sum(1 / r for r in ranks if r <= k) / len(ranks) for k in (1, 3, 5)}
