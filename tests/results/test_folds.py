"""Queries are shared out so that nothing is judged that was learned from, and always in the same way."""

from __future__ import annotations

from pathlib import Path

import pytest
from quality.folds import Plan, Source, fold_names, labelled, make_fold, write_fold

from m3gal_cli.config.load import load_config
from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.data.records import read_records
from m3gal_cli.data.tables import read_pois
from m3gal_cli.errors import InputError

PLAN = Plan(validation=6)


def test_every_query_is_tested_once_and_never_learned_from(geotes: Path) -> None:
    source = Source(geotes)
    everything = [r.query for r in (*source.train, *source.dev)]
    folds = [make_fold(source, name, PLAN) for name in fold_names(PLAN)[:-1]]
    assert sorted(i for fold in folds for i in fold.ids) == list(range(40))
    for fold in folds:
        parts = [[r.query for r in part] for part in (fold.train, fold.val, fold.test)]
        assert [len(part) for part in parts] == [26, 6, 8]
        assert sorted(query for part in parts for query in part) == sorted(everything)
        assert parts[2] == [everything[i] for i in fold.ids]
        assert len(fold.pois) == 33


def test_the_dev_set_is_tested_as_it_is_given(geotes: Path) -> None:
    source = Source(geotes)
    fold = make_fold(source, "dev", PLAN)
    assert [r.query for r in fold.test] == [r.query for r in source.dev]
    assert fold.ids == list(range(30, 40))
    learned = [r.query for r in (*fold.val, *fold.train)]
    assert len(fold.val) == 6
    assert sorted(learned) == sorted(r.query for r in source.train)


def test_the_order_is_drawn_and_depends_on_the_seed_alone(geotes: Path) -> None:
    first, again = (make_fold(Source(geotes), "0", PLAN).ids for _ in range(2))
    other = make_fold(Source(geotes), "0", Plan(validation=6, seed=1)).ids
    assert first == again != other
    assert first != sorted(first)


def test_few_labels_are_the_first_of_more(geotes: Path) -> None:
    fold = make_fold(Source(geotes), "1", PLAN)
    assert labelled(fold, 5).train == fold.train[:5] == labelled(fold, 9).train[:5]
    assert labelled(fold, None).train == labelled(fold, 999).train == fold.train
    assert (labelled(fold, 5).val, labelled(fold, 5).test) == (fold.val, fold.test)


def test_a_written_fold_is_found_under_the_published_names(geotes: Path, tmp_path: Path) -> None:
    fold = make_fold(Source(geotes), "2", PLAN)
    fold.train[0].negatives.append(fold.train[0].positives[0])  # the gold again, among the negatives
    data = load_config(None, {"data.dir": str(write_fold(fold, tmp_path / "fold"))}).data
    read = {name: read_records(find_records(data, name) or Path()) for name in ("train", "val", "test")}
    wanted = {"train": fold.train, "val": fold.val, "test": fold.test}
    for name, records in wanted.items():
        assert [r.query for r in read[name]] == [r.query for r in records]
    assert all(p.key not in r.gold for r in read["train"] for p in r.negatives)
    assert len(read["train"][0].negatives) == len(fold.train[0].negatives) - 1
    assert read["test"] == fold.test
    pois = read_pois(find_pois(data) or Path())
    assert pois["address"].tolist() == fold.pois["address"].tolist()


def test_what_cannot_be_shared_out(geotes: Path) -> None:
    with pytest.raises(InputError, match="no fold '5'"):
        make_fold(Source(geotes), "5", PLAN)
    with pytest.raises(InputError, match="none is left to train on"):
        make_fold(Source(geotes), "dev", Plan(validation=30))
