"""Facts of places from spatial joins: street, crossing, area, landmark, neighbours and administration.

Distances are right to 0.5% anywhere (see ``geo.projection``). Bearings are degrees clockwise from north, from the named
object to the place ("100 m north-east of the crossing").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from m3gal_cli.geo.projection import Projection
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import release_memory
from m3gal_cli.osm.places import Place, Tags, coordinates_of, name_in, projection_of, street_of
from m3gal_cli.osm.spatial_joins import (
    AreaPolygons,
    Ints,
    Nearest,
    PlanePoints,
    first_containing,
    nearest_accepted,
    nearest_target,
)
from m3gal_cli.osm.streets import Streets, find_crossings
from m3gal_cli.osm.tags import ADDRESS, is_landmark
from m3gal_cli.text.normalise import reading_key

CROSSING_M = 600.0
LANDMARK_M = 1200.0
NEIGHBOUR_M = 400.0
NEIGHBOURS = 4
SETTLEMENT_M = 2500.0
CITY_M = 20_000.0
DISTRICT_M = 1000.0
COMMUNE_LEVEL = 8  # a place and its settlement lie in one commune

NamedObject = tuple[Tags, str]  # tags, and the OSM id or ""


@dataclass(slots=True)
class Reference:
    """An object near a place.

    Attributes:
        index: Index among the streets, crossings, areas or places.
        metres: Distance to the place, NaN if unknown.
        bearing: Degrees from the object to the place, NaN if unknown.
        tags: OSM tags; {} for a crossing.
        osm_id: OSM id; "" for streets and crossings.
    """

    index: int
    metres: float
    bearing: float
    tags: Tags = field(default_factory=dict)
    osm_id: str = ""

    @property
    def name(self) -> str:
        """The name on the map."""
        return name_in(self.tags)


@dataclass(slots=True)
class Facts:
    """The facts of one place. Unknown facts are None, "" or empty.

    Attributes:
        street: The street of the address, else the nearest one; see ``Streets.nearest``.
        by_address: Whether the street comes from the address.
        crossing: The nearest crossing of two streets.
        crossing_streets: Tags of the two streets, the place's own first if it is one of them.
        area: The smallest named area around it; distance and bearing start at the centroid.
        landmark: The nearest well-known place.
        neighbours: The nearest places with unique names, nearest first.
        admins: admin_level -> tags of the boundary that contains it.
        settlement: Tags of the nearest suburb or village node within ``SETTLEMENT_M``.
        city: Tags of the nearest city or town node within ``CITY_M``.
        district: addr:district or addr:suburb of the place, or of the nearest place within ``DISTRICT_M`` with one.
    """

    by_address: bool
    district: str
    street: Reference | None = None
    crossing: Reference | None = None
    crossing_streets: tuple[Tags, Tags] | None = None
    area: Reference | None = None
    landmark: Reference | None = None
    neighbours: list[Reference] = field(default_factory=list)
    admins: dict[int, Tags] = field(default_factory=dict)
    settlement: Tags | None = None
    city: Tags | None = None


@dataclass
class FactTable:
    """The facts of N places as arrays of length N, without shapes; ``table[i]`` makes the ``Facts`` of place i."""

    by_address: np.ndarray
    district: list[str]
    street: Nearest
    streets: list[NamedObject]
    street_keys: list[str]
    crossing: Nearest
    crossing_codes: Ints
    area: Nearest
    areas: list[NamedObject]
    landmark: Nearest
    neighbours: list[Nearest]
    places: list[NamedObject]
    admin: dict[int, Ints]
    admins: list[Tags]
    settlement: Ints
    city: Ints
    settlements: list[Tags]

    def __len__(self) -> int:
        return len(self.district)

    def __iter__(self) -> Iterator[Facts]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Facts:
        """Return the facts of place i."""
        if not 0 <= i < len(self):
            raise IndexError(i)
        facts = Facts(bool(self.by_address[i]), self.district[i])
        facts.street = _reference(self.street, i, self.streets)
        if (crossing := self.crossing.index.item(i)) >= 0:
            one, two = self.crossing_codes[crossing].tolist()
            if facts.street and self.street_keys[two] == self.street_keys[facts.street.index]:
                one, two = two, one
            facts.crossing = Reference(crossing, self.crossing.metres.item(i), self.crossing.bearing.item(i))
            facts.crossing_streets = self.streets[one][0], self.streets[two][0]
        facts.area = _reference(self.area, i, self.areas)
        facts.landmark = _reference(self.landmark, i, self.places)
        facts.neighbours = [r for join in self.neighbours if (r := _reference(join, i, self.places)) is not None]
        facts.admins = {level: self.admins[a] for level, join in self.admin.items() if (a := join.item(i)) >= 0}
        if (node := self.settlement.item(i)) >= 0:
            facts.settlement = self.settlements[node]
        if (node := self.city.item(i)) >= 0:
            facts.city = self.settlements[node]
        return facts


def _reference(join: Nearest, i: int, objects: list[NamedObject]) -> Reference | None:
    index = join.index.item(i)
    if index < 0:
        return None
    return Reference(index, join.metres.item(i), join.bearing.item(i), *objects[index])


def gather_facts(places: Sequence[Place], extract: Extract, generic: Sequence[bool]) -> FactTable:
    """Return the facts of every place, in order.

    Places with a ``generic`` name ("north gate") and unnamed places are never landmarks or neighbours. If no area
    contains them, they belong to an area within ``AREA_MARGIN_M``.
    """
    projection = projection_of(places)
    points = PlanePoints.project(coordinates_of(places), projection)
    names = [reading_key(p.name) for p in places]
    unspecific = np.array([bool(g) or p.is_unnamed_part for p, g in zip(places, generic, strict=True)], bool)
    counts = Counter(names)
    unique = [i for i, name in enumerate(names) if name and not unspecific[i] and counts[name] == 1]
    landmarks = np.array([i for i in unique if is_landmark(places[i].tags)], np.int64)
    named = np.array([i for i in unique if places[i].category[0] != ADDRESS], np.int64)
    area_keys = [(a.osm_id, reading_key(name_in(a.tags))) for a in extract.areas]

    def another_place(i: int, j: int) -> bool:
        """Exclude the place itself, and pairs of places if one name contains the other."""
        return i != j and names[j] not in names[i] and (names[i] == "" or names[i] not in names[j])

    def another_area(i: int, a: int) -> bool:
        osm_id, name = area_keys[a]
        return osm_id != places[i].poi_id and name != names[i]

    streets = Streets(extract.roads, projection)
    crossings = find_crossings(streets)
    address_streets = np.array([streets.code_of(street_of(p.tags)) for p in places], np.int64)
    nodes = _SettlementNodes(extract, projection, points)
    table = FactTable(
        by_address=address_streets >= 0,
        district=_districts(places, points),
        street=streets.nearest(points, address_streets),
        streets=[(tags, "") for tags in streets.tags],
        street_keys=[reading_key(name) for name in streets.names],
        crossing=nearest_target(points, crossings.xy, CROSSING_M),
        crossing_codes=crossings.codes,
        area=AreaPolygons([a.shape for a in extract.areas], projection).smallest_around(
            points, unspecific, another_area
        ),
        areas=[(a.tags, a.osm_id) for a in extract.areas],
        landmark=nearest_accepted(points, landmarks, LANDMARK_M, 1, another_place)[0],
        neighbours=nearest_accepted(points, named, NEIGHBOUR_M, NEIGHBOURS, another_place),
        places=[(p.tags, p.poi_id) for p in places],
        admin=nodes.admin,
        admins=[a.tags for a in extract.admins],
        settlement=nodes.nearest({"suburb", "quarter", "neighbourhood", "village"}, SETTLEMENT_M),
        city=nodes.nearest({"city", "town"}, CITY_M),
        settlements=[s.tags for s in extract.settlements],
    )
    del streets, nodes
    release_memory()
    return table


class _SettlementNodes:
    """Settlement nodes on the plane; ``admin`` is level -> (N,) index of the boundary around each place, or -1."""

    def __init__(self, extract: Extract, projection: Projection, points: PlanePoints) -> None:
        self._kinds = [node.tags["place"] for node in extract.settlements]
        nodes = np.array([node.shape.coords[0] for node in extract.settlements]).reshape(-1, 2)
        self._xy = projection.metres(nodes)
        self._points = points
        levels = np.array([int(a.tags["admin_level"]) for a in extract.admins], np.int64)
        shapes = projection.shapes([a.shape for a in extract.admins])
        self.admin, self._node_admin = (first_containing(xy, shapes, levels) for xy in (points.xy, self._xy))

    def nearest(self, kinds: set[str], within_m: float) -> Ints:
        """Return the nearest node of these kinds, if it lies in the same commune; (N,) indices, -1 for none."""
        nodes = np.flatnonzero([kind in kinds for kind in self._kinds])
        if not len(nodes):
            return np.full(len(self._points), -1, np.int64)
        nearest = nearest_target(self._points, self._xy[nodes], within_m).index
        fits = nearest >= 0
        if COMMUNE_LEVEL in self.admin:
            fits &= self._node_admin[COMMUNE_LEVEL][nodes[nearest]] == self.admin[COMMUNE_LEVEL]
        return np.where(fits, nodes[nearest], -1)


def _districts(places: Sequence[Place], points: PlanePoints) -> list[str]:
    """Return the district of each place's address, or of the nearest place within ``DISTRICT_M`` that has one."""
    own = [p.tags.get("addr:district") or p.tags.get("addr:suburb") or "" for p in places]
    known = np.array([i for i, district in enumerate(own) if district], np.int64)
    nearest = nearest_target(points, points.xy[known], DISTRICT_M).index.tolist()
    return [district or (own[known[n]] if n >= 0 else "") for district, n in zip(own, nearest, strict=True)]
