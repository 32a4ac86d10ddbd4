"""The split of labelled queries by a hash of their text."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest

from m3gal_cli.data.label_splits import SplitRule, assign_splits, position
from m3gal_cli.data.labels import LabelledQuery
from m3gal_cli.errors import InputError


def queries(count: int, first: int = 0, split: str | None = None) -> list[LabelledQuery]:
    return [LabelledQuery(f"query {i}", split=split) for i in range(first, first + count)]


def test_the_position_is_the_hash_of_seed_and_text() -> None:
    digest = hashlib.blake2b(b"2023|query1", digest_size=8).hexdigest()
    assert position("query1", 2023) == int(digest, 16) / 2**64


def test_later_labels_move_no_query_into_or_out_of_test() -> None:
    few, many = assign_splits(queries(100), SplitRule()), assign_splits(queries(3000), SplitRule())
    assert [s == "test" for s in few] == [s == "test" for s in many[:100]]
    assert all(later in ("train", "val") for now, later in zip(few, many, strict=False) if now == "val")
    assert many.count("test") == pytest.approx(600, abs=70)  # 3.2 standard deviations
    assert many.count("val") == 300


@pytest.mark.parametrize(("count", "val"), [(20, 8), (60, 24), (100, 25), (240, 25), (1000, 100)])
def test_val_has_a_tenth_but_25_queries_and_at_most_half_of_the_rest(count: int, val: int) -> None:
    splits = assign_splits(queries(count), SplitRule())
    rest = count - splits.count("test")
    assert splits.count("val") == min(max(25, round(count / 10)), rest // 2)
    assert splits.count("val") == pytest.approx(val, abs=3)


def test_shares_and_seed_are_options() -> None:
    splits = Counter(assign_splits(queries(2000), SplitRule(0.3, 0.5)))
    assert splits["val"] == 600
    assert splits["test"] == pytest.approx(1000, abs=75)
    assert Counter(assign_splits(queries(50), SplitRule(0.0, 0.0))) == {"train": 50}
    assert assign_splits(queries(99), SplitRule(seed=1)) != assign_splits(queries(99), SplitRule(seed=2))
    assert assign_splits(queries(99), SplitRule(seed=1)) == assign_splits(queries(99), SplitRule(seed=1))
    for rule in (SplitRule(1.0), SplitRule(test=-0.1), SplitRule(seed=-1)):
        with pytest.raises(InputError):
            rule.check()


def test_texts_that_read_the_same_and_other_locations_share_a_split() -> None:
    variants = [
        LabelledQuery(f"{name} {i}{end}", *place)
        for i in range(50)
        for name, end, place in (("Café", "", (None, None)), ("CAFÉ", "!", (None, None)), ("café", ".", (24.9, 60.1)))
    ]
    splits = assign_splits(variants, SplitRule())
    assert splits[::3] == splits[1::3] == splits[2::3]
    assert set(splits) == {"train", "val", "test"}


def test_a_given_split_is_kept_and_not_drawn() -> None:
    own = [*queries(40, split="train"), *queries(10, 40, "test")]
    splits = assign_splits(own, SplitRule())
    assert splits[40:] == ["test"] * 10
    assert Counter(splits[:40]) == {"val": 20, "train": 20}
    mixed = assign_splits([*own, *queries(500, 50), *queries(5, 550, "val")], SplitRule())
    assert mixed[:50] == ["train"] * 40 + ["test"] * 10
    assert mixed[50:550] == ["train"] * 500
    assert assign_splits(own, SplitRule(keep=True)) == ["train"] * 40 + ["test"] * 10
