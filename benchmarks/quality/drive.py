"""Runs what is asked for and not there yet: seed by seed, method by method, fold by fold."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from m3gal_cli.errors import InputError
from quality.folds import DEV, Plan, Source, labelled, make_fold
from quality.job import Job, Method, Options, short_hash
from quality.ours import clean
from quality.store import Key, Store

TIMED = ("0", DEV)  # folds of which one query at a time is timed


@dataclass(frozen=True)
class Asked:
    """What to run.

    Args:
        labels: numbers of training queries; None: all. Fewer are for methods with a curve alone.
    """

    methods: Sequence[Method]
    folds: Sequence[str]
    seeds: Sequence[int]
    labels: Sequence[int | None]
    plan: Plan


def keys(asked: Asked, options: Options, data: str) -> Iterator[tuple[Method, Key, dict[str, Any]]]:
    """Every run that is asked for, and the settings that its hash is of.

    Args:
        data: what tells these queries and this table from others.
    """
    for seed in asked.seeds:
        for method in asked.methods:
            if not method.seeded and seed != asked.seeds[0]:
                continue
            settings = method.settings(options) | {"plan": vars(asked.plan), "data": data}
            for labels in asked.labels:
                if labels is not None and not method.curve:
                    continue
                for fold in asked.folds:
                    own = seed if method.seeded else 0
                    yield method, Key(method.name, fold, own, labels, short_hash(settings)), settings


def run_all(source: Source, asked: Asked, options: Options, store: Store) -> list[str]:
    """Run what the store does not have. A run that fails is told of, and the others go on.

    Returns:
        What failed, in words.
    """
    wanted = [(m, key, s) for m, key, s in keys(asked, options, fingerprint(source)) if key not in store.done()]
    failed = []
    for number, (method, key, settings) in enumerate(wanted, 1):
        labels = "all" if key.labels is None else key.labels
        name = f"{key.method}, fold {key.fold}, seed {key.seed}, labels {labels}"
        log(f"[{number}/{len(wanted)}] {name}")
        folder = options.folder / "runs" / f"{short_hash(vars(key))}"
        fold = make_fold(source, key.fold, asked.plan)
        # Without labels nothing learns of the training queries, but the way to the model asks for some.
        fold = labelled(fold, key.labels or None)
        began = time.perf_counter()
        try:
            result = method.run(Job(fold, key.seed, key.labels, folder, options, key.fold in TIMED))
        except InputError as error:
            failed.append(f"{name}: {error}")
            log(f"failed: {error}")
            continue
        about = {"settings": settings, "train": 0 if key.labels == 0 else len(fold.train), "val": len(fold.val)}
        store.add(key, fold.ids, result, about | {"seconds": round(time.perf_counter() - began, 1)})
        if not options.keep:
            clean(folder)
    return failed


def fingerprint(source: Source) -> str:
    """Of the queries and the table."""
    queries = [(r.query, r.lng, r.lat, [p.key for p in r.passages]) for r in (*source.train, *source.dev)]
    return short_hash([queries, source.pois[["address", "lng", "lat"]].to_numpy().tolist()])


def log(text: str) -> None:
    """To stderr: stdout carries tables alone."""
    print(text, file=sys.stderr, flush=True)
