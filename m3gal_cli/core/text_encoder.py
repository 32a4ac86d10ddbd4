"""Text encoder: a transformers encoder, pooling and L2 normalisation. Also loads encoders and tokenizers."""

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
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from m3gal_cli.core.token_batches import TokenBatch
from m3gal_cli.errors import InputError

INIT_MODULES = {"torch.nn.init", "transformers.initialization"}  # functions that draw initial weights


class TextEncoder(nn.Module):
    """Encode token ids as unit vectors with a transformers encoder and a pooling.

    ``pooling`` is ``cls``, ``mean`` or ``pooler``, which raises InputError for an encoder that has none.
    """

    def __init__(self, text_encoder: nn.Module, pooling: str) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.pooling = pooling
        if pooling == "pooler" and getattr(text_encoder, "pooler", None) is None:
            raise InputError("this text encoder has no pooler", hint="Set model.pooling to mean or cls.")

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode padded token ids. Shape: (B, L), (B, L) -> (B, D)."""
        out = self.text_encoder(input_ids=ids, attention_mask=mask)
        return F.normalize(pool(out, mask, self.pooling), dim=-1)

    def encode(self, batch: TokenBatch, recompute: bool = False) -> Tensor:
        """Encode a batch chunk by chunk.

        Args:
            batch: Padded chunks.
            recompute: Keep no activations of a chunk, and run it forward again in the backward pass. Memory then holds
                the activations of one chunk (gradient caching; Gao et al. 2021, "Scaling Deep Contrastive Learning
                Batch Size under Memory Limited Setup"). Dropout masks are repeated, so the gradients do not change.

        Shape:
            -> (B, D), rows in the order of the batch.
        """
        again = recompute and torch.is_grad_enabled()
        parts = [checkpoint(self, *chunk, use_reentrant=False) if again else self(*chunk) for chunk in batch.chunks]
        rows = torch.cat(parts)
        return rows if batch.order is None else rows[batch.order]

    def set_trainable(self, trainable: bool) -> None:
        """Freeze or unfreeze the parameters. A pooler that the pooling does not use is always frozen.

        Data-parallel training requires a gradient of every parameter that is not frozen.
        """
        self.requires_grad_(trainable)
        pooler = getattr(self.text_encoder, "pooler", None)
        if self.pooling != "pooler" and isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)


def pool(out: Any, mask: Tensor, pooling: str) -> Tensor:
    """Pool the output of a transformers encoder to one float32 vector per text. Shape: mask (B, L) -> (B, D)."""
    if pooling == "pooler":
        vectors: Tensor = out.pooler_output
    elif pooling == "cls":
        vectors = out.last_hidden_state[:, 0]
    else:
        weight = mask.unsqueeze(-1).to(out.last_hidden_state.dtype)
        vectors = (out.last_hidden_state * weight).sum(1) / weight.sum(1)
    return vectors.float()


def load_tokenizer(source: str) -> Any:
    """Load the tokenizer of a transformers model by directory or hub name. Raises InputError."""
    tokenizer = _from_pretrained(AutoTokenizer, source)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_text_config(source: str) -> Any:
    """Load the transformers config of a model by directory or hub name. Raises InputError."""
    return _from_pretrained(AutoConfig, source)


def load_text_model(source: str) -> nn.Module:
    """Load a transformers encoder in float32 by directory or hub name. Raises InputError."""
    model: nn.Module = _from_pretrained(AutoModel, source, dtype=torch.float32)
    return model


@contextmanager
def skip_weight_init() -> Iterator[None]:
    """Create modules with uninitialised weights, which the caller must load afterwards."""

    class NoInit(TorchFunctionMode):
        def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
            given = kwargs or {}
            if getattr(func, "__module__", None) in INIT_MODULES:
                return given.get("tensor", args[0] if args else None)
            return func(*args, **given)

    with NoInit():
        yield


def build_text_model(config: Any) -> nn.Module:
    """Build a transformers encoder of this config with random float32 weights."""
    model: nn.Module = AutoModel.from_config(config, dtype=torch.float32)
    return model


def _from_pretrained(loader: Any, source: str, **options: Any) -> Any:
    """Load from the directory ``source`` if it exists, else from the local hub cache, else from the hub."""
    logging.set_verbosity_error()  # without warnings of weights that the encoder does not use
    logging.disable_progress_bar()
    is_folder, what = Path(source).is_dir(), f"cannot load the text encoder {source!r}"
    hint = "Give --text-encoder a directory with config.json, tokenizer and weights, or the name of a model on the hub."
    if is_folder and not (Path(source) / "config.json").exists():
        raise InputError("is no transformers directory (no config.json)", where=source, hint=hint)
    if not is_folder and os.sep in source and source.count("/") != 1:
        raise InputError("no such directory", where=source, hint=hint)
    try:
        return loader.from_pretrained(source, local_files_only=True, **options)
    except Exception as error:  # noqa: BLE001 - transformers raises the exceptions of all its parts
        reason = error
    if is_folder:
        raise InputError(f"{what} ({' '.join(str(reason).split())[:160]})", hint=hint) from reason
    if _hub_answers():
        try:
            return loader.from_pretrained(source, **options)
        except Exception as error:  # noqa: BLE001
            reason = error
    hint = "Without a network, give --text-encoder DIRECTORY, --text-encoder scratch (a small new encoder) or "
    hint += "--config demo.yaml."
    what += " (no such directory, not in the local cache, and not loaded from the hub)"
    raise InputError(what, hint=hint) from reason


def _hub_answers() -> bool:
    """Return whether the hub accepts a connection. Without a network, its client would retry for most of a minute."""
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
