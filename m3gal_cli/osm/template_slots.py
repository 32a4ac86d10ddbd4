"""Fill the slots of a locale's templates (``locales.SLOTS``) from the facts of a place."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from m3gal_cli.osm.facts import Facts, FactTable, Reference
from m3gal_cli.osm.locales import Category, Locale
from m3gal_cli.osm.place_deduplication import ROAD, TRANSIT_KEYS
from m3gal_cli.osm.places import Place, Tags, coordinates_of, name_in, projection_of, street_of
from m3gal_cli.osm.tags import ADDRESS, part_ref
from m3gal_cli.osm.views import Slots
from m3gal_cli.text.normalise import has_han, reading_key

SOLE_MARGIN_M = 150.0  # the only place of its category at a landmark is nearer than the next by this
CORNER_M = 150.0  # a place within this distance lies at the crossing
PREFIX_PLACE_M = (
    1500.0  # largest distance between a place and another one with a longer name ("Alfa" and "Alfa, east gate")
)
_WITHOUT_WORD = frozenset(
    {"building", "place", "landuse", "natural", "entrance", "barrier", "man_made", "military", ADDRESS}
)
_BRACKETS = re.compile(r"\s*[(（\[【][^()（）\[\]【】]*[)）\]】]")
_ALT_KEYS = ("alt_name", "short_name", "official_name", "old_name", "loc_name", "int_name", "name:zh", "name:en")
_ROUTE = re.compile(r"[;；]")
_NUMBERS = re.compile(r"[;,；，、]")  # between house numbers; the first one is used

_Values = dict[str, str | tuple[str, ...]]


@dataclass(frozen=True)
class SlotContext:
    """Values of N places that depend on other places.

    Attributes:
        places: The places.
        facts: Their facts.
        rests: (N,) the end of the name without the name of another place at its start, or "".
        sole: For street, landmark, neighbour, crossing and area: (N,) whether no other place of the category is there.
    """

    places: Sequence[Place]
    facts: FactTable
    rests: list[str]
    sole: dict[str, list[bool]]


def make_slot_context(places: Sequence[Place], facts: FactTable, locale: Locale) -> SlotContext:
    """Compute the slot context of all places."""
    xy = projection_of(places).metres(coordinates_of(places))
    words = [_query_word(p, locale.category(*p.category, p.name)) for p in places]
    street, area, corner = [""] * len(places), [""] * len(places), [""] * len(places)
    landmark, neighbour = [-1] * len(places), [-1] * len(places)
    for i, fact in enumerate(facts):
        if words[i]:
            street[i] = reading_key(fact.street.name) if fact.street else ""
            area[i] = str(fact.area.index) if fact.area else ""
            corner[i] = _corner(fact)
            landmark[i] = fact.landmark.index if fact.landmark else -1
            other = _chosen_neighbour(places[i], fact)
            neighbour[i] = other.index if other else -1
    sole = {
        "street": _sole_in_group(words, street),
        "area": _sole_in_group(words, area),
        "landmark": _sole_near(words, xy, landmark),
        "neighbour": _sole_near(words, xy, neighbour),
        "crossing": _sole_in_group(words, corner),
    }
    return SlotContext(places, facts, _rests(places, xy, locale), sole)


def _chosen_neighbour(place: Place, facts: Facts) -> Reference | None:
    """Return one of the neighbours, chosen by a hash of the id: queries do not always name the nearest."""
    return facts.neighbours[zlib.crc32(place.poi_id.encode()) % len(facts.neighbours)] if facts.neighbours else None


def _corner(facts: Facts) -> str:
    """Return the reading keys of the two streets of a crossing within ``CORNER_M``, else ""."""
    if facts.crossing is None or facts.crossing.metres > CORNER_M:
        return ""
    return "|".join(sorted(reading_key(name_in(tags)) for tags in facts.crossing_streets or ()))


def _query_word(place: Place, category: Category) -> str:
    """Return the word that a query uses for the category, "" if queries never use it."""
    if not (category.specific and category.typed) or place.category[0] in _WITHOUT_WORD or place.category == ROAD:
        return ""
    return category.typed[0]


def _sole_in_group(words: list[str], group: list[str]) -> list[bool]:
    counts = Counter(zip(words, group, strict=True))
    return [bool(w) and bool(g) and counts[w, g] == 1 for w, g in zip(words, group, strict=True)]


def _sole_near(words: list[str], xy: np.ndarray, reference: list[int]) -> list[bool]:
    """Return whether each place is nearer to its reference than others of its category, by ``SOLE_MARGIN_M``."""
    out = [False] * len(words)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        if word:
            groups[word].append(i)
    for members in groups.values():
        rows = [i for i in members if reference[i] >= 0]
        if not rows:
            continue
        k = range(1, min(3, len(members)) + 1)
        distances, nearest = cKDTree(xy[members]).query(xy[[reference[i] for i in rows]], k=k)
        for i, metres, found in zip(rows, distances, nearest, strict=True):
            near = [(d, members[n]) for d, n in zip(metres, found, strict=True) if members[n] != reference[i]]
            out[i] = near[0][1] == i and (len(near) == 1 or near[1][0] > near[0][0] + SOLE_MARGIN_M)
    return out


def _rests(places: Sequence[Place], xy: np.ndarray, locale: Locale) -> list[str]:
    """Return each name without the name of a near place at its start; a generic name whole; "" for other names."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        by_name[place.name].append(i)
    out = []
    for i, place in enumerate(places):
        name, rest = place.name, ""
        if locale.is_generic(name):
            out.append(name)
            continue
        han = has_han(name)
        for end in range(len(name) - 2, 2 if han else 4, -1):
            if not han and name[end] not in " -,(/":
                continue
            prefixes = by_name.get(name[:end].rstrip())
            if prefixes and min(np.hypot(*(xy[j] - xy[i])) for j in prefixes) < PREFIX_PLACE_M:
                rest = name[end:].strip(" -–·,，()（）/")
                break
        out.append(rest if len(rest) > (1 if han else 3) else "")
    return out


