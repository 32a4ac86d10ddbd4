"""The M3GAL bi-encoder: query text encoder, key (POI) text encoder, location encoder and key location encoder.

The encoders have their published names (encoder_q, encoder_k, gc_encoder, gc_encoder_shadow), which are the prefixes of
the weights in published checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m3gal_cli.core.location_encoder import build_location_encoder
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.text_encoder import TextEncoder
from m3gal_cli.core.token_batches import TokenBatch

# The encoders that inference uses, and the prefix of their weights. Only training uses the fourth, gc_encoder.
PARTS = {"query": "encoder_q.", "poi": "encoder_k.", "location": "gc_encoder_shadow."}


class MissingEncoder(nn.Module):
    """Placeholder for an encoder that was not loaded."""

    def forward(self, *_: Any) -> Tensor:
        """Raise RuntimeError."""
        raise RuntimeError("this encoder was not loaded")


class M3gal(nn.Module):
    """Encode query texts, POI texts and POI locations as unit vectors of one space.

    The score of a POI is q·k + w q·g', with q the query, k the POI text, g' the POI location and w the location weight.

    Args:
        text_model: Transformers encoder; the key encoder starts as a copy of it.
        settings: Pooling, location encoder and z-score.
        parts: Encoders to build, of ``PARTS``; None: all four, for training.
    """

    encoder_q: Any  # TextEncoder or MissingEncoder
    encoder_k: Any

    def __init__(self, text_model: nn.Module, settings: ModelSettings, parts: Collection[str] | None = None) -> None:
        super().__init__()
        self.settings = settings
        config: Any = text_model.config
        self.text_config = config  # for models without text encoders
        self.dim = int(config.hidden_size)
        encoder = TextEncoder(text_model, settings.pooling)
        wanted = PARTS if parts is None else parts
        self.encoder_q = encoder if "query" in wanted else MissingEncoder()
        self.encoder_k = copy.deepcopy(encoder) if "poi" in wanted else MissingEncoder()
        self.gc_encoder = build_location_encoder(self.dim, settings) if parts is None else MissingEncoder()
        key = copy.deepcopy(self.gc_encoder) if parts is None else build_location_encoder(self.dim, settings)
        self.gc_encoder_shadow = key if "location" in wanted else MissingEncoder()
        self.recompute = False  # see ``TextEncoder.encode``

    def embed_query(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode query tokens. Shape: (B, L), (B, L) -> (B, D)."""
        out: Tensor = self.encoder_q(ids, mask)
        return out

    def embed_poi_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode POI tokens with the key encoder. Shape: (B, L), (B, L) -> (B, D)."""
        out: Tensor = self.encoder_k(ids, mask)
        return out

    def embed_poi_location(self, z: Tensor) -> Tensor:
        """Encode z-scores with the key location encoder. Shape: (B, 2) -> (B, D)."""
        return _embed_location(self.gc_encoder_shadow, z)

    def embed_location(self, z: Tensor) -> Tensor:
        """Encode z-scores with the location encoder that pretraining trains. Shape: (B, 2) -> (B, D)."""
        return _embed_location(self.gc_encoder, z)

    def forward(self, query: TokenBatch, z: Tensor, key: TokenBatch | None = None) -> tuple[Tensor, ...]:
        """Return all vectors of a step that take gradients. Data-parallel wrappers require one call per step.

        Shape:
            Pretraining: B query texts, z (B, 2) -> query (B, D), location (B, D).
            Finetuning: B query texts, z (M, 2), M candidate texts ``key`` -> query (B, D), candidate text (M, D),
            candidate location (M, D).
        """
        queries = self.encoder_q.encode(query, self.recompute)
        if key is None:
            return queries, self.embed_location(z)
        return queries, self.encoder_k.encode(key, self.recompute), self.embed_poi_location(z)

    def text_encoders(self) -> dict[str, nn.Module]:
        """Return the transformers encoders of queries and keys."""
        return {"queries": self.encoder_q.text_encoder, "keys": self.encoder_k.text_encoder}

    def parts(self) -> dict[str, nn.Module]:
        """Return the four encoders by their names in messages."""
        texts = {"query text encoder": self.encoder_q, "POI text encoder": self.encoder_k}
        return texts | {"location encoder": self.gc_encoder, "key location encoder": self.gc_encoder_shadow}

    def encode_keys(self, batch: TokenBatch) -> Tensor:
        """Encode POI texts with the key encoder, without gradient. Shape: -> (B, D)."""
        self.encoder_k.requires_grad_(
            True
        )  # autocast caches casts of weights between chunks only if they take gradients
        try:
            with torch.no_grad():
                return self.encoder_k.encode(batch)
        finally:
            self.encoder_k.requires_grad_(False)

    def set_trainable(self, stage: str) -> None:
        """Select the parts that take gradients: q and g in ``pretrain``; q, k and g' in ``finetune``."""
        pretraining = stage == "pretrain"
        self.encoder_q.set_trainable(True)
        self.encoder_k.set_trainable(not pretraining)
        self.gc_encoder.requires_grad_(pretraining)
        self.gc_encoder_shadow.requires_grad_(not pretraining)


def _embed_location(encoder: nn.Module, z: Tensor) -> Tensor:
    """Encode z-scores in float32: bf16 would round a coordinate to three digits, which are kilometres."""
    with torch.autocast(z.device.type, enabled=False):
        return F.normalize(encoder(z), dim=-1)


def count_parameters(module: nn.Module) -> int:
    """Return the number of scalar parameters of a module."""
    return sum(p.numel() for p in module.parameters())
