"""The uniqueness index against brute force, and groups of places against a naive union."""

from __future__ import annotations

import random

import pytest

from m3gal_cli.osm.uniqueness import AMBIGUOUS, POI_ROW, UniquenessIndex, group_by_key
from m3gal_cli.osm.views import View, ViewPart
from m3gal_cli.text.normalise import reading_key


def view(kind: str, text: str, key: str | None = None) -> View:
    return View.of(kind, [ViewPart("name", text, reading_key(text) if key is None else key)], "")


def index_of(places: list[list[tuple[int, View]]]) -> UniquenessIndex:
    index = UniquenessIndex()
    for views in places:
        index.add(views)
    index.close()
    return index


def test_views_of_equal_content_are_ambiguous_whatever_their_wording() -> None:
    here, there = view("side", "X路东侧银行", "x路|银行"), view("side", "X路北边银行", "x路|银行")
    index = index_of([[(3, here)], [(3, there)], [(1, view("name", "A."))]])  # a text of one letter is never unique
    assert index.counts().tolist() == [0, 0, 0]
    assert index.owner(reading_key("X路东侧银行")) == 0  # the text has one owner all the same


@pytest.mark.parametrize("seed", range(5))
def test_uniqueness_is_that_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    words = ["a", "bb", "cc", "DD", "ee ff", "b-b", "gg", "hh", "ii", "jj", "kk"]
    keys = [f"k{n}" for n in range(40)]
    places = []
    for _ in range(rng.randint(1, 12)):
        numbers = sorted(rng.sample(range(8), rng.randint(0, 8)))
        places.append([(n, view(f"t{n}", rng.choice(words) + rng.choice(words), rng.choice(keys))) for n in numbers])
    index = index_of(places)
    texts = [[reading_key(v.text) for _, v in row] for row in places]
    for p, row in enumerate(places):
        elsewhere = {t for q, other in enumerate(texts) if q != p for t in other}
        contents = {v.content for q, other in enumerate(places) if q != p for _, v in other}
        kept, seen = [], set()
        for number, one in row:
            key = reading_key(one.text)
            unique = key not in elsewhere and one.content not in contents
            if (unique or number == POI_ROW) and key not in seen:
                kept.append(number)
                seen.add(key)
        assert index.unique_views(p) == kept
        assert index.counts()[p] == len(kept)
    rows = {reading_key(v.text) for row in places for n, v in row if n == POI_ROW}
    for key in {t for row in texts for t in row} | {"nothing"}:
        owners = [p for p, row in enumerate(texts) if key in row]
        assert index.owner(key) == (None if not owners else owners[0] if len(owners) == 1 else AMBIGUOUS)
        assert index.is_poi_row(key) == (key in rows)


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_a_naive_union(seed: int) -> None:
    rng = random.Random(seed)
    keys = [(rng.randrange(30), rng.choice(["", *"abcdefghijklmnop"])) for _ in range(40)]
    group = list(range(30))
    for _ in range(30):
        for a, text in keys:
            for b, other in keys:
                if text and text == other:
                    low = min(group[a], group[b])
                    group = [low if g in (group[a], group[b]) else g for g in group]
    assert group_by_key(keys, 30).tolist() == group
    assert group_by_key([], 3).tolist() == [0, 1, 2]