def _first(value: str | tuple[str, ...] | None) -> str:
    return value[0] if isinstance(value, tuple) else value or ""


class SlotFiller:
    """Fills the slots of places in a locale, in the language of the map ("") or in another one."""

    def __init__(self, context: SlotContext, locale: Locale, language: str = "") -> None:
        self.context = context
        self.locale = locale
        self.language = language
        self._han = language in ("zh", "ja") if language else None

    def fill(self, i: int, facts: Facts | None = None) -> Slots:
        """Return the slots that place ``i`` has; ``facts`` are its facts, made here if absent."""
        place, facts = self.context.places[i], facts or self.context.facts[i]
        values = self._location(place, facts) | self._administration(place, facts)
        values |= self._part_name(place, values, facts) if place.is_unnamed_part else self._names(i, place, values)
        if not self.language:
            values |= self._category(i, place, values)
        return {k: (v,) if isinstance(v, str) else v for k, v in values.items() if v}

    def _text(self, tags: Tags | None) -> str:
        """Return the name in the language of the filler, or the name of the map if its script fits."""
        if not tags:
            return ""
        own = name_in(tags, self.language)
        if own or not self.language:
            return own
        name = name_in(tags)
        return name if name and has_han(name) == self._han else ""

    def _names(self, i: int, place: Place, values: _Values) -> _Values:
        tags = place.tags
        name = self._text(tags) if place.name else ""
        if name and self.locale.is_generic(name):
            return {"name": self._generic_name(name, values), "rest": name}
        out: _Values = {"name": name}
        plain = _BRACKETS.sub("", name).strip()
        if plain != name and len(plain) > 1:
            out["plain"] = plain
        if not self.language and name:
            key = reading_key(name)
            out["rest"] = self.context.rests[i]
            brand = tags.get("brand", "").split(";")[0].strip()
            if reading_key(brand) not in ("", key):
                out["brand"] = brand
            alts = (a.strip() for k in _ALT_KEYS for a in tags.get(k, "").split(";"))
            out["alt"] = tuple(dict.fromkeys(a for a in alts if len(reading_key(a)) > 1 and reading_key(a) != key))[:3]
        return out

    def _part_name(self, place: Place, values: _Values, facts: Facts) -> _Values:
        """Return name and rest of an unnamed part of a compound; {} if the locale has no name for it."""
        area = _first(values.get("area"))
        bearing = self.locale.bearing(facts.area.bearing) if facts.area else ""
        known = {"area": area, "bearing": bearing, "ref": part_ref(place.tags)}
        names = self.locale.part_names(place.category, known) if area else ()
        return {"name": names, "rest": tuple(n.replace(area, "", 1).strip(" ,") for n in names)} if names else {}

    def _generic_name(self, name: str, values: _Values) -> str:
        """Return a name such as "north gate" with the area, landmark or street of the place."""
        known = {key: _first(values.get(key)) for key in ("area", "landmark", "street")}
        known |= {"sub": name, "bearing": _first(values.get("landmark_bearing"))}
        for wording in self.locale.sub_name:
            if all(known.get(key) for key in re.findall(r"{(\w+)}", wording)):
                return wording.format(**known)
        return name

    def _location(self, place: Place, facts: Facts) -> _Values:
        locale, street = self.locale, facts.street
        row_street = street_of(place.tags) if place.row and not self.language else ""
        out: _Values = {
            "street": self._text(street.tags if street else None) or row_street,
            "area": self._text(facts.area.tags if facts.area else None),
        }
        number = _NUMBERS.split(place.tags.get("addr:housenumber", "").strip())[0].strip()
        out["number"] = locale.number.format(number) if number[-1:].isascii() and number else number
        if street is not None and not math.isnan(street.bearing):
            out["side"] = locale.side_words(street.bearing)
        if facts.crossing is not None and facts.crossing_streets is not None:
            out["crossing_a"], out["crossing_b"] = map(self._text, facts.crossing_streets)
            steps = round(facts.crossing.metres / locale.metres_step)
            if steps:
                out["crossing_bearing"] = locale.bearing_words(facts.crossing.bearing)
                out["crossing_metres"] = locale.metres.format(steps * locale.metres_step)
        for kind, other in (("landmark", facts.landmark), ("neighbour", _chosen_neighbour(place, facts))):
            if other is not None:
                name = self._text(other.tags)
                plain = _BRACKETS.sub("", name).strip()
                out[kind] = (name, plain) if len(plain) > 1 and plain != name else name
                out[f"{kind}_bearing"] = locale.bearing_words(other.bearing)
        return out

    def _administration(self, place: Place, facts: Facts) -> _Values:
        tags, levels, own = place.tags, self.locale.admin, not self.language
        settlement, town = (
            node if (node or {}).get("place") in self.locale.settlements else None
            for node in (facts.settlement, facts.city)
        )
        boundary = {
            kind: next((facts.admins[n] for n in levels.get(kind, []) if n in facts.admins), None)
            for kind in ("city", "district")
        }
        city = self._text(boundary["city"]) or (own and tags.get("addr:city")) or self._text(town)
        district = (own and facts.district) or self._text(boundary["district"] or settlement)
        if reading_key(district or "") == reading_key(city or ""):
            district = ""
        told = tags.get("addr:full", "").strip() if own else ""
        lines = tags.get("route_ref", "") if own else ""
        if _ROUTE.search(told) or place.category[0] in TRANSIT_KEYS:
            told, lines = "", lines or told
        if told in (district, city):
            told = ""
        routes = ";".join([r.strip() for r in _ROUTE.split(lines) if r.strip()][:5])
        postcode = tags.get("addr:postcode", "").strip()
        return {"city": city, "district": district, "postcode": postcode, "told": told, "lines": routes}

    def _category(self, i: int, place: Place, values: _Values) -> _Values:
        category = self.locale.category(*place.category, place.name)
        out: _Values = {"words": self.locale.full_join.join(category.words)}
        if _query_word(place, category):
            out["word"] = category.typed
            for kind, sole in self.context.sole.items():
                if sole[i] and (kind in values or f"{kind}_a" in values):
                    out[f"{kind}_word"] = category.typed
        return out
