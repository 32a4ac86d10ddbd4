"""Held-out queries and what is left to train on.

The rule: for val and test a *kind of view of a place* is held out, e.g. "name + crossing" of one pharmacy. All views of
that kind of that place leave the training table and the training queries; so does any other text that reads the same as
the query or as the view that it was typed from. The place itself stays, with its other views and its POI row, as in a
city whose database is known. No place serves two of the splits val, test.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from m3gal_cli.osm.locales import Locale
from m3gal_cli.osm.noise import typed
from m3gal_cli.osm.uniqueness import UniquenessIndex
from m3gal_cli.osm.views import FULL, View, weighted_order
from m3gal_cli.text.normalise import reads

LEAST_LEFT = 3  # views that a place must keep for training
LARGEST_SHARE = {"test": 0.3, "val": 0.15}  # of the places with views enough
NEAR_SHARE, NEAR_M = 2 / 3, 2000.0


@dataclass(frozen=True)
class Query:
    """A typed query: the place it means, the kind of view behind it, its text."""

    place: int
    kind: str
    text: str


@dataclass
class HeldOut:
    """The queries of val and test, and the readings and (place, kind) pairs that training must not see."""

    queries: dict[str, list[Query]]
    readings: set[str]
    kinds: set[tuple[int, str]]

    def allows(self, place: int, view: View) -> bool:
        """Whether a view may be trained on."""
        return (place, view.kind) not in self.kinds and reads(view.text) not in self.readings


class Typist:
    """Types views: noise that never makes a text fit another place.

    Knows every view, the ambiguous ones too, and remembers what it typed: the first place keeps a text. So the order of
    the calls matters, and the builder keeps to one.
    """

    def __init__(
        self, uniqueness: UniquenessIndex, unique: Sequence[bool], locales: dict[str, Locale], seed: int
    ) -> None:
        self.uniqueness = uniqueness
        self.typed: dict[int, int] = {}
        self.unique = unique
        self.locales = locales
        self.seed = seed

    def type(self, place: int, view: View, strength: float, salt: str) -> str:
        """The view with noise; as it is where noise would make it read like another place's view."""
        rng = random.Random(f"{self.seed}|{salt}|{place}|{view.kind}|{view.text}")
        locale = self.locales[view.kind.partition("@")[2]]
        text = typed(view, locale, rng, strength=strength, sure=self.unique[place])
        reading = reads(text)
        if self.uniqueness.is_row(reading):  # POI rows are trained on: no query may be one
            return view.text
        return text if self.claim(place, reading) else view.text

    def claim(self, place: int, reading: str) -> bool:
        """Whether no other place has a text or typed it before; from now on it is this one's."""
        owner = self.uniqueness.owner(reading)
        if owner is None:
            owner = self.typed.setdefault(hash(reading), place)
        return owner == place


def hold_out(
    views: Sequence[Sequence[View]], counts: Sequence[int], typist: Typist, sizes: dict[str, int], noise: float
) -> HeldOut:
    """Choose places for val and test, and a view of each for the query.

    Args:
        views: The unambiguous views of every place, POI row included.
        counts: How many each place has.
        typist: Puts the noise in.
        sizes: Queries wanted of "test" and "val"; at most ``LARGEST_SHARE`` of those that can spare a view.
        noise: Strength of the noise.
    """
    rng = random.Random(f"{typist.seed}|held out")
    able = [i for i, own in enumerate(counts) if own > LEAST_LEFT + 1]
    enough = len(able)
    rng.shuffle(able)
    held = HeldOut({name: [] for name in sizes}, set(), set())
    for name, wanted in sizes.items():
        most = min(wanted, int(enough * LARGEST_SHARE[name]))
        while able and len(held.queries[name]) < most:
            place = able.pop()
            view = _pick(views[place], rng)
            text = typist.type(place, view, noise, name)
            if reads(text) in held.readings:
                continue
            held.queries[name].append(Query(place, view.kind, text))
            held.readings |= {reads(text), reads(view.text)}
            held.kinds.add((place, view.kind))
    return held


def _pick(views: Sequence[View], rng: random.Random) -> View:
    others = [v for v in views if v.kind != FULL]
    return others[weighted_order([v.weight for v in others], rng)[0]]


def train_queries(
    views: Sequence[Sequence[View]], held: HeldOut, typist: Typist, wanted: int, noise: float
) -> list[Query]:
    """Queries for finetuning: a view of every place, then a second, ... until ``wanted``; no held-out one."""
    places = list(range(len(views)))
    random.Random(f"{typist.seed}|train queries").shuffle(places)
    orders: dict[int, list[View]] = {}
    queries: list[Query] = []
    for round_ in count():
        for place in places:
            if len(queries) >= wanted:
                return queries
            if round_ == 0:
                rng = random.Random(f"{typist.seed}|train|{place}")
                row = [v for v in views[place] if v.kind != FULL and held.allows(place, v)]
                orders[place] = [row[i] for i in weighted_order([v.weight for v in row], rng)]
            if len(orders[place]) > round_:
                view = orders[place][round_]
                text = typist.type(place, view, noise, "train")
                if reads(text) not in held.readings:
                    queries.append(Query(place, view.kind, text))
        places = [place for place in places if len(orders[place]) > round_ + 1]
        if not places:
            break
    return queries


def standpoints(gold: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
    """Where the people are who type: two in three within ``NEAR_M`` of the place (evenly over the disc), the others
    within 500 m of a random place of the city.

    Shape:
        gold: (Q, 2), places: (N, 2) metres east and north -> (Q, 2).
    """
    rng = np.random.default_rng([seed, 7])
    n = len(gold)
    near = rng.random(n) < NEAR_SHARE
    base = np.where(near[:, None], gold, places[rng.integers(0, len(places), n)])
    reach = np.where(near, NEAR_M, 500.0) * np.sqrt(rng.random(n))
    turn = rng.random(n) * 2.0 * np.pi
    return base + np.stack([reach * np.sin(turn), reach * np.cos(turn)], axis=-1)
