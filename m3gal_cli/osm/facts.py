"""Where places lie: street, crossing, containing area, landmark, neighbour, administration. All joins are vectorised.

Metres are right to half a per cent anywhere (see ``frame``); bearings are degrees from north, clockwise, as seen from
the thing that is named ("100 m north-east of the crossing").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from scipy.spatial import cKDTree

from m3gal_cli.geo.coordinates import Floats
from m3gal_cli.geo.projection import Frame, apart_m, bearing_deg
from m3gal_cli.osm.areas import Areas, Ints, first_containing
from m3gal_cli.osm.extract import Extract, Feature
from m3gal_cli.osm.memory import give_back
from m3gal_cli.osm.places import Place, name_in, street_of
from m3gal_cli.osm.streets import Crossings, Found, Streets, Tags, find_crossings
from m3gal_cli.osm.tags import ADDRESS, is_landmark
from m3gal_cli.text.normalise import reads

LANDMARK_M = 1200.0
NEIGHBOUR_M = 400.0
NEIGHBOURS = 4
SETTLEMENT_M = 2500.0
CITY_M = 20_000.0
DISTRICT_M = 1000.0
COMMUNE_LEVEL = 8  # a settlement across this border is not where a place lies

__all__ = ["FactTable", "Facts", "Frame", "Reference", "Tags", "bearing_deg", "gather_facts"]


@dataclass(slots=True)
class Reference:
    """What a place is told by: ``who`` is an index; ``metres`` and ``bearing`` (degrees) lead from it to the place.

    ``poi_id`` and ``name`` are those of a place that is told by; empty for a crossing.
    """

    who: int
    metres: float
    bearing: float
    poi_id: str = ""
    name: str = ""


@dataclass(slots=True)
class Facts:
    """What is known of one place.

    Attributes:
        street: Tags of its street (at least ``name``), by address or the nearest named one within ``STREET_M``.
        street_metres: Metres to the middle line of that street; None where its line is not at hand.
        street_bearing: From the street to the place, degrees; None where it is not known or the place stands on it.
        by_address: Whether the street comes from the address tags.
        crossing: Tags of two streets that cross, the place's own first if it is one, and the way from there.
        area: Tags of the smallest named area around it, ``area_index`` its number and ``area_id`` its OSM id.
        area_bearing, area_metres: From the middle of the area to the place.
        landmark: The nearest well-known place.
        neighbours: The nearest places whose names are their own alone, nearest first.
        admins: admin_level -> tags of the boundary that contains it.
        settlement: Tags of the nearest suburb, village or town node within ``SETTLEMENT_M``.
        city: Tags of the nearest city or town node within ``CITY_M``.
        district: addr:district or addr:suburb of the place, or of the nearest place within ``DISTRICT_M`` with one.
    """

    street: Tags | None = None
    street_metres: float | None = None
    street_bearing: float | None = None
    by_address: bool = False
    crossing: tuple[Tags, Tags, Reference] | None = None
    area: Tags | None = None
    area_index: int = -1
    area_id: str = ""
    area_bearing: float | None = None
    area_metres: float | None = None
    landmark: Reference | None = None
    neighbours: list[Reference] = field(default_factory=list)
    admins: dict[int, Tags] = field(default_factory=dict)
    settlement: Tags | None = None
    city: Tags | None = None
    district: str = ""

    @property
    def neighbour(self) -> Reference | None:
        """The nearest of ``neighbours``."""
        return self.neighbours[0] if self.neighbours else None


@dataclass
class _Columns:
    """The facts of N places as arrays of length N: indices (-1 for none), metres and degrees (NaN for none)."""

    street: Found
    by_address: np.ndarray
    crossing: Found
    area: Found
    landmark: Found
    neighbours: list[Found]
    admins: dict[int, Ints]
    settlement: Ints
    city: Ints
    district: list[str]


class _Column:
    """A ``Found`` that is quick to read one by one: a memoryview gives Python's own numbers."""

    def __init__(self, found: Found) -> None:
        self.who, self.metres, self.bearing = found.who.data, found.metres.data, found.bearing.data


