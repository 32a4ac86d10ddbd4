"""Facts of a place to the fields that a locale's templates speak of, in the map's language or in another one.

Fields: ``name`` (with its area where the name alone says nothing), ``plain`` (the name without brackets), ``rest`` (the
name without the place it begins with), ``brand``, ``alt`` (other names), ``words`` (category words of a POI row),
``word`` (as people type it), ``street``, ``number``, ``side`` (of the street), ``crossing_a``, ``crossing_b``,
``crossing_bearing``, ``crossing_metres``, ``area``, ``landmark`` and ``neighbour`` (with ``_bearing``), ``district``,
``city``, ``postcode``, ``told`` (addr:full), ``lines`` (bus lines), and ``street_word``, ``landmark_word``,
``neighbour_word``, ``crossing_word``, ``area_word``: the category word where the place is alone of its kind.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from m3gal_cli.geo.projection import Frame
from m3gal_cli.osm.facts import Facts, Reference, Tags
from m3gal_cli.osm.locales import Category, Locale
from m3gal_cli.osm.places import ROAD, TRANSIT_KEYS, Place, name_in, street_of
from m3gal_cli.osm.tags import ADDRESS, part_ref
from m3gal_cli.text.normalise import has_han, reads

Fields = dict[str, tuple[str, ...]]  # what people write for it, the plainest first

ALONE_M = 150.0  # the next of its kind must be this much farther from the landmark
PARENT_M = 1500.0
_NO_WORD = frozenset(
    {"building", "place", "landuse", "natural", "entrance", "barrier", "man_made", "military", ADDRESS}
)
_BRACKETS = re.compile(r"\s*[(（\[【][^()（）\[\]【】]*[)）\]】]")
_ALT_KEYS = ("alt_name", "short_name", "official_name", "old_name", "loc_name", "int_name", "name:zh", "name:en")
_ROUTE = re.compile(r"[;；]")
_NUMBERS = re.compile(r"[;,；，、]")  # between house numbers: people type the first


@dataclass(frozen=True)
class Gazetteer:
    """All places with their facts and what takes all of them to know.

    Attributes:
        places, facts: In step.
        rest: What a place's name adds to the name of the place that it begins with, or "".
        alone: For each of street, landmark, neighbour, crossing, area: whether the place is the only one of its kind.
    """

    places: Sequence[Place]
    facts: Sequence[Facts]
    rest: list[str]
    alone: dict[str, list[bool]]


def make_gazetteer(places: Sequence[Place], facts: Sequence[Facts], locale: Locale) -> Gazetteer:
    """Work out what takes all places: name parts and who is alone of its kind."""
    frame = Frame(places)
    where = frame.metres(np.array([(p.lng, p.lat) for p in places]).reshape(-1, 2))
    words = [_typed_word(p, locale.category(*p.category, p.name)) for p in places]
    street, area, corner = [""] * len(places), [""] * len(places), [""] * len(places)
    landmark, neighbour = [-1] * len(places), [-1] * len(places)
    for i, fact in enumerate(facts):
        if words[i]:
            street[i] = reads(name_in(fact.street)) if fact.street else ""
            area[i] = str(fact.area_index) if fact.area_index >= 0 else ""
            corner[i] = _corner(fact)
            landmark[i] = fact.landmark.who if fact.landmark else -1
            told = _told_by(places[i], fact)
            neighbour[i] = told.who if told else -1
    alone = {
        "street": _alone_in(words, street),
        "area": _alone_in(words, area),
        "landmark": _alone_near(words, where, landmark),
        "neighbour": _alone_near(words, where, neighbour),
        "crossing": _alone_in(words, corner),
    }
    return Gazetteer(places, facts, _rests(places, where, locale), alone)


def _told_by(place: Place, fact: Facts) -> Reference | None:
    """The neighbour that a place is told by: people take any that is near, so each place takes one of its nearest."""
    return fact.neighbours[zlib.crc32(place.poi_id.encode()) % len(fact.neighbours)] if fact.neighbours else None


def _corner(fact: Facts) -> str:
    if fact.crossing is None or fact.crossing[2].metres > 150.0:
        return ""
    return "|".join(sorted(reads(name_in(t)) for t in fact.crossing[:2]))


def _typed_word(place: Place, category: Category) -> str:
    """The word that one can look for, or "" for kinds that nobody looks for by kind."""
    if not (category.specific and category.typed) or place.category[0] in _NO_WORD or place.category == ROAD:
        return ""
    return category.typed[0]


def _alone_in(words: list[str], group: list[str]) -> list[bool]:
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for key in zip(words, group, strict=True):
        counts[key] += 1
    return [bool(w) and bool(g) and counts[w, g] == 1 for w, g in zip(words, group, strict=True)]


def _alone_near(words: list[str], where: np.ndarray, who: list[int]) -> list[bool]:
    """Whether a place is the nearest of its kind to its reference and the next one is ``ALONE_M`` farther."""
    out = [False] * len(words)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, word in enumerate(words):
        if word:
            groups[word].append(i)
    for members in groups.values():
        asking = [i for i in members if who[i] >= 0]
        if not asking:
            continue
        k = min(3, len(members))
        far, slot = cKDTree(where[members]).query(where[[who[i] for i in asking]], k=k)
        far, slot = far.reshape(len(asking), k), slot.reshape(len(asking), k)
        for row, i in enumerate(asking):
            seen = [(d, members[s]) for d, s in zip(far[row], slot[row], strict=True) if members[s] != who[i]]
            out[i] = seen[0][1] == i and (len(seen) == 1 or seen[1][0] > seen[0][0] + ALONE_M)
    return out


def _rests(places: Sequence[Place], where: np.ndarray, locale: Locale) -> list[str]:
    """Names without the name of another place, near by, that they begin with; and names that need their area."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        by_name[place.name].append(i)
    out = []
    for i, place in enumerate(places):
        name, rest = place.name, ""
        if locale.is_sub(name):
            out.append(name)
            continue
        for end in range(len(name) - 2, 2 if has_han(name) else 4, -1):
            if not has_han(name) and name[end] not in " -,(/":
                continue
            parents = by_name.get(name[:end].rstrip())
            if parents and min(np.hypot(*(where[j] - where[i])) for j in parents) < PARENT_M:
                rest = name[end:].strip(" -–·,，()（）/")
                break
        out.append(rest if len(rest) > (1 if has_han(name) else 3) else "")
    return out


