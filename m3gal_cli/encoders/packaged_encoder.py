"""Run the text encoder of the packaged model with onnxruntime in int8, for queries and POIs. Imports no torch.

The weights are stored once, in 4 bits (see ``core.quantised_weights``). Opening an encoder converts them to int8, with
one scale per output column, and fills them into the graph, which has no weights of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.checkpoint_layout import CONFIG_FILE, GRAPH_FILE, TEXT_FOLDER, WEIGHTS_FILE, read_checked_meta
from m3gal_cli.core.model_settings import ModelSettings
from m3gal_cli.core.quantised_weights import QuantisedMatrix, dequantise, matrices_of, others_of, read_tensors
from m3gal_cli.core.tokenizer import FastTokenizer, TextTokenizer
from m3gal_cli.encoders.onnx_int8 import quantise_columns
from m3gal_cli.encoders.onnx_runtime import TOKENIZER, session_options, usable_cores
from m3gal_cli.encoders.protocol import Progress, Vectors
from m3gal_cli.encoders.text_batches import distinct_texts, encode_batches, equal_length_batches
from m3gal_cli.errors import InputError

BATCH_TOKENS = 512  # tokens per batch; a larger batch leaves the caches
WORDS, POSITIONS, TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
QKV = (".query.", ".key.", ".value.")  # parts that the graph has as one
JOINED = tuple(f"{part}{kind}" for part in QKV[1:] for kind in ("weight", "bias"))


class PackagedEncoder:
    """Encoder of a checkpoint in format 3 (see ``Encoder``), whose location weight is 0.

    Args:
        path: The checkpoint directory.

    Raises:
        InputError: A file is missing or damaged.
    """

    device = "cpu"

    def __init__(self, path: Path) -> None:
        meta = read_checked_meta(path, TEXT_FOLDER)
        self.settings = ModelSettings.from_json(meta["settings"])
        folder = path / TEXT_FOLDER
        try:
            tensors = read_tensors(folder / WEIGHTS_FILE)
            self._words = matrices_of(tensors)[WORDS]
            others = others_of(tensors)
            self._positions: NDArray[np.float32] = others.pop(POSITIONS) + others.pop(TYPES)[0]
            self._session = _open_session(folder / GRAPH_FILE, graph_weights(tensors))
            self.tokenize = _load_tokenizer(folder, self.settings, len(self._positions))
        except Exception as error:  # onnxruntime and tokenizers raise their own classes, and bare Exception
            what = f"the text encoder cannot be opened ({' '.join(str(error).split())[:120]})"
            raise InputError(what, where=path, hint="Install m3gal again, with a current onnxruntime.") from error

    @property
    def dim(self) -> int:
        """Return the width D of the vectors."""
        return int(self._positions.shape[1])

    def encode_queries(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode query texts as unit vectors. Progress counts distinct texts. Shape: N texts -> (N, D) float32."""
        return self._encode(texts, self.settings.query_prefix, progress)

    def encode_poi_texts(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Encode POI texts as unit vectors. Progress counts distinct texts. Shape: N texts -> (N, D) float32."""
        return self._encode(texts, self.settings.passage_prefix, progress)

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return zeros: the vectors have the length of the location weight, which is 0. Shape: -> (N, D) float32."""
        return np.zeros((len(np.asarray(lng)), self.dim), np.float32)

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.floating]:
        """Return the z-scores that the location encoder reads. Shape: (N,), (N,) -> (N, 2), lng first."""
        return self.settings.normalizer(lng, lat)

    def _encode(self, texts: Sequence[str], prefix: str, progress: Progress | None) -> Vectors:
        unique, inverse = distinct_texts(texts)
        rows = self.tokenize(unique, prefix)

        def encode(chosen: NDArray[np.int64]) -> Vectors:
            ids, _ = rows.padded(chosen)
            words = dequantise(self._words.codes[ids.ravel()], self._words.scales[ids.ravel()])
            embeddings = words.reshape(*ids.shape, self.dim) + self._positions[: ids.shape[1]]
            vectors: Vectors = self._session.run(None, {"embeddings": embeddings})[0]
            return vectors

        return encode_batches(rows.lengths, self.dim, BATCH_TOKENS, encode, progress, equal_length_batches)[inverse]


def graph_weights(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights of the graph: NAME.int8 (K, N) and NAME.scale (N,) of matrices, and the others as float32.

    The matrices of query, key and value of a layer, and their biases, are joined as ``qkv``.
    """
    matrices = {name: matrix for name, matrix in matrices_of(tensors).items() if name != WORDS}
    others = {name: value for name, value in others_of(tensors).items() if name not in (POSITIONS, TYPES)}

    def convert(matrix: QuantisedMatrix) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        return quantise_columns(matrix.values().T)

    with ThreadPoolExecutor(usable_cores()) as pool:  # numpy releases the interpreter lock
        quantised = dict(zip(matrices, pool.map(convert, matrices.values()), strict=True))
    out: dict[str, NDArray[Any]] = {}
    for name in [name for name in (*quantised, *others) if not name.endswith(JOINED)]:
        parts = [name.replace(QKV[0], part) for part in QKV] if QKV[0] in name else [name]
        stem = name.replace(QKV[0], ".qkv.")
        if name in others:
            out[stem] = np.concatenate([others[part] for part in parts])
            continue
        values, scales = zip(*(quantised[part] for part in parts), strict=True)
        stem = stem.removesuffix(".weight")
        out |= {f"{stem}.int8": np.concatenate(values, axis=1), f"{stem}.scale": np.concatenate(scales)}
    return out


def _open_session(graph: Path, weights: dict[str, NDArray[Any]]) -> Any:
    import onnxruntime

    options = session_options()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value)) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _load_tokenizer(folder: Path, settings: ModelSettings, positions: int) -> TextTokenizer:
    content = (folder / TOKENIZER).read_text(encoding="utf-8")
    padding = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["pad_token_id"]
    return TextTokenizer(FastTokenizer(content, padding, None, "right"), settings, positions)
