"""A checkpoint's query encoder as ONNX, with all that encoding a query takes beside it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.core.tokenizer import PlainTokenizer, TextTokenizer, max_positions
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.files import publish_folder

if TYPE_CHECKING:
    from m3gal_cli.core.checkpoint import Checkpoint
    from m3gal_cli.core.text_encoder import TextEncoder
    from m3gal_cli.encoders.onnx_runtime import OnnxQueryEncoder

FORMAT = 1
GRAPH, TOKENIZER, MANIFEST = "query_encoder.onnx", "tokenizer.json", "manifest.json"
OPSET = 17
INSTEAD = "Use --encoder-runtime torch."
# A float32 export that is farther off than this, or an int8 one whose vectors point elsewhere, is not taken.
LARGEST_ERROR, LEAST_COSINE = 1e-4, 0.95
SAMPLES = [
    "a",
    "12",
    "莫干山路 8 号楼",
    "north gate, harbour mall",
    "天目山路182号(5号楼310室), 西湖区",
    "Castle Hill 3 " * 40,
]


def export(checkpoint: Checkpoint, model: Fingerprint, path: Path, int8: bool) -> None:
    """Write the folder ``path``: whole or not at all. It must not be there.

    Args:
        model: what the manifest says that it was made of.

    Raises:
        InputError: an encoder or a tokenizer that cannot be exported, a full disk.
    """
    from m3gal_cli.files import make_folder

    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        _write(temporary, checkpoint, model, int8)
        _check(temporary, checkpoint, int8)
        publish_folder(temporary, path)
    except FileExistsError:  # another process was faster, with the same
        pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot write there ({reason})", where=path, hint="Free space, or another folder.") from error
    finally:
        _remove(temporary)


def _write(folder: Path, checkpoint: Checkpoint, model: Fingerprint, int8: bool) -> None:
    import onnx

    encoder, tokenizer = checkpoint.model.encoder_q, checkpoint.tokenizer
    trace(encoder, folder / GRAPH)
    if int8:
        from m3gal_cli.encoders.onnx_int8 import quantise

        onnx.save(quantise(onnx.load(folder / GRAPH)), folder / GRAPH)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("the checkpoint's tokenizer is not of the tokenizers library", hint=INSTEAD)
    (folder / TOKENIZER).write_text(backend.to_str(), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "model": model.record(),
        "files": {name: sha256(folder / name) for name in (GRAPH, TOKENIZER)},
        "dim": checkpoint.model.dim,
        "settings": checkpoint.model.settings.to_json(),
        "max_positions": max_positions(checkpoint.model.text_config),
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "truncation_side": tokenizer.truncation_side,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def trace(encoder: TextEncoder, path: Path) -> None:
    """Write a text encoder, pooling and normalisation included, as a graph of any batch and length. Raises InputError.

    Shape:
        ids, mask: (B, L) int64 -> vectors (B, D) float32.
    """
    import torch

    own = copy.deepcopy(encoder).cpu().float().eval()
    plain: Any = getattr(own.text_encoder, "set_attn_implementation", None)
    ids = torch.full((2, 7), 5)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    any_size = {"ids": {0: "batch", 1: "length"}, "mask": {0: "batch", 1: "length"}, "vectors": {0: "batch"}}
    options: dict[str, Any] = {"input_names": ["ids", "mask"], "output_names": ["vectors"], "dynamic_axes": any_size}
    try:
        if callable(plain):
            plain("eager")
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")
            # The newer exporter (dynamo=True) gives the same graph in ten times the time and needs a further library.
            torch.onnx.export(own, (ids, mask), path, dynamo=False, opset_version=OPSET, **options)
    except OSError:
        raise
    except Exception as error:  # torch raises whatever its parts raise
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"this text encoder cannot be exported to ONNX ({reason})", hint=INSTEAD) from error


def _check(folder: Path, checkpoint: Checkpoint, int8: bool) -> None:
    """Raise InputError unless what was written gives the tokens and vectors of the checkpoint."""
    from m3gal_cli.encoders.encoder import TorchEncoder
    from m3gal_cli.encoders.onnx_runtime import OnnxQueryEncoder

    made: OnnxQueryEncoder = OnnxQueryEncoder(folder)
    encoder = TorchEncoder(checkpoint)
    prefix = checkpoint.model.settings.query_prefix
    own, wanted = made.tokenize(SAMPLES, prefix), encoder.tokenize(SAMPLES, prefix)
    if not (np.array_equal(own.flat, wanted.flat) and np.array_equal(own.lengths, wanted.lengths)):
        raise InputError("the exported tokenizer gives other tokens", hint=INSTEAD)
    found, vectors = made.queries(SAMPLES), encoder.queries(SAMPLES)
    error, cosine = float(np.abs(found - vectors).max()), float((found * vectors).sum(axis=1).min())
    if int8 and not cosine >= LEAST_COSINE:
        raise InputError(f"int8 does not suit this encoder (cosine {cosine:.3f})", hint="Use --encoder-runtime onnx.")
    if not int8 and not error <= LARGEST_ERROR:
        raise InputError(f"the exported encoder gives other vectors (by {error:.1g})", hint=INSTEAD)


def tokenizer_of(folder: Path, manifest: dict[str, Any]) -> TextTokenizer:
    """The tokenizer that was exported. Raises OSError, ValueError, KeyError, TypeError."""
    from m3gal_cli.core.model_settings import ModelSettings

    names = ("pad_token_id", "cls_token_id", "truncation_side")
    plain = PlainTokenizer((folder / TOKENIZER).read_text(encoding="utf-8"), *(manifest[name] for name in names))
    return TextTokenizer(plain, ModelSettings.from_json(manifest["settings"]), int(manifest["max_positions"]))


def sha256(path: Path) -> str:
    """Of a file's bytes. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
