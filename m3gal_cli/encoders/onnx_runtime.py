"""Encode queries with onnxruntime. It encodes single queries faster than torch, and torch need not be imported."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.tokenizer import FastTokenizer, TextTokenizer
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.encoders.text_batches import distinct_texts, encode_batches
from m3gal_cli.files import file_sha256, read_json

FORMAT = 1
GRAPH, TOKENIZER, MANIFEST = "query_encoder.onnx", "tokenizer.json", "manifest.json"
BATCH_TOKENS = 512  # padded tokens per batch; a larger batch leaves the caches


class UnusableExport(Exception):
    """Reason why an export cannot be used: a file is missing, damaged or of another version."""


class OnnxQueryEncoder:
    """Exported query encoder (see ``QueryEncoder``) in the folder ``path``. Raises UnusableExport."""

    device = "cpu"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = _read_manifest(path)
        for name, digest in self._manifest["files"].items():
            try:
                if file_sha256(path / name) != digest:
                    raise UnusableExport(f"{name} is damaged")
            except OSError as error:
                raise UnusableExport(f"{name} cannot be read ({error.strerror})") from error
        try:
            self.tokenize = _load_tokenizer(path, self._manifest)
            self._session = _open_session(path / GRAPH)
        except Exception as error:  # onnxruntime and tokenizers raise their own classes, and bare Exception
            raise UnusableExport(f"it cannot be opened ({' '.join(str(error).split())[:120]})") from error

    @property
    def dim(self) -> int:
        """Return the width D of the vectors."""
        return int(self._manifest["dim"])

    def was_exported_from(self, model: Fingerprint) -> bool:
        """Return whether the export is of the model with this fingerprint."""
        return model.matches(self._manifest["model"])

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode query texts as unit vectors. Progress counts distinct texts. Shape: N texts -> (N, D) float32."""
        unique, inverse = distinct_texts(texts)
        rows = self.tokenize(unique, self._manifest["settings"]["query_prefix"])

        def encode(chosen: NDArray[np.int64]) -> Vectors:
            ids, mask = rows.padded(chosen)
            vectors: Vectors = self._session.run(None, {"ids": ids, "mask": mask})[0]
            return vectors

        return encode_batches(rows.lengths, self.dim, BATCH_TOKENS, encode, progress)[inverse]


def usable_cores() -> int:
    """Return ``OMP_NUM_THREADS``, else the number of cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdigit() and int(given):
        return int(given)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _read_manifest(path: Path) -> dict[str, Any]:
    manifest = read_json(path / MANIFEST)
    if isinstance(manifest, dict) and manifest.get("format") != FORMAT:
        raise UnusableExport("the export is of another version of m3gal")
    if not isinstance(manifest, dict) or set(manifest.get("files", ())) != {GRAPH, TOKENIZER}:
        raise UnusableExport(f"{MANIFEST} is damaged")
    return manifest


def _load_tokenizer(folder: Path, manifest: dict[str, Any]) -> TextTokenizer:
    names = ("pad_token_id", "cls_token_id", "truncation_side")
    tokenizer = FastTokenizer((folder / TOKENIZER).read_text(encoding="utf-8"), *(manifest[name] for name in names))
    return TextTokenizer(tokenizer, ModelSettings.from_json(manifest["settings"]), int(manifest["max_positions"]))


def session_options() -> Any:
    """Return the options of a session of onnxruntime on all usable cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _open_session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), session_options(), providers=["CPUExecutionProvider"])
