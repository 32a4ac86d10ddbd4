"""Division of queries into folds: no test query is trained on, and the division is reproducible."""

from __future__ import annotations

from pathlib import Path

import pytest
from quality.folds import Dataset, SplitPlan, fold_names, make_fold, with_labels, write_fold

from m3gal_cli.config.load import load_config
from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.records import read_records
from m3gal_cli.errors import InputError

PLAN = SplitPlan(validation=6)


def test_each_query_is_tested_once_and_never_trained_on_in_its_fold(geotes: Path) -> None:
    dataset = Dataset(geotes)
    queries = [r.query for r in (*dataset.train, *dataset.dev)]
    folds = [make_fold(dataset, name, PLAN) for name in fold_names(PLAN)[:-1]]
    again, other = (make_fold(Dataset(geotes), "0", plan).ids for plan in (PLAN, SplitPlan(validation=6, seed=1)))
    assert folds[0].ids == again != other
    assert sorted(i for fold in folds for i in fold.ids) == list(range(40))
    for fold in folds:
        parts = [[r.query for r in part] for part in (fold.train, fold.val, fold.test)]
        assert [len(part) for part in parts] == [26, 6, 8]
        assert sorted(query for part in parts for query in part) == sorted(queries)
        assert parts[2] == [queries[i] for i in fold.ids]
        assert len(fold.pois) == 33
    dev = make_fold(dataset, "dev", PLAN)
    assert (dev.test, dev.ids, len(dev.val)) == (dataset.dev, list(range(30, 40)), 6)
    assert sorted(r.query for r in (*dev.val, *dev.train)) == sorted(r.query for r in dataset.train)


def test_fewer_labels_are_the_first_training_queries(geotes: Path) -> None:
    fold = make_fold(Dataset(geotes), "1", PLAN)
    assert with_labels(fold, 5).train == fold.train[:5]
    assert with_labels(fold, None).train == with_labels(fold, 999).train == fold.train
    assert (with_labels(fold, 5).val, with_labels(fold, 5).test) == (fold.val, fold.test)


def test_a_written_fold_is_found_under_the_published_file_names(geotes: Path, tmp_path: Path) -> None:
    fold = make_fold(Dataset(geotes), "2", PLAN)
    fold.train[0].negatives.append(fold.train[0].positives[0])  # a false negative
    data = load_config(None, {"data.dir": str(write_fold(fold, tmp_path / "fold"))}).data
    read = {name: read_records(find_records(data, name) or Path()) for name in ("train", "val", "test")}
    for name, records in {"train": fold.train, "val": fold.val, "test": fold.test}.items():
        assert [r.query for r in read[name]] == [r.query for r in records]
    assert all(p.key not in r.gold for r in read["train"] for p in r.negatives)
    assert len(read["train"][0].negatives) == len(fold.train[0].negatives) - 1
    assert read["test"] == fold.test
    assert read_pois(find_pois(data) or Path())["address"].tolist() == fold.pois["address"].tolist()


def test_unknown_folds_and_folds_without_training_queries_are_refused(geotes: Path) -> None:
    with pytest.raises(InputError, match="no fold '5'"):
        make_fold(Dataset(geotes), "5", PLAN)
    with pytest.raises(InputError, match="none is left to train on"):
        make_fold(Dataset(geotes), "dev", SplitPlan(validation=30))
