"""The M3GAL bi-encoder: a query text encoder, a key (POI) text encoder, a location encoder and its key twin.

Names of the parts are the published ones (encoder_q, encoder_k, gc_encoder, gc_encoder_shadow), so that a
published state dict is ours without a translation table.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from m3gal_cli.core.location import build_location_encoder
from m3gal_cli.core.settings import ModelSettings
from m3gal_cli.core.text import TextEncoder


class M3gal(nn.Module):
    """Query, POI text and POI location into one space of unit vectors.

    The score of a POI is q.k + q.g' (q.k: text, q.g': location).
    """

    def __init__(self, text_model: nn.Module, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.dim = int(text_model.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.encoder_q = TextEncoder(text_model, settings.pooling)
        self.encoder_k = copy.deepcopy(self.encoder_q)
        self.gc_encoder = build_location_encoder(self.dim, settings)
        self.gc_encoder_shadow = copy.deepcopy(self.gc_encoder)

    def embed_query(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Shape: (B, L), (B, L) -> (B, D)."""
        out: Tensor = self.encoder_q(ids, mask)
        return out

    def embed_poi_text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Shape: (B, L), (B, L) -> (B, D)."""
        out: Tensor = self.encoder_k(ids, mask)
        return out

    def embed_poi_location(self, z: Tensor) -> Tensor:
        """Shape: (B, 2) z-scores -> (B, D), by the key location encoder."""
        return F.normalize(self.gc_encoder_shadow(z).float(), dim=-1)

    def embed_location(self, z: Tensor) -> Tensor:
        """Shape: (B, 2) z-scores -> (B, D), by the location encoder that pretraining trains."""
        return F.normalize(self.gc_encoder(z).float(), dim=-1)

    def forward(
        self, ids: Tensor, mask: Tensor, z: Tensor, key: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """What a training step needs with gradient, in one call (so that data-parallel wrappers see it).

        Without ``key`` (pretraining): (query (B, D), location (B, D)) of (ids, mask) and z (B, 2).
        With ``key`` (finetuning): also the candidates' text (M, D) of key = (ids, mask), z then being theirs (M, 2):
        (query (B, D), candidate text (M, D), candidate location (M, D)).
        """
        query = self.embed_query(ids, mask)
        if key is None:
            return query, self.embed_location(z)
        return query, self.embed_poi_text(*key), self.embed_poi_location(z)

    def train_for(self, stage: str) -> None:
        """Say which parts take gradients: pretraining q and g; finetuning q, k and g'."""
        pretraining = stage == "pretrain"
        self.encoder_q.requires_grad_(True)
        self.encoder_k.requires_grad_(not pretraining)
        self.gc_encoder.requires_grad_(pretraining)
        self.gc_encoder_shadow.requires_grad_(not pretraining)
        if self.settings.pooling != "pooler":  # an unused pooler would have no gradient, which data-parallel forbids
            for encoder in (self.encoder_q, self.encoder_k):
                pooler = getattr(encoder.text_encoder, "pooler", None)
                if isinstance(pooler, nn.Module):
                    pooler.requires_grad_(False)


def count_parameters(module: nn.Module) -> int:
    """Numbers in a module's parameters."""
    return sum(p.numel() for p in module.parameters())


def resolve_device(name: str) -> torch.device:
    """``auto`` is CUDA, else Apple's GPU, else the CPU; any other name is torch's own."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return torch.device(name)
