"""Classification of errors by made-up examples, and the error report."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from quality.errors import BRANCH, NUMBER, OTHER, REFERENCE, SIMILAR, error_kind, errors_of

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import MISS


@pytest.mark.parametrize(
    ("query", "gold", "found", "kind"),
    [
        ("mill lane", "Mill Lane 3, shop", "mill-lane 3 (shop)", SIMILAR),
        ("桃花里3幢", "桃花里小区3幢,住宅区,青石路8号,东区", "桃花里小区5幢,住宅区,青石路8号,东区", NUMBER),
        ("桃花里北门", "桃花里(西北1门),出入口,青石路8号,东区", "桃花里(东门),出入口,竹溪路19号,东区", NUMBER),
        ("面馆", "老王面馆(青石路店),餐饮,青石路8号,东区", "老王面馆(竹溪店),餐饮,竹溪路19号,西区", BRANCH),
        ("白塔大厦对面的药店", "康宁药房,医药,青石路8号,东区", "白塔大厦,楼宇,竹溪路1号,东区", REFERENCE),
        ("a", "康宁药房", "a", OTHER),  # a name of one letter is no reference
    ],
)
def test_errors_are_classified(query: str, gold: str, found: str, kind: str) -> None:
    assert error_kind(query, gold, found) == kind


POIS = pd.DataFrame({"address": ["castle", "mill"], "lng": [24.0, 24.0], "lat": [60.0, 60.1]})
RECORDS = [
    Record("the mill", [Passage("mill", 24.0, 60.1)], [], lng=24.0, lat=60.1),
    Record("mill by the castle", [Passage("mill", 24.0, 60.1)], []),
    Record("harbour", [Passage("harbour", 24.0, 60.0)], []),
]


def stored_line(seed: int, ranks: list[int], found: list[int] | None, labels: int | None = None) -> dict[str, Any]:
    row: dict[str, Any] = {"ranks": ranks} | ({} if found is None else {"found": found})
    return {"method": "m", "seed": seed, "labels": labels, "ids": [0, 1, 2], "rows": {"": row, "x": {"ranks": ranks}}}


def test_errors_are_those_of_the_lowest_seed_with_all_labels() -> None:
    second, few = stored_line(2, [5, 1, 1], [0, 1, 0]), stored_line(1, [9, 9, 9], [0, 0, 0], labels=50)
    lines = [second, stored_line(1, [1, 2, MISS], [1, 0, 0]), few]
    errors = {error.query: error for error in errors_of(lines, "m", RECORDS, POIS)}
    assert set(errors) == {"mill by the castle", "harbour"}  # "the mill" is wrong with the second seed only
    first = errors["mill by the castle"]
    assert (first.gold, first.found, first.rank, first.kind) == ("mill", "castle", 2, REFERENCE)
    assert first.distance_m == pytest.approx(11_119.5, rel=1e-3)
    assert math.isnan(first.query_m)
    assert errors["harbour"].rank is None
    [mill] = errors_of([second], "m", RECORDS, POIS)
    assert mill.query_m == pytest.approx(0, abs=0.1)


def test_rows_without_stored_matches_are_refused() -> None:
    with pytest.raises(InputError, match="are not stored"):
        errors_of([stored_line(1, [2, 2, 1], None)], "m: x", RECORDS, POIS)
