"""What a method is given and what it gives back: the one interface of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quality.board import Row
from quality.folds import Fold


@dataclass(frozen=True)
class Options:
    """What all methods are given.

    Args:
        encoder: transformers directory (or hub name) of the text encoder, of the E5 family.
        extract: map extract on whose views a start is pretrained, where a method wants one.
        pretrained: run to start from instead.
        folder: everything is kept in it.
        keep: leave the checkpoints of finished trainings where they are.
    """

    encoder: str
    extract: Path | None
    pretrained: Path | None
    folder: Path
    keep: bool = False


@dataclass(frozen=True)
class Job:
    """One run of a method.

    Args:
        labels: training queries; None: all. The fold holds no others. 0: it holds all, but nothing may learn of them.
        folder: for what the run writes; gone when its result is stored.
        timed: measure milliseconds a query.
    """

    fold: Fold
    seed: int
    labels: int | None
    folder: Path
    options: Options
    timed: bool = False


@dataclass(frozen=True)
class Result:
    """What a run found.

    Args:
        rows: by kind of score; the name "" is the method's own.
        minutes: of training on the labelled queries.
        before: minutes of pretraining, which all folds and seeds share.
    """

    rows: dict[str, Row]
    minutes: float = 0.0
    before: float = 0.0


@dataclass(frozen=True)
class Method:
    """A way to find places.

    Args:
        name: as the table and ``--methods`` say it.
        run: does the work.
        settings: what the result depends on, besides fold and seed.
        seeded: another seed gives another result.
        curve: it is also run with fewer labelled queries.
    """

    name: str
    run: Callable[[Job], Result]
    settings: Callable[[Options], dict[str, Any]] = field(default=lambda options: {})
    seeded: bool = False
    curve: bool = False


def short_hash(value: Any) -> str:
    """Of anything that JSON can say."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
