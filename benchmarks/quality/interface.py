"""The interface of all methods: a method receives a Job and returns a Result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quality.evaluation_set import ScoreResult
from quality.folds import Fold


@dataclass(frozen=True)
class Options:
    """Options that all methods share.

    Attributes:
        encoder: transformers directory or hub name of an E5 text encoder.
        extract: Map extract from which views are built, for methods that pretrain.
        pretrained: Run to start from instead of pretraining.
        folder: Folder for results and runs.
        keep: Whether to keep the checkpoints of finished runs.
    """

    encoder: str
    extract: Path | None
    pretrained: Path | None
    folder: Path
    keep: bool = False


@dataclass(frozen=True)
class Job:
    """One run of a method.

    Attributes:
        fold: The data. With ``labels`` > 0 it holds only that many training queries.
        seed: Random seed.
        labels: Number of training queries; None: all; 0: no training.
        folder: Folder for the files of the run, deleted when its result is stored.
        options: Options that all methods share.
        timed: Whether to measure milliseconds per query.
    """

    fold: Fold
    seed: int
    labels: int | None
    folder: Path
    options: Options
    timed: bool = False


@dataclass(frozen=True)
class Result:
    """Result of one run.

    Attributes:
        rows: Results by kind of score; "" is the only kind of a method with one.
        minutes: Minutes of training on the labelled queries.
        before: Minutes of pretraining, which all folds and seeds share.
    """

    rows: dict[str, ScoreResult]
    minutes: float = 0.0
    before: float = 0.0


@dataclass(frozen=True)
class Method:
    """A retrieval method.

    Attributes:
        name: Name in the table and for ``--methods``.
        run: Function that runs a job.
        settings: Returns everything that the result depends on besides fold, seed and labels.
        seeded: Whether the result depends on the seed.
        curve: Whether the method is also run with fewer labelled queries.
    """

    name: str
    run: Callable[[Job], Result]
    settings: Callable[[Options], dict[str, Any]] = field(default=lambda options: {})
    seeded: bool = False
    curve: bool = False


def short_hash(value: Any) -> str:
    """Return 12 hexadecimal digits of the SHA-256 of a value's JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
