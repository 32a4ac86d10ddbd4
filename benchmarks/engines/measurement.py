"""Measure engines on labelled sets: recall, milliseconds, memory. Stored measurements are not repeated."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality.sets import LabelledSet

from engines.engine import Answers, Engine, OpenEngine
from m3gal_cli.evaluation.metrics import mrr_at, recall_at
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.matching.candidate_table import query_of

RECALL_AT, MRR_AT = (1, 5, 20), 5


def rank_metrics_of(ranks: NDArray[np.int64]) -> dict[str, float]:
    """Return recall@1, 5 and 20 and MRR@5. Shape: (Q,)."""
    return {f"recall@{k}": recall_at(ranks, k) for k in RECALL_AT} | {f"mrr@{MRR_AT}": mrr_at(ranks, MRR_AT)}


def answer_rank(answers: Answers, gold: NDArray[np.bool_]) -> int:
    """Return the rank of the best gold among the answers; wrong answers with the same score are before it.

    Args:
        answers: Rows with their scores; rows below 0 are not in the table.
        gold: (N,), whether a row is gold.
    """
    right = [row >= 0 and bool(gold[row]) for row, _ in answers]
    best = max((score for (_, score), own in zip(answers, right, strict=True) if own), default=None)
    if best is None:
        return int(MISS)
    return 1 + sum(score >= best and not own for (_, score), own in zip(answers, right, strict=True))


def measure(engine: OpenEngine, labelled: LabelledSet) -> dict[str, Any]:
    """Return the metrics of a set's queries, answered one at a time, with milliseconds and memory."""
    ranks, seconds = [], []
    gold = labelled.evaluation.gold
    for record, own in zip(labelled.records, gold, strict=True):
        start = time.perf_counter()
        answers = engine.search(query_of(record))
        seconds.append(time.perf_counter() - start)
        ranks.append(answer_rank(answers, own))
    times = {"ms": 1000 * statistics.median(seconds), "ms_95": 1000 * float(np.quantile(seconds, 0.95))}
    about = {"memory_mb": engine.memory_mb(), "version": engine.version}
    return rank_metrics_of(np.array(ranks)) | times | about


def measure_sets(engine: Engine, sets: Sequence[LabelledSet]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each set with its measurement, or with ``error`` if the engine failed.

    A table that several sets share is indexed once. Sets that the engine cannot be measured on are left out.
    """
    remaining = [labelled for labelled in sets if engine.has(labelled.name)]
    for labelled in [s for s in remaining if s.among_candidates]:
        remaining.remove(labelled)
        if engine.rank_candidates is not None:
            yield from _measured(engine, [labelled])
    while remaining:
        group = [labelled for labelled in remaining if labelled.pois.equals(remaining[0].pois)]
        remaining = [labelled for labelled in remaining if labelled not in group]
        yield from _measured(engine, group)


def _measured(engine: Engine, group: Sequence[LabelledSet]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the measurements of sets with the same table, or of one set with candidates."""
    names = [labelled.name for labelled in group]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # a server may run as another user
        try:
            if group[0].among_candidates and engine.rank_candidates is not None:
                yield names[0], engine.rank_candidates(group[0], Path(folder))
                return
            with engine.open(group[0].pois, Path(folder)) as opened:
                for labelled in group:
                    further = {} if engine.further is None else engine.further(labelled, Path(folder))
                    yield labelled.name, measure(opened, labelled) | further
                    names.pop(0)
        except Exception as error:  # noqa: BLE001  # the client of each engine has its own exceptions
            yield from ((name, {"error": f"{type(error).__name__}: {error}"}) for name in names)
