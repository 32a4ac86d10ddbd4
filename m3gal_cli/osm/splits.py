"""Queries of the splits train, val and test.

For val and test, one kind of view of a place is held out, for example "name + crossing" of one pharmacy. Training pairs
and training queries contain no view of that kind of that place. They contain no text with the reading key of the query
or of its view either. The place stays in the POI table and keeps its other views. Val and test share no place.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from m3gal_cli.osm.city import City
from m3gal_cli.osm.locales import POI_KIND
from m3gal_cli.osm.noise import CollisionFreeNoise
from m3gal_cli.osm.views import View, weighted_order
from m3gal_cli.text.normalise import reading_key

MIN_TRAIN_VIEWS = 3  # views that a place keeps for training
MAX_SHARE = {"test": 0.3, "val": 0.15}  # of the places with enough views
NEAR_SHARE, NEAR_M, FAR_PLACE_M = 2 / 3, 2000.0, 500.0


@dataclass(frozen=True)
class Query:
    """A query: the number of its place, the kind of its view, its text."""

    place: int
    kind: str
    text: str


@dataclass
class HeldOut:
    """The queries of val and test, and the reading keys and (place, kind) pairs that training must not contain."""

    queries: dict[str, list[Query]]
    keys: set[str]
    kinds: set[tuple[int, str]]

    def allows(self, place: int, view: View) -> bool:
        """Return whether training may contain a view."""
        return (place, view.kind) not in self.kinds and reading_key(view.text) not in self.keys


def hold_out(city: City, counts: np.ndarray, noise: CollisionFreeNoise, sizes: Mapping[str, int]) -> HeldOut:
    """Draw the places of val and test, and a view of each for its query.

    Args:
        city: The city.
        counts: (N,) number of unique views of each place.
        noise: Adds noise to the queries.
        sizes: Number of queries of "test" and "val"; ``MAX_SHARE`` limits them.
    """
    rng = random.Random(f"{noise.seed}|held out")
    places = np.flatnonzero(counts > MIN_TRAIN_VIEWS + 1).tolist()
    enough = len(places)
    rng.shuffle(places)
    held_out = HeldOut({name: [] for name in sizes}, set(), set())
    for name, wanted in sizes.items():
        most = min(wanted, int(enough * MAX_SHARE[name]))
        while places and len(held_out.queries[name]) < most:
            place = places.pop()
            view = _order([v for v in city.views(place) if v.kind != POI_KIND], rng)[0]
            text = noise.apply(place, view, name)
            if reading_key(text) in held_out.keys:
                continue
            held_out.queries[name].append(Query(place, view.kind, text))
            held_out.keys |= {reading_key(text), reading_key(view.text)}
            held_out.kinds.add((place, view.kind))
    return held_out


def _order(views: Sequence[View], rng: random.Random) -> list[View]:
    return [views[i] for i in weighted_order([v.weight for v in views], rng)]


def train_queries(city: City, held_out: HeldOut, noise: CollisionFreeNoise, wanted: int) -> list[Query]:
    """Return up to ``wanted`` queries without held-out views: one for every place, then a second, ..."""
    places = list(range(len(city)))
    random.Random(f"{noise.seed}|train queries").shuffle(places)
    orders: dict[int, list[View]] = {}
    queries: list[Query] = []
    turn = 0
    while places:
        for place in places:
            if len(queries) >= wanted:
                return queries
            if turn == 0:
                rng = random.Random(f"{noise.seed}|train|{place}")
                allowed = [v for v in city.views(place) if v.kind != POI_KIND and held_out.allows(place, v)]
                orders[place] = _order(allowed, rng)
            if len(orders[place]) > turn:
                view = orders[place][turn]
                text = noise.apply(place, view, "train")
                if reading_key(text) not in held_out.keys:
                    queries.append(Query(place, view.kind, text))
        places = [place for place in places if len(orders[place]) > turn + 1]
        turn += 1
    return queries


def query_locations(gold: np.ndarray, places: np.ndarray, seed: int) -> np.ndarray:
    """Draw the locations of queries: two in three lie within ``NEAR_M`` of the place, the others near any place.

    Both are uniform over a disc; the second has a radius of ``FAR_PLACE_M`` around a random place.

    Shape:
        gold: (Q, 2), places: (N, 2) metres east and north -> (Q, 2).
    """
    rng = np.random.default_rng([seed, 7])
    n = len(gold)
    near = rng.random(n) < NEAR_SHARE
    base = np.where(near[:, None], gold, places[rng.integers(0, len(places), n)])
    distance = np.where(near, NEAR_M, FAR_PLACE_M) * np.sqrt(rng.random(n))
    angle = rng.random(n) * 2.0 * np.pi
    return base + np.stack([distance * np.sin(angle), distance * np.cos(angle)], axis=-1)
