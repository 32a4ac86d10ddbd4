"""Text encoders: one unit vector a text, from a transformers encoder."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from m3gal_cli.core.token_batches import TokenBatch
from m3gal_cli.errors import InputError

INITS = {"torch.nn.init", "transformers.initialization"}  # transformers puts its own in torch's place


class TextEncoder(nn.Module):
    """A transformers encoder and a pooling.

    Shape:
        ids, mask: (B, L) -> (B, D), rows of unit length.
    """

    def __init__(self, text_encoder: nn.Module, pooling: str) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.pooling = pooling
        if pooling == "pooler" and getattr(text_encoder, "pooler", None) is None:
            raise InputError("this text encoder has no pooler", hint="Set model.pooling to mean or cls.")

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        out = self.text_encoder(input_ids=ids, attention_mask=mask)
        return F.normalize(pooled(out, mask, self.pooling), dim=-1)

    def encode(self, batch: TokenBatch, recompute: bool = False) -> Tensor:
        """A batch in chunks to (B, D), its rows in their order (see ``in_chunks``)."""
        return in_chunks(self, batch, recompute)


def freeze_unused(text_encoder: nn.Module, pooling: str) -> None:
    """A pooler that is not used would have no gradient, which data-parallel training forbids."""
    pooler = getattr(text_encoder, "pooler", None)
    if pooling != "pooler" and isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)


def pooled(out: Any, mask: Tensor, pooling: str) -> Tensor:
    """One float32 vector a text from what a transformers encoder gives. Shape: mask (B, L) -> (B, D)."""
    if pooling == "pooler":
        vectors: Tensor = out.pooler_output
    elif pooling == "cls":
        vectors = out.last_hidden_state[:, 0]
    else:
        weight = mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        vectors = (out.last_hidden_state * weight).sum(1) / weight.sum(1)
    return vectors.float()


def in_chunks(encode: Callable[..., Tensor], batch: TokenBatch, recompute: bool = False) -> Tensor:
    """What ``encode`` gives of a batch, chunk by chunk, its rows in their order.

    ``recompute`` keeps no activations: backward runs each chunk forward again, so that one chunk's are held at a
    time (gradient caching; Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
    Setup"). Dropout repeats its draws; gradients are those of the plain pass.
    """
    again = recompute and torch.is_grad_enabled()
    parts = [checkpoint(encode, *chunk, use_reentrant=False) if again else encode(*chunk) for chunk in batch.chunks]
    rows = parts[0] if len(parts) == 1 else torch.cat(parts)
    return rows if batch.order is None else rows[batch.order]


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a transformers model, by directory or hub name. Raises InputError."""
    from transformers import AutoTokenizer

    tokenizer = _from_pretrained(AutoTokenizer, source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_text_config(source: str) -> Any:
    """The transformers config of a model, by directory or hub name. Raises InputError."""
    from transformers import AutoConfig

    return _from_pretrained(AutoConfig, source)


def load_text_model(source: str) -> nn.Module:
    """A transformers encoder with its weights as float32, by directory or hub name. Raises InputError."""
    from transformers import AutoModel

    model: nn.Module = _from_pretrained(AutoModel, source, dtype=torch.float32)
    return model


@contextmanager
def undrawn() -> Iterator[None]:
    """Modules made within keep whatever numbers their memory holds: for weights that are loaded right after."""
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):
        def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            if getattr(func, "__module__", None) in INITS:
                return given.get("tensor", args[0] if args else None)
            return func(*args, **given)

    with Undrawn():
        yield


def build_text_model(config: Any) -> nn.Module:
    """A transformers encoder of this config with random weights, float32."""
    from transformers import AutoModel

    model: nn.Module = AutoModel.from_config(config, dtype=torch.float32)
    return model


def _from_pretrained(loader: Any, source: str, **options: Any) -> Any:
    from transformers.utils import logging

    logging.set_verbosity_error()  # its load report about unused heads is no news to users
    logging.disable_progress_bar()
    hint = "Give --text-encoder a directory with config.json, tokenizer and weights, or a name that the hub has."
    if Path(source).is_dir():
        if not (Path(source) / "config.json").exists():
            raise InputError("is no transformers directory (no config.json)", where=source, hint=hint)
    elif os.sep in source and source.count("/") != 1:
        raise InputError("no such directory", where=source, hint=hint)
    try:
        return loader.from_pretrained(source, local_files_only=True, **options)
    except Exception as error:  # noqa: BLE001 - transformers raises whatever its parts raise
        local = error
    if not Path(source).is_dir() and _hub_answers():
        try:
            return loader.from_pretrained(source, **options)
        except Exception as error:  # noqa: BLE001
            local = error
    what = f"cannot load the text encoder {source!r}"
    if not Path(source).is_dir():
        what += " (no such directory, not in the local cache, and the hub did not give it)"
        raise InputError(what, hint=hint) from local
    raise InputError(f"{what} ({' '.join(str(local).split())[:160]})", hint=hint) from local


def _hub_answers() -> bool:
    """Ask once, briefly: the hub client itself retries for most of a minute on a machine without network."""
    url = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.create_connection((url.hostname or "", url.port or 443), timeout=3).close()
    except OSError:
        return False
    return True
