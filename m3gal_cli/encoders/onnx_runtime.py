"""Queries encoded by onnxruntime: a fraction of torch's time for a single one, and none of its seconds of import."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3gal_cli.encoders.encoder import Progress, Vectors, budgeted, distinct
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_export import FORMAT, GRAPH, MANIFEST, TOKENIZER, export, sha256, tokenizer_of
from m3gal_cli.errors import InputError
from m3gal_cli.files import remove_folder

if TYPE_CHECKING:
    from m3gal_cli.core.checkpoint import Checkpoint

Log = Callable[[str], None]
BATCH_TOKENS = 512  # padded tokens encoded at once: more leave the caches
FOLDERS = {False: "onnx-float32", True: "onnx-int8"}
HINT = "pip install 'm3gal[onnx]', or use --encoder-runtime torch."


class Unusable(Exception):
    """Why an export is not taken."""


class OnnxQueryEncoder:
    """An exported query encoder; takes the place of an Embedder where queries alone are encoded.

    Args:
        path: the folder that was exported.
        threads: cores of a single run; None: all that this process may use, or as many as OMP_NUM_THREADS says.

    Raises:
        Unusable: something in the folder is missing or damaged.
    """

    device = "cpu"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        self._manifest = _manifest(path)
        for name, digest in self._manifest["files"].items():
            try:
                if sha256(path / name) != digest:
                    raise Unusable(f"{name} is damaged")
            except OSError as error:
                raise Unusable(f"{name} cannot be read ({error.strerror})") from error
        try:
            self.tokenize = tokenizer_of(path, self._manifest)
            self._session = _session(path / GRAPH, threads or cores())
        except Exception as error:  # onnxruntime and tokenizers raise classes of their own, and a bare Exception
            raise Unusable(f"cannot be opened ({' '.join(str(error).split())[:120]})") from error

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self._manifest["dim"])

    def is_of(self, model: Fingerprint) -> bool:
        """Whether it was exported from this model."""
        return model.is_that_of(self._manifest["model"])

    def queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Query texts to unit vectors. Shape: N texts -> (N, D) float32."""
        if not len(texts):
            return np.zeros((0, self.dim), np.float32)
        different, inverse = distinct(texts)
        rows = self.tokenize(different, self._manifest["settings"]["query_prefix"])
        out = np.empty((len(rows), self.dim), np.float32)
        done = 0
        for chosen in budgeted(rows.lengths, BATCH_TOKENS):
            ids, mask = rows.padded(chosen)
            out[chosen] = self._session.run(None, {"ids": ids, "mask": mask})[0]
            done += len(chosen)
            if progress is not None:
                progress(done, len(rows))
        return out[inverse]


def open_onnx(
    checkpoint: Callable[[], Checkpoint], model: Fingerprint, folder: Path, int8: bool, log: Log
) -> OnnxQueryEncoder:
    """The query encoder in ``folder``/onnx-int8 (or onnx-float32), exported where it must be.

    Args:
        checkpoint: gives the model, of which the query encoder is needed alone. Only called where there is work.
        model: its identity (weights, tokenizer, settings); an export of another is not taken.
        int8: weights and activations in int8, else float32.
        say: is told, in words, why an export that is there is not taken, and that one is made.

    Raises:
        InputError: the extra is not installed; an encoder that cannot be exported; a folder that cannot be written.
    """
    require_extra()
    path = folder / FOLDERS[int8]
    if path.exists():
        try:
            found = OnnxQueryEncoder(path)
            if found.is_of(model):
                return found
            why = "an encoder of another model"
        except Unusable as error:
            why = str(error)
        log(f"{path}: {why}; it is made anew")
        _discard(path)
    log(f"{path}: exporting the query encoder, once")
    export(checkpoint(), model, path, int8)
    try:
        return OnnxQueryEncoder(path)
    except Unusable as error:
        raise InputError(f"the query encoder just exported {error}", where=path, hint=HINT) from error


def require_extra() -> None:
    """Raise InputError where the libraries of the extra are missing."""
    missing = [name for name in ("onnxruntime", "onnx") if find_spec(name) is None]
    if missing:
        raise InputError(f"{' and '.join(missing)} is not installed", hint=HINT)


def cores() -> int:
    """Cores that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _discard(path: Path) -> None:
    try:
        remove_folder(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot remove it ({reason})", where=path, hint="Remove it, or another folder.") from error


def _manifest(path: Path) -> dict[str, Any]:
    try:
        found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unusable(f"{MANIFEST} is damaged") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Unusable("an encoder of another version of m3gal")
    if set(found.get("files", ())) != {GRAPH, TOKENIZER}:
        raise Unusable(f"{MANIFEST} is damaged")
    return found


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
