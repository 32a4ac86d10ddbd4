"""The queries that methods learn from and are judged by: five folds of all of them, and the dev set as it is given.

Every query of the folds is a test query once. Of what is not tested some queries are kept for validation: they choose
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
from m3gal_cli.data.records import Record, read_records, write_records
from m3gal_cli.data.tables import read_pois, write_pois
from m3gal_cli.errors import InputError

DEV = "dev"
VAL_FILE, TEST_FILE = "val_dataset_use_gis.jsonl", "test_dataset_use_gis.jsonl"


@dataclass(frozen=True)
class Plan:
    """How queries are shared out.

    Args:
        folds: how many.
        validation: queries kept for validation in each.
        seed: of the order of the queries.
    """

    folds: int = 5
    validation: int = 64
    seed: int = 2023


@dataclass(frozen=True)
class Fold:
    """Queries to train on, to validate by and to test, and the whole POI table.

    Args:
        name: "0", "1", … or "dev".
        ids: of the test queries: their numbers among all, those of train first; a query has one id in all folds.
        train: the queries that may be learned from, the first so many of them where labels are few.
    """

    name: str
    ids: list[int]
    train: list[Record]
    val: list[Record]
    test: list[Record]
    pois: pd.DataFrame


@dataclass(frozen=True)
class Source:
    """A GeoTES folder: ``train_dataset.jsonl``, ``dev_dataset.jsonl``, ``poi_database.csv``. Raises InputError."""

    folder: Path

    @cached_property
    def train(self) -> list[Record]:
        return read_records(self.folder / "train_dataset.jsonl")

    @cached_property
    def dev(self) -> list[Record]:
        return read_records(self.folder / "dev_dataset.jsonl")

    @cached_property
    def pois(self) -> pd.DataFrame:
        return read_pois(self.folder / POIS_FILE)


def make_fold(source: Source, name: str, plan: Plan) -> Fold:
    """The fold of this name. Raises InputError where there is none, or where too few queries are left to train on."""
    check_fold(name, plan)
    records = [*source.train, *source.dev]
    generator = np.random.default_rng(plan.seed)
    if name == DEV:
        order = generator.permutation(len(source.train)).tolist()
        test = list(range(len(source.train), len(records)))
        rest = order
    else:
        order = generator.permutation(len(records)).tolist()
        number = int(name)
        test = order[number :: plan.folds]
        rest = [i for at, i in enumerate(order) if at % plan.folds != number]
    if len(rest) <= plan.validation:
        what = f"{len(rest)} queries besides those of the test, {plan.validation} of them for validation"
        raise InputError(f"{what}: none is left to train on", where=source.folder)
    val, train = rest[: plan.validation], rest[plan.validation :]

    def of(numbers: list[int]) -> list[Record]:
        return [records[i] for i in numbers]

    return Fold(name, test, of(train), of(val), of(test), source.pois)


def fold_names(plan: Plan) -> list[str]:
    """Names of all folds, dev last."""
    return [*(str(i) for i in range(plan.folds)), DEV]


def check_fold(name: str, plan: Plan) -> None:
    """Raise InputError where there is no such fold."""
    if name not in fold_names(plan):
        raise InputError(f"no fold {name!r}", hint=f"Folds: {', '.join(fold_names(plan))}.")


def labelled(fold: Fold, labels: int | None) -> Fold:
    """The fold with the first ``labels`` of its training queries; None, or more than there are: with all."""
    return fold if labels is None else replace(fold, train=fold.train[:labels])


def trainable(records: Sequence[Record]) -> list[Record]:
    """Records without negatives that equal their gold, which must not be learned as wrong."""
    return without_gold_negatives(records, [])


def write_fold(fold: Fold, folder: Path) -> Path:
    """Write a fold under the published names, as ``--data-dir`` takes it. Returns the folder."""
    write_records(trainable(fold.train), folder / TRAIN_FILE)
    write_records(fold.val, folder / VAL_FILE)
    write_records(fold.test, folder / TEST_FILE)
    write_pois(fold.pois, folder / POIS_FILE)
    return folder
