"""The M3GAL bi-encoder: a query text encoder, a key (POI) text encoder, a location encoder and its key twin.

Names of the parts are the published ones (encoder_q, encoder_k, gc_encoder, gc_encoder_shadow), so that a
published state dict is ours without a translation table.
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
from m3gal_cli.core.text_encoder import TextEncoder, freeze_unused
from m3gal_cli.core.token_batches import TokenBatch

# What inference may need of a model, and the names that its weights begin with. The fourth encoder is training's.
PARTS = {"query": "encoder_q.", "poi": "encoder_k.", "location": "gc_encoder_shadow."}


class Absent(nn.Module):
    """Stands where an encoder was left out."""

    def forward(self, *_: Any) -> Tensor:
        raise RuntimeError("this encoder was not loaded")


class M3gal(nn.Module):
    """Query, POI text and POI location into one space of unit vectors.

    The score of a POI is q.k + q.g' (q.k: text, q.g': location).

    Args:
        parts: the encoders that are wanted, of ``PARTS``; None: all, as training needs them.
    """

    encoder_q: Any  # TextEncoder, or Absent
    encoder_k: Any

    def __init__(self, text_model: nn.Module, settings: ModelSettings, parts: Collection[str] | None = None) -> None:
        super().__init__()
        self.settings = settings
        config: Any = text_model.config
        self.text_config = config
        self.dim = int(config.hidden_size)
        encoder = TextEncoder(text_model, settings.pooling)
        wanted = PARTS if parts is None else parts
        self.encoder_q = encoder if "query" in wanted else Absent()
        self.encoder_k = copy.deepcopy(encoder) if "poi" in wanted else Absent()
        self.gc_encoder = build_location_encoder(self.dim, settings) if parts is None else Absent()
        place = copy.deepcopy(self.gc_encoder) if parts is None else build_location_encoder(self.dim, settings)
        self.gc_encoder_shadow = place if "location" in wanted else Absent()
        self.recompute = False  # see TextEncoder.encode

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
        return _place(self.gc_encoder_shadow, z)

    def embed_location(self, z: Tensor) -> Tensor:
        """Shape: (B, 2) z-scores -> (B, D), by the location encoder that pretraining trains."""
        return _place(self.gc_encoder, z)

    def forward(self, query: TokenBatch, z: Tensor, key: TokenBatch | None = None) -> tuple[Tensor, ...]:
        """What a training step needs with gradient, in one call (so that data-parallel wrappers see it).

        Without ``key`` (pretraining): (query (B, D), location (B, D)) of the queries and z (B, 2).
        With ``key`` (finetuning): also the candidates' text (M, D) of key, z then being theirs (M, 2):
        (query (B, D), candidate text (M, D), candidate location (M, D)).
        """
        queries = self.encoder_q.encode(query, self.recompute)
        if key is None:
            return queries, self.embed_location(z)
        return queries, self.encoder_k.encode(key, self.recompute), self.embed_poi_location(z)

    def text_encoders(self) -> dict[str, nn.Module]:
        """The transformers encoders, by what each of them reads."""
        return {"queries": self.encoder_q.text_encoder, "keys": self.encoder_k.text_encoder}

    def parts(self) -> dict[str, nn.Module]:
        """The four encoders by what they are called."""
        texts = {"query text encoder": self.encoder_q, "POI text encoder": self.encoder_k}
        return texts | {"location encoder": self.gc_encoder, "key location encoder": self.gc_encoder_shadow}

    def keys(self, batch: TokenBatch) -> Tensor:
        """POI texts without gradient: (B, D) by the key encoder."""
        parameters = list(self.encoder_k.parameters())
        try:
            for p in parameters:  # autocast keeps its copies of weights between chunks only where they take gradients
                p.requires_grad_(True)
            with torch.no_grad():
                return self.encoder_k.encode(batch)
        finally:
            for p in parameters:
                p.requires_grad_(False)

    def train_for(self, stage: str) -> None:
        """Say which parts take gradients: pretraining q and g; finetuning q, k and g'."""
        pretraining = stage == "pretrain"
        self.encoder_q.requires_grad_(True)
        self.encoder_k.requires_grad_(not pretraining)
        self.gc_encoder.requires_grad_(pretraining)
        self.gc_encoder_shadow.requires_grad_(not pretraining)
        for encoder in (self.encoder_q, self.encoder_k):
            freeze_unused(encoder.text_encoder, self.settings.pooling)


def _place(encoder: nn.Module, z: Tensor) -> Tensor:
    """In float32 always: bf16 would round a coordinate to three digits, which are kilometres."""
    with torch.autocast(z.device.type, enabled=False):
        return F.normalize(encoder(z), dim=-1)


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


def resolve_precision(name: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``: auto is bf16 where the device has instructions for it; where it has none, bf16 is fp32 too.

    Emulated on a CPU, a step in bf16 takes 20 to 30 times as long as in float32, which is what nobody asks for.
    """
    if name == "fp32" or (device.type == "cpu" and not has_bf16()):
        return "fp32"
    if name == "auto" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "fp32"
    return "bf16" if name == "bf16" or device.type in ("cpu", "cuda") else "fp32"


def has_bf16() -> bool:
    """Whether this CPU has instructions for bf16 (AMX or AVX-512 BF16)."""
    asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def choose_attention(model: nn.Module, device: torch.device, precision: str) -> None:
    """Set the attention that trained fastest in benchmarks/training.py: eager in bf16 on a CPU, else sdpa."""
    name = "eager" if device.type == "cpu" and precision == "bf16" else "sdpa"
    for part, encoder in model.named_modules():
        set_attention = getattr(encoder, "set_attn_implementation", None)
        if part.rpartition(".")[2] == "text_encoder" and callable(set_attention):
            try:
                set_attention(name)
            except (ValueError, ImportError):  # an architecture that has one way alone
                return
