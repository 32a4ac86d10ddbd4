"""Training pairs: two views of one place, the first typed with noise in about half of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from m3gal_cli.osm.city import City, Described
from m3gal_cli.osm.noise import typed
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.splits import HeldOut, Typist
from m3gal_cli.osm.uniqueness import ROW
from m3gal_cli.osm.views import FULL, View, differ, make_pairs, suffix_pair, weighted_order
from m3gal_cli.text.normalise import reads

PAIR_COLUMNS = ("address1", "address2", "lng", "lat", "poi_id", "group", "kind1", "kind2")
NOISY_SHARE = 0.5
Pair = tuple[str, str, float, float, str, int, str, str]  # PAIR_COLUMNS


class PairMaker:
    """Makes the pairs of a place after another; the order of the places matters, as the typist remembers.

    Args:
        city: The city, surveyed.
        typist, held: What was typed already, and what is held out.
        most: Pairs a place at most, those of made-up parts not counted.
        noise: Strength of the typed-query noise.
    """

    def __init__(self, city: City, typist: Typist, held: HeldOut, most: int, noise: float) -> None:
        self.city, self.typist, self.held, self.most, self.noise = city, typist, held, most, noise
        self._parts = 0

    def pairs(self, j: int, told: Described, at: tuple[float, float], group: int) -> Iterator[Pair]:
        """The pairs of place j at ``at`` (lng, lat), which reads like the others of its group."""
        place = told.place
        rng = random.Random(f"{self.city.seed}|pairs|{place.poi_id}")
        numbers = self.city.uniqueness.alone(j)
        full = told.view(ROW) if ROW in numbers else None
        others = [n for n in numbers if n != ROW]
        order = [others[i] for i in weighted_order([self.city.weight(n) for n in others], rng)]
        made: list[View] = []
        for one, two in make_pairs(full, self._allowed(j, told, order, made), self.most, reads):
            text = one.text
            if rng.random() < NOISY_SHARE:
                noisy = self.typist.type(j, one, self.noise, "pairs")
                if reads(noisy) not in self.held.readings and differ(reads(noisy), reads(two.text)):
                    text = noisy
            yield text, two.text, *at, place.poi_id, group, one.kind, two.kind
        if full is not None:
            yield from self._parts_of(place, full, made, at, rng)

    def _allowed(self, j: int, told: Described, order: list[int], made: list[View]) -> Iterator[View]:
        """The views of these numbers that are not held out, one after the other; those that were asked for are kept."""
        for number in order:
            view = told.view(number)
            if view is not None and self.held.allows(j, view):
                made.append(view)
                yield view

    def _parts_of(
        self, place: Place, full: View, views: list[View], at: tuple[float, float], rng: random.Random
    ) -> Iterator[Pair]:
        """Pairs of parts made up for a compound (building 3, east gate): other places than the compound and than each
        other, so that they are each other's negatives."""
        locale, category, name = self.typist.locales[""], "=".join(place.category), place.name
        wanted = [s for s in self.city.suffixes if s.of.search(category) and not (s.unless and s.unless.search(name))]
        named = [v for v in views if "@" not in v.kind and any(p.field == "name" for p in v.pieces)]
        if not wanted or not named or locale.is_sub(name):
            return
        groups: dict[str, int] = {}
        for suffixes in [s for s in wanted for _ in range(s.times)]:
            made = suffix_pair(rng.choice(named), full, suffixes, locale.bearings, rng)
            text = made.view.text
            if rng.random() < NOISY_SHARE:
                text = typed(made.view, locale, rng, strength=self.noise, sure=False)
            one, two = reads(text), reads(made.full.text)
            if made.part not in groups:
                groups[made.part] = len(self.city) + self._parts
                self._parts += 1
            group = groups[made.part]
            # Two compounds of one name may have a part each that reads the same: the first keeps the text.
            if differ(one, two) and self.typist.claim(group, one) and self.typist.claim(group, two):
                part = f"{place.poi_id}#{made.part}"
                yield text, made.full.text, *at, part, group, made.view.kind, FULL
