"""Division of the labelled queries: five folds of all queries, and the official dev set.

Each query is a test query of exactly one fold. Some of the other queries are kept for validation: they select
checkpoints and weights, and nothing is trained on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.data.geotes import POIS_FILE, TRAIN_FILE, without_gold_negatives
from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.records import Record, read_records, write_records
from m3gal_cli.data.tables import write_pois
from m3gal_cli.errors import InputError

DEV = "dev"
VAL_FILE, TEST_FILE = "val_dataset_use_gis.jsonl", "test_dataset_use_gis.jsonl"


@dataclass(frozen=True)
class SplitPlan:
    """A plan for dividing the queries.

    Attributes:
        folds: Number of folds.
        validation: Number of validation queries in each fold.
        seed: Random seed for the order of the queries.
    """

    folds: int = 5
    validation: int = 64
    seed: int = 2023


@dataclass(frozen=True)
class Fold:
    """Training, validation and test queries, and the whole POI table.

    Attributes:
        name: "0", "1", … or "dev".
        ids: Positions of the test queries among all queries, train before dev. A query has the same id in all folds.
        train: Training queries.
        val: Validation queries.
        test: Test queries.
        pois: The POI table.
    """

    name: str
    ids: list[int]
    train: list[Record]
    val: list[Record]
    test: list[Record]
    pois: pd.DataFrame


@dataclass(frozen=True)
class Dataset:
    """A GeoTES folder with ``train_dataset.jsonl``, ``dev_dataset.jsonl`` and ``poi_database.csv``."""

    folder: Path

    @cached_property
    def train(self) -> list[Record]:
        """Queries of the training file. Raises InputError for an invalid file."""
        return read_records(self.folder / "train_dataset.jsonl")

    @cached_property
    def dev(self) -> list[Record]:
        """Queries of the dev file. Raises InputError for an invalid file."""
        return read_records(self.folder / "dev_dataset.jsonl")

    @cached_property
    def pois(self) -> pd.DataFrame:
        """The POI table. Raises InputError for an invalid file."""
        return read_pois(self.folder / POIS_FILE)


def make_fold(dataset: Dataset, name: str, plan: SplitPlan) -> Fold:
    """Return the fold of this name. Raises InputError for an unknown name, or if no training query would remain."""
    check_fold(name, plan)
    records = [*dataset.train, *dataset.dev]
    generator = np.random.default_rng(plan.seed)
    if name == DEV:
        rest = generator.permutation(len(dataset.train)).tolist()
        test = list(range(len(dataset.train), len(records)))
    else:
        order = generator.permutation(len(records)).tolist()
        test = order[int(name) :: plan.folds]
        rest = [i for position, i in enumerate(order) if position % plan.folds != int(name)]
    if len(rest) <= plan.validation:
        message = f"{len(rest)} queries besides the test queries, {plan.validation} of them for validation"
        raise InputError(f"{message}: none is left to train on", where=dataset.folder, hint="Lower --validation.")
    val, train = rest[: plan.validation], rest[plan.validation :]
    parts = ([records[i] for i in part] for part in (train, val, test))
    return Fold(name, test, *parts, dataset.pois)


def fold_names(plan: SplitPlan) -> list[str]:
    """Return the names of all folds, dev last."""
    return [*(str(i) for i in range(plan.folds)), DEV]


def check_fold(name: str, plan: SplitPlan) -> None:
    """Raise InputError for an unknown fold name."""
    if name not in fold_names(plan):
        raise InputError(f"no fold {name!r}", where="--folds", hint=f"Folds: {', '.join(fold_names(plan))}.")


def with_labels(fold: Fold, labels: int | None) -> Fold:
    """Return the fold with only its first ``labels`` training queries; None: with all."""
    return fold if labels is None else replace(fold, train=fold.train[:labels])


def without_false_negatives(records: Sequence[Record]) -> list[Record]:
    """Return training records without the negatives that equal a positive."""
    return without_gold_negatives(records, [])


def write_fold(fold: Fold, folder: Path) -> Path:
    """Write a fold under the file names that ``--data-dir`` expects, and return the folder."""
    write_records(without_false_negatives(fold.train), folder / TRAIN_FILE)
    write_records(fold.val, folder / VAL_FILE)
    write_records(fold.test, folder / TEST_FILE)
    write_pois(fold.pois, folder / POIS_FILE)
    return folder