def _first(value: str | tuple[str, ...] | None) -> str:
    return value[0] if isinstance(value, tuple) else value or ""


class FieldMaker:
    """Makes the fields of a place in a locale and, with ``language``, in a language other than the map's."""

    def __init__(self, gazetteer: Gazetteer, locale: Locale, language: str = "") -> None:
        self.all = gazetteer
        self.locale = locale
        self.language = language
        self.han = language in ("zh", "ja") if language else None

    def text(self, tags: Tags | None) -> str:
        """A name in the maker's language; the map's own name where that may stand for it."""
        if not tags:
            return ""
        own = name_in(tags, self.language)
        if own or not self.language:
            return own
        name = name_in(tags)
        return name if name and has_han(name) == self.han else ""

    def fields(self, i: int, fact: Facts | None = None) -> Fields:
        """The fields of place ``i``; those that it lacks are absent. ``fact``: its facts, where they are at hand."""
        place, fact = self.all.places[i], fact or self.all.facts[i]
        found: dict[str, str | tuple[str, ...]] = {}
        found |= self._where(place, fact)
        found |= self._names(i, place, fact, found)
        if not self.language:
            found |= self._kind(i, place, found)
        return {k: (v,) if isinstance(v, str) else v for k, v in found.items() if v}

    def _names(
        self, i: int, place: Place, fact: Facts, found: dict[str, str | tuple[str, ...]]
    ) -> dict[str, str | tuple[str, ...]]:
        tags = place.tags
        if place.is_part:
            return self._part(place, found, fact)
        name = self.text(tags) if place.name else ""
        if name and self.locale.is_sub(name):
            return {"name": self._sub_name(name, found), "rest": name}
        out: dict[str, str | tuple[str, ...]] = {"name": name}
        plain = _BRACKETS.sub("", name).strip()
        if plain != name and len(plain) > 1:
            out["plain"] = plain
        if not self.language and name:
            out["rest"] = self.all.rest[i]
            brand = tags.get("brand", "").split(";")[0].strip()
            if reads(brand) not in ("", reads(name)):
                out["brand"] = brand
            alts = (a.strip() for key in _ALT_KEYS for a in tags.get(key, "").split(";"))
            out["alt"] = tuple(dict.fromkeys(a for a in alts if len(reads(a)) > 1 and reads(a) != reads(name)))[:3]
        return out

    def _written(self, place: Place) -> str:
        """The street that a row of a POI table writes, with all else that it writes there."""
        return street_of(place.tags) if place.row and not self.language else ""

    def _part(
        self, place: Place, found: dict[str, str | tuple[str, ...]], fact: Facts
    ) -> dict[str, str | tuple[str, ...]]:
        """Name and rest of a part of a compound without a name of its own; nothing where the locale has none for it."""
        area = _first(found.get("area"))
        bearing = "" if fact.area_bearing is None else self.locale.bearing(fact.area_bearing)
        values = {"area": area, "bearing": bearing, "ref": part_ref(place.tags)}
        names = self.locale.part_names(place.category, values) if area else ()
        return {"name": names, "rest": tuple(n.replace(area, "", 1).strip(" ,") for n in names)} if names else {}

    def _sub_name(self, name: str, found: dict[str, str | tuple[str, ...]]) -> str:
        """A name such as "north gate" with the place that it belongs to."""
        values = {key: _first(found.get(key)) for key in ("area", "landmark", "street")}
        values |= {"sub": name, "bearing": _first(found.get("landmark_bearing"))}
        for shape in self.locale.sub_name:
            if all(values.get(key) for key in re.findall(r"{(\w+)}", shape)):
                return shape.format(**values)
        return name

    def _where(self, place: Place, fact: Facts) -> dict[str, str | tuple[str, ...]]:
        tags, locale = place.tags, self.locale
        out: dict[str, str | tuple[str, ...]] = {
            "street": self.text(fact.street) or self._written(place),
            "area": self.text(fact.area),
        }
        number = _NUMBERS.split(tags.get("addr:housenumber", "").strip())[0].strip()
        out["number"] = locale.number.format(number) if number[-1:].isascii() and number else number
        if fact.street_bearing is not None:
            out["side"] = locale.side_words(fact.street_bearing)
        if fact.crossing is not None:
            one, two, reference = fact.crossing
            out["crossing_a"], out["crossing_b"] = self.text(one), self.text(two)
            steps = round(reference.metres / locale.metres_step)
            if steps:
                out["crossing_bearing"] = locale.bearing_words(reference.bearing)
                out["crossing_metres"] = locale.metres.format(steps * locale.metres_step)
        for kind, other in (("landmark", fact.landmark), ("neighbour", _told_by(place, fact))):
            if other is not None:
                name = self.text(self.all.places[other.who].tags)
                plain = _BRACKETS.sub("", name).strip()
                out[kind] = (name, plain) if len(plain) > 1 and plain != name else name
                out[f"{kind}_bearing"] = locale.bearing_words(other.bearing)
        return out | self._administration(place, fact)

    def _administration(self, place: Place, fact: Facts) -> dict[str, str | tuple[str, ...]]:
        tags, levels = place.tags, self.locale.admin
        settlement = fact.settlement if (fact.settlement or {}).get("place") in self.locale.settlements else None
        centre = fact.city if (fact.city or {}).get("place") in self.locale.settlements else None
        city = next((fact.admins[n] for n in levels.get("city", []) if n in fact.admins), None)
        district = next((fact.admins[n] for n in levels.get("district", []) if n in fact.admins), settlement)
        here = {"city": self.text(city) or (self.language == "" and tags.get("addr:city")) or self.text(centre)}
        here["district"] = (self.language == "" and fact.district) or self.text(district)
        if reads(here["district"] or "") == reads(here["city"] or ""):
            here["district"] = ""
        told = "" if self.language else tags.get("addr:full", "").strip()
        lines = "" if self.language else tags.get("route_ref", "")
        if _ROUTE.search(told) or place.category[0] in TRANSIT_KEYS:
            told, lines = "", lines or told
        if told in (here["district"], here["city"]):
            told = ""
        routes = [r.strip() for r in _ROUTE.split(lines) if r.strip()][:5]
        return {**here, "postcode": tags.get("addr:postcode", "").strip(), "told": told, "lines": ";".join(routes)}

    def _kind(self, i: int, place: Place, found: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
        category = self.locale.category(*place.category, place.name)
        out: dict[str, str | tuple[str, ...]] = {"words": self.locale.full_join.join(category.words)}
        if _typed_word(place, category):
            out["word"] = category.typed
            for kind, alone in self.all.alone.items():
                if alone[i] and (kind in found or f"{kind}_a" in found):
                    out[f"{kind}_word"] = category.typed
        return out
