"""The census of views against brute force, and groups of places against a naive union."""

from __future__ import annotations

import random

import numpy as np
import pytest

from m3gal_cli.osm.uniqueness import NOBODY, ROW, UniquenessIndex, groups_of
from m3gal_cli.osm.views import FULL, Piece, View
from m3gal_cli.text.normalise import reads


def said(kind: str, text: str, key: str | None = None) -> View:
    return View.of(kind, [Piece("name", text, reads(text) if key is None else key)], "")


def uniqueness(places: list[list[tuple[int, View]]]) -> UniquenessIndex:
    found = UniquenessIndex(reads)
    for views in places:
        found.add(views)
    found.close()
    return found


def test_a_text_of_two_places_is_nobodys_and_a_row_always_stays() -> None:
    one = [(ROW, said(FULL, "Bank, Street 1")), (1, said("name", "Bank")), (2, said("door", "Bank Street 1"))]
    two = [(ROW, said(FULL, "Bank, Street 2")), (1, said("name", "BANK")), (2, said("door", "Bank Street 2"))]
    found = uniqueness([one, two])
    assert (found.alone(0), found.alone(1)) == ([ROW], [ROW])  # "Bank Street 1" reads like the row itself
    assert found.owner("bank") == NOBODY
    assert found.owner("bankstreet1") == 0
    assert found.owner("bankstreet3") is None
    assert found.is_row("bankstreet2")
    assert not found.is_row("bank")


def test_two_places_that_say_the_same_in_other_words_are_told_apart_by_key() -> None:
    here, there = said("side", "X路东侧银行", "x路|银行"), said("side", "X路北边银行", "x路|银行")
    found = uniqueness([[(3, here)], [(3, there)]])
    assert found.counts().tolist() == [0, 0]
    assert found.owner(reads("X路东侧银行")) == 0  # the text is here's all the same


@pytest.mark.parametrize("seed", range(20))
def test_census_against_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    words = ["a", "bb", "cc", "DD", "ee ff", "b-b", "gg", "hh", "ii", "jj", "kk"]
    keys = [f"k{n}" for n in range(40)]
    places = []
    for _ in range(rng.randint(1, 12)):
        numbers = sorted(rng.sample(range(8), rng.randint(0, 8)))
        places.append([(n, said(f"t{n}", rng.choice(words) + rng.choice(words), rng.choice(keys))) for n in numbers])
    found = uniqueness(places)
    texts = [[reads(v.text) for _, v in row] for row in places]
    for p, row in enumerate(places):
        elsewhere = {t for q, other in enumerate(texts) if q != p for t in other}
        other_keys = {v.key for q, other in enumerate(places) if q != p for _, v in other}
        kept, seen = [], set()
        for number, view in row:
            reading = reads(view.text)
            alone = reading not in elsewhere and view.key not in other_keys
            if (alone or number == ROW) and reading not in seen:
                kept.append(number)
                seen.add(reading)
        assert found.alone(p) == kept
        assert found.counts()[p] == len(kept)
    rows = {reads(v.text) for row in places for n, v in row if n == ROW}
    for reading in {t for row in texts for t in row} | {"nothing"}:
        owners = [p for p, row in enumerate(texts) if reading in row]
        assert found.owner(reading) == (None if not owners else owners[0] if len(owners) == 1 else NOBODY)
        assert found.is_row(reading) == (reading in rows)


def test_one_letter_tells_no_place() -> None:
    assert uniqueness([[(1, said("name", "A."))], [(1, said("name", "Ab"))]]).counts().tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(10))
def test_groups_against_a_naive_union(seed: int) -> None:
    rng = random.Random(seed)
    readings = [(rng.randrange(30), rng.choice(["", *"abcdefghijklmnop"])) for _ in range(40)]
    group = list(range(30))
    for _ in range(30):
        for a, text in readings:
            for b, other in readings:
                if text and text == other:
                    low = min(group[a], group[b])
                    group = [low if g in (group[a], group[b]) else g for g in group]
    assert groups_of(readings, 30).tolist() == group


def test_groups_of_nothing() -> None:
    assert np.array_equal(groups_of([], 3), [0, 1, 2])
    assert len(groups_of([], 0)) == 0
