"""Training pairs: two views of one place; noise changes the first in about half of the pairs."""

from __future__ import annotations

import random
from collections.abc import Iterator

from m3gal_cli.osm.city import City, PlaceViews
from m3gal_cli.osm.noise import CollisionFreeNoise, add_noise
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.splits import HeldOut
from m3gal_cli.osm.uniqueness import POI_ROW
from m3gal_cli.osm.views import POI_KIND, View, differ, make_pairs, make_part_pair, weighted_order
from m3gal_cli.text.normalise import reading_key

NOISY_SHARE = 0.5  # of the pairs have noise in the first view
PAIR_COLUMNS = ("address1", "address2", "lng", "lat", "poi_id", "group", "kind1", "kind2")

Pair = tuple[str, str, float, float, str, int, str, str]  # PAIR_COLUMNS


class PairGenerator:
    """Makes the pairs of one place after another; the order matters, because the noise remembers its texts.

    Args:
        city: The city; ``compute_statistics`` has filled its uniqueness index.
        noise: Adds noise.
        held_out: The views that the pairs must not contain.
        max_pairs: Largest number of pairs of a place, without those of synthetic parts.
    """

    def __init__(self, city: City, noise: CollisionFreeNoise, held_out: HeldOut, max_pairs: int) -> None:
        self.city, self.noise, self.held_out, self.max_pairs = city, noise, held_out, max_pairs
        self._synthetic_parts = 0

    def pairs(self, j: int, place_views: PlaceViews, lnglat: tuple[float, float], group: int) -> Iterator[Pair]:
        """Yield the pairs of place j, which lies at ``lnglat`` and belongs to a group of places that read the same."""
        place = place_views.place
        rng = random.Random(f"{self.city.seed}|pairs|{place.poi_id}")
        numbers = self.city.uniqueness.unique_views(j)
        row = place_views.view(POI_ROW) if POI_ROW in numbers else None
        others = [n for n in numbers if n != POI_ROW]
        order = [others[i] for i in weighted_order([self.city.weight(n) for n in others], rng)]
        made: list[View] = []
        for one, two in make_pairs(row, self._allowed(j, place_views, order, made), self.max_pairs):
            text = one.text
            if rng.random() < NOISY_SHARE:
                noisy = self.noise.apply(j, one, "pairs")
                key = reading_key(noisy)
                if key not in self.held_out.keys and differ(key, reading_key(two.text)):
                    text = noisy
            yield text, two.text, *lnglat, place.poi_id, group, one.kind, two.kind
        if row is not None:
            yield from self._part_pairs(place, row, made, lnglat, rng)

    def _allowed(self, j: int, place_views: PlaceViews, order: list[int], made: list[View]) -> Iterator[View]:
        """Yield the views of these numbers that are not held out, and append them to ``made``."""
        for number in order:
            view = place_views.view(number)
            if view is not None and self.held_out.allows(j, view):
                made.append(view)
                yield view

    def _part_pairs(
        self, place: Place, row: View, views: list[View], lnglat: tuple[float, float], rng: random.Random
    ) -> Iterator[Pair]:
        """Yield pairs of synthetic parts of a compound (building 3, east gate), each part with a group of its own."""
        locale, category, name = self.noise.locales[""], "=".join(place.category), place.name
        wanted = [s for s in self.city.suffixes if s.of.search(category) and not (s.unless and s.unless.search(name))]
        named = [v for v in views if "@" not in v.kind and any(p.slot == "name" for p in v.parts)]
        if not wanted or not named or locale.is_generic(name):
            return
        groups: dict[str, int] = {}
        for suffixes in [s for s in wanted for _ in range(s.times)]:
            part = make_part_pair(rng.choice(named), row, suffixes, locale.bearings, rng)
            text = part.view.text
            if rng.random() < NOISY_SHARE:
                text = add_noise(part.view, locale, rng, strength=self.noise.strength, unique_name=False)
            one, two = reading_key(text), reading_key(part.row.text)
            if part.label not in groups:
                groups[part.label] = len(self.city) + self._synthetic_parts
                self._synthetic_parts += 1
            group = groups[part.label]
            # Parts of two compounds of one name can read the same: the first compound keeps the text.
            if differ(one, two) and self.noise.claim(group, one) and self.noise.claim(group, two):
                poi_id = f"{place.poi_id}#{part.label}"
                yield text, part.row.text, *lnglat, poi_id, group, part.view.kind, POI_KIND