class FactTable(Sequence[Facts]):
    """The facts of all places in their order, kept as columns; a ``Facts`` is made when it is asked for."""

    def __init__(
        self, places: Sequence[Place], columns: _Columns, streets: Streets, crossings: Crossings, extract: Extract
    ) -> None:
        self._places = places
        self._by_address, self._district = columns.by_address.tolist(), columns.district
        self._street, self._crossing, self._area = map(_Column, (columns.street, columns.crossing, columns.area))
        self._landmark, self._neighbours = _Column(columns.landmark), [_Column(found) for found in columns.neighbours]
        self._admin = [(level, boundary.data) for level, boundary in columns.admins.items()]
        self._settlement, self._city = columns.settlement.data, columns.city.data
        self._streets = streets.tags
        self._street_reading = [reads(name) for name in streets.names]
        self._one, self._two = (np.ascontiguousarray(crossings.codes[:, n]).data for n in (0, 1))
        self._areas = [(a.tags, a.osm_id) for a in extract.areas]
        self._admins = [a.tags for a in extract.admins]
        self._settlements = [s.tags for s in extract.settlements]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, i: int) -> Facts: ...
    @overload
    def __getitem__(self, i: slice) -> list[Facts]: ...
    def __getitem__(self, i: int | slice) -> Facts | list[Facts]:
        """The facts of place ``i``; a list of them for a slice."""
        if isinstance(i, slice):
            return [self._facts(n) for n in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self._facts(i % len(self))

    def _facts(self, i: int) -> Facts:
        facts = Facts(by_address=self._by_address[i], district=self._district[i])
        if (street := self._street.who[i]) >= 0:
            facts.street = self._streets[street]
            facts.street_metres, facts.street_bearing = _known(self._street.metres[i]), _known(self._street.bearing[i])
        if (crossing := self._crossing.who[i]) >= 0:
            one, two = self._one[crossing], self._two[crossing]
            if street >= 0 and self._street_reading[two] == self._street_reading[street]:
                one, two = two, one
            way = Reference(crossing, self._crossing.metres[i], self._crossing.bearing[i])
            facts.crossing = (self._streets[one], self._streets[two], way)
        if (area := self._area.who[i]) >= 0:
            facts.area, facts.area_id = self._areas[area]
            facts.area_index = area
            facts.area_metres, facts.area_bearing = self._area.metres[i], self._area.bearing[i]
        facts.landmark = self._reference(self._landmark, i)
        for column in self._neighbours:
            if (neighbour := self._reference(column, i)) is None:
                break
            facts.neighbours.append(neighbour)
        facts.admins = {level: self._admins[a] for level, column in self._admin if (a := column[i]) >= 0}
        if (node := self._settlement[i]) >= 0:
            facts.settlement = self._settlements[node]
        if (node := self._city[i]) >= 0:
            facts.city = self._settlements[node]
        return facts

    def _reference(self, found: _Column, i: int) -> Reference | None:
        who = found.who[i]
        if who < 0:
            return None
        other = self._places[who]
        return Reference(who, found.metres[i], found.bearing[i], other.poi_id, other.name)


def _known(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - not a number


def gather_facts(places: Sequence[Place], extract: Extract, sub: Sequence[bool]) -> FactTable:
    """Facts of every place, in order.

    Args:
        places: The places.
        extract: What they come from.
        sub: ``sub[i]`` says that the name of place i says nothing by itself ("north gate"); parts without a name are
            such anyway.
    """
    frame = Frame(places)
    lnglat = np.array([(p.lng, p.lat) for p in places]).reshape(-1, 2)
    where, stretch = frame.metres(lnglat), frame.stretch(lnglat[:, 1])
    names = [reads(p.name) for p in places]
    needy = np.array([bool(s) or p.is_part for p, s in zip(places, sub, strict=True)], bool)
    streets = Streets(extract.roads, frame)
    crossings = find_crossings(streets)
    own = np.array([streets.code_of(street_of(p.tags)) for p in places], np.int64)
    alone = _alone(names, needy)
    known = np.array([n for n in alone if is_landmark(places[n].tags)], np.int64)
    plain = np.array([n for n in alone if places[n].category[0] != ADDRESS], np.int64)
    admins = _Admins(extract.admins, frame)
    levels = admins.around(where)
    columns = _Columns(
        street=streets.nearest(where, stretch, own),
        by_address=own >= 0,
        crossing=crossings.nearest(where, stretch),
        area=_areas(places, names, where, stretch, extract.areas, frame, needy),
        landmark=_nearest_others(names, where, stretch, known, LANDMARK_M)[0],
        neighbours=_nearest_others(names, where, stretch, plain, NEIGHBOUR_M, NEIGHBOURS),
        admins=levels,
        settlement=_settlements(
            ("suburb", "quarter", "neighbourhood", "village"), SETTLEMENT_M, where, stretch, extract, admins, levels
        ),
        city=_settlements(("city", "town"), CITY_M, where, stretch, extract, admins, levels),
        district=_districts(places, where, stretch),
    )
    table = FactTable(places, columns, streets, crossings, extract)
    del streets, admins
    give_back()
    return table


def _alone(names: Sequence[str], needy: np.ndarray) -> list[int]:
    """Places whose name reads like no other and says something by itself."""
    counts = Counter(names)
    return [i for i, name in enumerate(names) if name and not needy[i] and counts[name] == 1]


def _areas(
    places: Sequence[Place],
    names: Sequence[str],
    where: np.ndarray,
    stretch: Floats,
    areas: Sequence[Feature],
    frame: Frame,
    needy: np.ndarray,
) -> Found:
    """The smallest named area that contains a place; for gates and the like, one whose edge is at hand will do."""
    found = Found.nothing(len(places))
    if not areas:
        return found
    around = Areas.of([a.shape for a in areas], frame)
    called = [reads(name_in(a.tags)) for a in areas]
    found.who[:] = around.around(
        where, needy, lambda i, a: areas[a].osm_id != places[i].poi_id and called[a] != names[i]
    )
    inside = np.flatnonzero(found.who >= 0)
    middle = around.middles[found.who[inside]]
    found.metres[inside] = apart_m(middle, where[inside]) * stretch[inside]
    found.bearing[inside] = bearing_deg(middle, where[inside])
    return found


def _nearest_others(
    names: Sequence[str], where: np.ndarray, stretch: Floats, among: Ints, within_m: float, wanted: int = 1
) -> list[Found]:
    """For each place the ``wanted`` nearest of ``among`` that are other ones and whose names do not overlap with its
    own, nearest first; they are looked for among a few more. All of them have bearings from there to the place.
    """
    out = [Found.nothing(len(names)) for _ in range(wanted)]
    if not len(among) or not len(names):
        return out
    k = min(wanted + 5, len(among))
    away, slots = cKDTree(where[among]).query(where, k=range(1, k + 1), distance_upper_bound=within_m / stretch.min())
    asking, have = np.arange(len(names)), np.zeros(len(names), np.int64)
    for column in range(k):
        metres = away[asking, column] * stretch[asking]
        near = metres <= within_m
        asking, metres = asking[near], metres[near]
        other = among[slots[asking, column]]
        fits = np.array([not _overlap(i, j, names) for i, j in zip(asking.tolist(), other.tolist(), strict=True)], bool)
        for place in range(wanted):
            chosen = fits & (have[asking] == place)
            who = asking[chosen]
            found = out[place]
            found.who[who], found.metres[who] = other[chosen], metres[chosen]
            found.bearing[who] = bearing_deg(where[other[chosen]], where[who])
        have[asking[fits]] += 1
        asking = asking[have[asking] < wanted]
    return out


def _overlap(i: int, j: int, names: Sequence[str]) -> bool:
    """Whether place j is place i, or one of the two names (that of j is not empty) is a part of the other."""
    return i == j or names[j] in names[i] or (names[i] != "" and names[i] in names[j])


class _Admins:
    """Administrative boundaries on the plane of a frame."""

    def __init__(self, admins: Sequence[Feature], frame: Frame) -> None:
        self.frame = frame
        self.level = np.array([int(a.tags["admin_level"]) for a in admins], np.int64)
        self.shapes = frame.shapes([a.shape for a in admins])

    def around(self, where: np.ndarray) -> dict[int, Ints]:
        """level -> (N,) the boundary around each of the (N, 2) points on the plane, -1 for none."""
        return first_containing(where, self.shapes, self.level)


def _settlements(
    kinds: tuple[str, ...],
    within_m: float,
    where: np.ndarray,
    stretch: Floats,
    extract: Extract,
    admins: _Admins,
    levels: dict[int, Ints],
) -> Ints:
    """The nearest settlement of these kinds in the same commune, an index into ``extract.settlements``, -1 for none."""
    found = np.full(len(where), -1, np.int64)
    nodes = np.array([n for n, f in enumerate(extract.settlements) if f.tags["place"] in kinds], np.int64)
    if not len(nodes) or not len(where):
        return found
    spots = admins.frame.metres(np.array([extract.settlements[n].shape.coords[0] for n in nodes]))
    away, nearest = cKDTree(spots).query(where)
    fits = away * stretch <= within_m
    if COMMUNE_LEVEL in levels:
        fits &= admins.around(spots)[COMMUNE_LEVEL][nearest] == levels[COMMUNE_LEVEL]
    found[fits] = nodes[nearest[fits]]
    return found


def _districts(places: Sequence[Place], where: np.ndarray, stretch: Floats) -> list[str]:
    """addr:district, of the place or of the nearest place within a kilometre that has one."""
    told = [p.tags.get("addr:district") or p.tags.get("addr:suburb") or "" for p in places]
    known = np.array([i for i, d in enumerate(told) if d], np.int64)
    if not len(known):
        return told
    away, nearest = cKDTree(where[known]).query(where)
    near = (away * stretch <= DISTRICT_M).tolist()
    return [d or (told[known[slot]] if ok else "") for d, slot, ok in zip(told, nearest, near, strict=True)]
