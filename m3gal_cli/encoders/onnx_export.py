"""Export a checkpoint's query encoder to ONNX, with its tokenizer and settings."""

from __future__ import annotations

import copy
import os
import shutil
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.core.tokenizer import max_positions
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_runtime import FORMAT, GRAPH, MANIFEST, TOKENIZER, OnnxQueryEncoder, UnusableExport
from m3gal_cli.errors import InputError
from m3gal_cli.files import file_sha256, make_folder, publish_folder, remove_folder, write_json

if TYPE_CHECKING:  # opening an export does not import torch
    from m3gal_cli.core.checkpoint import Checkpoint
    from m3gal_cli.core.text_encoder import TextEncoder

FOLDERS = {False: "onnx-float32", True: "onnx-int8"}
OPSET = 17
USE_TORCH = "Use --encoder-runtime torch."
INSTALL = "pip install 'm3gal[onnx]', or use --encoder-runtime torch."
MAX_ERROR = 1e-4  # of a component of a float32 vector
MIN_COSINE = 0.95  # of an int8 vector and the float32 vector
SAMPLES = [
    "a",
    "12",
    "莫干山路 8 号楼",
    "north gate, harbour mall",
    "天目山路182号(5号楼310室), 西湖区",
    "Castle Hill 3 " * 40,
]


def open_or_export(
    load: Callable[[], Checkpoint], model: Fingerprint, folder: Path, int8: bool, log: Callable[[str], None]
) -> OnnxQueryEncoder:
    """Open the query encoder in ``folder``/onnx-int8 or onnx-float32; export it first if it is missing or unusable.

    Args:
        load: Called for an export; returns a checkpoint with a query encoder.
        model: Fingerprint of the model; an export of another model is replaced.
        folder: Parent folder of the exports.
        int8: Quantise weights and activations to int8.
        log: Called with a message if an export is made or replaced.

    Raises:
        InputError: The extra ``onnx`` is not installed, the encoder cannot be exported, or the folder is not writable.
    """
    require_onnx()
    path = folder / FOLDERS[int8]
    if path.exists():
        try:
            encoder = OnnxQueryEncoder(path)
            if encoder.was_exported_from(model):
                return encoder
            reason = "the export is of another model"
        except UnusableExport as error:
            reason = str(error)
        log(f"{path}: {reason}; exporting again")
        try:
            remove_folder(path)
        except OSError as error:
            what = f"cannot remove the folder ({error.strerror or error})"
            raise InputError(what, where=path, hint="Remove it yourself.") from error
    log(f"{path}: exporting the query encoder (once)")
    export(load(), model, path, int8)
    try:
        return OnnxQueryEncoder(path)
    except UnusableExport as error:
        raise InputError(f"the new export is unusable: {error}", where=path, hint=USE_TORCH) from error


def require_onnx(find: Callable[[str], Any] = find_spec) -> None:
    """Raise InputError if a library of the extra ``onnx`` is missing."""
    missing = [name for name in ("onnxruntime", "onnx") if find(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} is not installed", hint=INSTALL)


def export(checkpoint: Checkpoint, model: Fingerprint, path: Path, int8: bool) -> None:
    """Export to the new folder ``path`` atomically, after a comparison with the torch encoder. Raises InputError."""
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        _write(temporary, checkpoint, model, int8)
        _verify(temporary, checkpoint, int8)
        publish_folder(temporary, path)
    except FileExistsError:  # another process has exported the same encoder in the meantime
        pass
    except OSError as error:
        what = f"cannot write there ({error.strerror or error})"
        raise InputError(what, where=path, hint="Free space, or choose another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def trace(encoder: TextEncoder, path: Path) -> None:
    """Write a text encoder with pooling and normalisation as an ONNX graph. Raises InputError if torch cannot.

    Shape:
        Graph: ids, mask (B, L) int64 -> vectors (B, D) float32, for any B and L.
    """
    import torch

    own = copy.deepcopy(encoder).cpu().float().eval()
    set_attention: Any = getattr(own.text_encoder, "set_attn_implementation", None)
    ids = torch.full((2, 7), 5)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    any_size = {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "vectors": {0: "batch"}}
    options: dict[str, Any] = {"input_names": ["ids", "mask"], "output_names": ["vectors"], "dynamic_axes": any_size}
    try:
        if callable(set_attention):
            set_attention("eager")
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            # dynamo=True, the newer exporter, takes ten times as long for the same graph and needs another library.
            torch.onnx.export(own, (ids, mask), path, dynamo=False, opset_version=OPSET, **options)
    except OSError:
        raise
    except Exception as error:  # torch raises the exceptions of all its parts
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"this text encoder cannot be exported to ONNX ({reason})", hint=USE_TORCH) from error


def _write(folder: Path, checkpoint: Checkpoint, model: Fingerprint, int8: bool) -> None:
    import onnx

    encoder, tokenizer = checkpoint.model.encoder_q, checkpoint.tokenizer
    trace(encoder, folder / GRAPH)
    if int8:
        from m3gal_cli.encoders.onnx_int8 import quantise

        onnx.save(quantise(onnx.load(folder / GRAPH)), folder / GRAPH)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("the checkpoint's tokenizer is not of the tokenizers library", hint=USE_TORCH)
    (folder / TOKENIZER).write_text(backend.to_str(), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "model": model.record(),
        "files": {name: file_sha256(folder / name) for name in (GRAPH, TOKENIZER)},
        "dim": checkpoint.model.dim,
        "settings": checkpoint.model.settings.to_json(),
        "max_positions": max_positions(checkpoint.model.text_config),
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "truncation_side": tokenizer.truncation_side,
    }
    write_json(folder / MANIFEST, manifest)


def _verify(folder: Path, checkpoint: Checkpoint, int8: bool) -> None:
    """Raise InputError unless the export gives the token ids of the checkpoint, and its vectors within a tolerance."""
    from m3gal_cli.encoders.torch_encoder import TorchEncoder

    exported, encoder = OnnxQueryEncoder(folder), TorchEncoder(checkpoint)
    prefix = checkpoint.model.settings.query_prefix
    tokens, wanted_tokens = exported.tokenize(SAMPLES, prefix), encoder.tokenize(SAMPLES, prefix)
    if not all(np.array_equal(getattr(tokens, n), getattr(wanted_tokens, n)) for n in ("lengths", "flat")):
        raise InputError("the exported tokenizer gives other tokens", hint=USE_TORCH)
    vectors, wanted = exported.encode_queries(SAMPLES), encoder.encode_queries(SAMPLES)
    error, cosine = float(np.abs(vectors - wanted).max()), float((vectors * wanted).sum(axis=1).min())
    if int8 and not cosine >= MIN_COSINE:
        what = f"int8 changes the vectors of this encoder (cosine {cosine:.3f}, at least {MIN_COSINE} is needed)"
        raise InputError(what, hint="Use --encoder-runtime onnx.")
    if not int8 and not error <= MAX_ERROR:
        raise InputError(f"the exported encoder gives other vectors (error {error:.1g})", hint=USE_TORCH)
