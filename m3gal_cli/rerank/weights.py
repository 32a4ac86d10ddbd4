"""The weights of the linear reranker, and their file in a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text
from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features import FEATURE_NAMES, FEATURES

FORMAT, LEGACY_FORMAT = 3, 2
WEIGHTS_FILE = "reranker.json"  # in a checkpoint
BEFORE_TRAINING_FILE = "reranker_before_training.json"  # in a run: weights that were fitted before its first step
LEGACY_FILES = {WEIGHTS_FILE: "hybrid.json", BEFORE_TRAINING_FILE: "hybrid_before.json"}
LEGACY_FEATURES = {
    "dense": "dense_score",
    "coverage": "query_coverage",
    "name": "name_coverage",
    "opening": "first_half_match",
    "ending": "second_half_match",
    "tail": "suffix_similarity",
    "numbers": "number_match",
    "untyped": "unmatched_numbers",
    "reference": "neighbour_coverage",
    "reference_opening": "neighbour_first_half",
    "reference_ending": "neighbour_second_half",
    "near_700m": "nearness_700m",
    "near_2500m": "nearness_2500m",
}


@dataclass(frozen=True)
class RerankerWeights:
    """The weights of a linear reranker."""

    by_name: Mapping[str, float]  # a missing name counts 0
    queries: int  # number of queries of the fit, on which the encoders were not trained
    queries_before_training: int = 0  # number of queries of the weights that were the prior of the fit; 0 without it

    @classmethod
    def of(cls, vector: Floats, queries: int, queries_before_training: int = 0) -> RerankerWeights:
        """Name a vector of weights. Shape: vector: (F,), in the order of ``FEATURE_NAMES``."""
        return cls(dict(zip(FEATURE_NAMES, vector.tolist(), strict=True)), queries, queries_before_training)

    @property
    def vector(self) -> Floats:
        """The weights in the order of ``FEATURE_NAMES``. Shape: (F,)."""
        return weight_vector(self.by_name)

    def save(self, folder: Path, name: str = WEIGHTS_FILE) -> None:
        """Write the weights into a checkpoint, or as ``BEFORE_TRAINING_FILE`` into a run. Raises InputError."""
        content = {
            "format": FORMAT,
            "weights": dict(self.by_name),
            "queries": self.queries,
            "queries_before_training": self.queries_before_training,
        }
        with atomic_text(folder / name) as file:
            json.dump(content, file, indent=1)
        (folder / LEGACY_FILES[name]).unlink(missing_ok=True)

    @classmethod
    def load(
        cls, folder: Path, name: str = WEIGHTS_FILE, log: Callable[[str], None] | None = None
    ) -> RerankerWeights | None:
        """Read the weights of a checkpoint, or of a run by ``BEFORE_TRAINING_FILE``; None without such a file.

        Args:
            folder: The checkpoint or the run.
            name: Name of the file.
            log: Called with a deprecation message if the file has its old name.

        Raises:
            InputError: The file is damaged, of another format, or names an unknown feature.
        """
        path, old = folder / name, folder / LEGACY_FILES[name]
        legacy = old.is_file() and not path.is_file()
        path = old if legacy else path
        if not path.is_file():
            return None
        try:
            weights = _parse(json.loads(path.read_text(encoding="utf-8")), legacy)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            problem = error.what if isinstance(error, InputError) else error
            hint = "Train again, or delete the file to go on without it."
            raise InputError(f"cannot be read ({problem})", where=path, hint=hint) from error
        if log is not None and legacy:
            log(f"{path}: {path.name} is the deprecated name of {name}; the next fit writes the new file")
        return weights


def delete_weights(folder: Path, name: str = WEIGHTS_FILE) -> None:
    """Delete a file of weights, also one with the old name, if there is one."""
    for file in (name, LEGACY_FILES[name]):
        (folder / file).unlink(missing_ok=True)


def weight_vector(by_name: Mapping[str, float]) -> Floats:
    """Return weights in the order of ``FEATURE_NAMES``; a missing name counts 0. Shape: -> (F,).

    Raises:
        InputError: A name is unknown, or a weight is not finite.
    """
    unknown = [name for name in by_name if name not in FEATURES]
    if unknown:
        raise InputError(f"unknown features: {', '.join(unknown)}", hint=f"Features: {', '.join(FEATURE_NAMES)}.")
    vector = np.array([by_name.get(name, 0.0) for name in FEATURE_NAMES], np.float64)
    if not np.isfinite(vector).all():
        raise InputError("a weight is not a finite number", hint="Give finite weights.")
    return vector


def _parse(content: Any, legacy: bool) -> RerankerWeights:
    """Read the content of a file of weights, by the old names of features and fields if it is a legacy file."""
    expected = LEGACY_FORMAT if legacy else FORMAT
    if content["format"] != expected:
        raise ValueError(f"format {content['format']}, expected {expected}")
    new_names = LEGACY_FEATURES if legacy else {}
    by_name = {new_names.get(name, name): float(value) for name, value in content["weights"].items()}
    weight_vector(by_name)
    before = content.get("before" if legacy else "queries_before_training", 0)
    return RerankerWeights(by_name, int(content["queries"]), int(before))
