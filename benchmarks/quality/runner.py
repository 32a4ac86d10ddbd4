"""Runner of the jobs that have no stored result yet: seed by seed, method by method, fold by fold."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m3gal_cli.errors import InputError
from quality.folds import DEV, Dataset, SplitPlan, make_fold, with_labels
from quality.interface import Job, Method, Options, short_hash
from quality.m3gal_methods import delete_run
from quality.result_store import ResultStore, RunKey

TIMED_FOLDS = ("0", DEV)  # folds in which the latency of single queries is measured


@dataclass(frozen=True)
class RunGrid:
    """The runs to do: every combination of these.

    Attributes:
        methods: Methods. Those without a random seed run for the first seed only.
        folds: Names of folds.
        seeds: Random seeds.
        labels: Numbers of training queries; None: all. Fewer apply only to methods with a label curve.
        plan: How queries are divided into folds.
    """

    methods: Sequence[Method]
    folds: Sequence[str]
    seeds: Sequence[int]
    labels: Sequence[int | None]
    plan: SplitPlan


def planned_runs(grid: RunGrid, options: Options, data: str) -> Iterator[tuple[Method, RunKey, dict[str, Any]]]:
    """Yield each run with its key and the settings that the key's hash covers.

    Args:
        grid: The runs to do.
        options: Options that all methods share.
        data: Fingerprint of the queries and the POI table.
    """
    for seed in grid.seeds:
        for method in grid.methods:
            if not method.seeded and seed != grid.seeds[0]:
                continue
            settings = method.settings(options) | {"plan": vars(grid.plan), "data": data}
            for labels in grid.labels:
                if labels is not None and not method.curve:
                    continue
                for fold in grid.folds:
                    own = seed if method.seeded else 0
                    yield method, RunKey(method.name, fold, own, labels, short_hash(settings)), settings


def run_missing(dataset: Dataset, grid: RunGrid, options: Options, store: ResultStore) -> list[str]:
    """Run all jobs without a stored result. A failed run is logged, and the others continue.

    Returns:
        One message per failed run.
    """
    known = store.keys()
    runs = [run for run in planned_runs(grid, options, dataset_fingerprint(dataset)) if run[1] not in known]
    failed = []
    for number, (method, key, settings) in enumerate(runs, 1):
        labels = "all" if key.labels is None else key.labels
        name = f"{key.method}, fold {key.fold}, seed {key.seed}, labels {labels}"
        log(f"[{number}/{len(runs)}] {name}")
        folder = options.folder / "runs" / short_hash(vars(key))
        fold = make_fold(dataset, key.fold, grid.plan)
        # With 0 labels nothing is trained, but m3gal finetune still needs training records to create the model.
        fold = with_labels(fold, key.labels or None)
        start = time.perf_counter()
        try:
            result = method.run(Job(fold, key.seed, key.labels, folder, options, key.fold in TIMED_FOLDS))
        except InputError as error:
            failed.append(f"{name}: {error}")
            log(f"failed: {error}")
            continue
        about = {"settings": settings, "train": 0 if key.labels == 0 else len(fold.train), "val": len(fold.val)}
        store.add(key, fold.ids, result, about | {"seconds": round(time.perf_counter() - start, 1)})
        if not options.keep:
            delete_run(folder)
    return failed


def dataset_fingerprint(dataset: Dataset) -> str:
    """Return a hash of the queries and the POI table."""
    queries = [(r.query, r.lng, r.lat, [p.key for p in r.passages]) for r in (*dataset.train, *dataset.dev)]
    return short_hash([queries, dataset.pois[["address", "lng", "lat"]].to_numpy().tolist()])


def log(message: str) -> None:
    """Print a message to stderr; stdout carries only tables."""
    print(message, file=sys.stderr, flush=True)
