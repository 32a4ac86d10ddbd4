"""The parameters of the reranker network, and their file in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path
from m3gal_cli.rerank.examples import STYLE_NAMES
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.network import PARAMETER_SHAPES, NetworkReranker
from m3gal_cli.text.ngram_frequencies import NgramFrequencies

FORMAT = 4
WEIGHTS_FILE = "reranker.safetensors"  # in a checkpoint
BEFORE_TRAINING_FILE = "reranker_before_training.safetensors"  # in a run: weights from before its first step
EARLIER_FILES = ("reranker.json", "hybrid.json")  # weights of linear rerankers, which can no longer be used
INPUTS = {"features": list(FEATURE_NAMES), "style": list(STYLE_NAMES)}
_METADATA = "m3gal_reranker"


@dataclass(frozen=True)
class RerankerWeights:
    """The parameters of a reranker network."""

    arrays: Mapping[str, NDArray[np.float32]]  # by the names of ``PARAMETER_SHAPES``
    queries: int  # number of labelled queries of the fit
    made_queries: int = 0  # number of queries of the fit that were made from POI tables

    def reranker(self, frequencies: NgramFrequencies) -> NetworkReranker:
        """Return the reranker of a POI table with these document frequencies."""
        return NetworkReranker(self.arrays, frequencies)

    def save(self, folder: Path, name: str = WEIGHTS_FILE) -> None:
        """Write the weights into a checkpoint, or as ``BEFORE_TRAINING_FILE`` into a run. Raises InputError."""
        from safetensors.numpy import save_file

        content = {"format": FORMAT, **INPUTS, "queries": self.queries, "made_queries": self.made_queries}
        arrays = {key: np.ascontiguousarray(value, np.float32) for key, value in self.arrays.items()}
        with atomic_path(folder / name) as temporary:
            save_file(arrays, temporary, {_METADATA: json.dumps(content)})
            temporary.chmod(0o644)  # safetensors makes files readable only by their owner
        if name == WEIGHTS_FILE:
            for earlier in EARLIER_FILES:
                (folder / earlier).unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, name: str = WEIGHTS_FILE) -> RerankerWeights | None:
        """Read the weights of a checkpoint, or of a run by ``BEFORE_TRAINING_FILE``; None without such a file.

        Raises:
            InputError: The file is damaged or of another version.
        """
        from safetensors import SafetensorError

        path = folder / name
        if not path.is_file():
            return None
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            hint = "Train again, or delete the file to go on without it."
            raise InputError(f"cannot be read ({error})", where=path, hint=hint) from error


def earlier_weights(folder: Path) -> Path | None:
    """Return the file of weights of an earlier version, if a checkpoint has one."""
    return next((folder / name for name in EARLIER_FILES if (folder / name).is_file()), None)


def _read(path: Path) -> RerankerWeights:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        content = json.loads((file.metadata() or {})[_METADATA])
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        if {key: content[key] for key in INPUTS} != INPUTS:
            raise ValueError("the weights are for other features")
        arrays = {key: file.get_tensor(key) for key in PARAMETER_SHAPES}
    if any(arrays[key].shape != shape for key, shape in PARAMETER_SHAPES.items()):
        raise ValueError("the weights have other shapes")
    if not all(np.isfinite(value).all() for value in arrays.values()):
        raise ValueError("a weight is not a finite number")
    return RerankerWeights(arrays, int(content["queries"]), int(content["made_queries"]))
