"""Where places lie: street, crossing, containing area, landmark, neighbour, administration. All joins are vectorised.

Distances are metres in a local equirectangular frame (0.1% within a city); bearings are degrees from north, clockwise,
as seen from the thing that is named ("100 m north-east of the crossing").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely
from scipy.spatial import cKDTree

from m3gal_cli.data.coordinates import METRES_PER_DEGREE, local_metres
from m3gal_cli.data.osm.extract import Extract, Feature
from m3gal_cli.data.osm.places import Place, inner_points, name_in, reads, street_of
from m3gal_cli.data.osm.tags import ADDRESS, is_landmark

STREET_M = 150.0
CROSSING_M = 600.0
AREA_MARGIN_M = 20.0  # gates stand on the fence
LARGEST_AREA_M2 = 2e7
LANDMARK_M = 1200.0
NEIGHBOUR_M = 400.0
SETTLEMENT_M = 2500.0
COMMUNE_LEVEL = 8  # a settlement across this border is not where a place lies

Tags = dict[str, str]


@dataclass
class Reference:
    """What a place is told by: ``who`` is an index; ``metres`` and ``bearing`` (degrees) lead from it to the place."""

    who: int
    metres: float
    bearing: float


@dataclass
class Facts:
    """What is known of one place.

    Attributes:
        street: Tags of its street (at least ``name``), by address or the nearest named one within ``STREET_M``.
        street_bearing: From the street to the place, degrees; None where it is not known.
        by_address: Whether the street comes from the address tags.
        crossing: Tags of two streets that cross, the nearer first, and the way from there.
        area: Tags of the smallest named area around it, and its index.
        landmark, neighbour: Places by index.
        admins: admin_level -> tags of the boundary that contains it.
        settlement: Tags of the nearest suburb, village or town node within ``SETTLEMENT_M``.
    """

    street: Tags | None = None
    street_bearing: float | None = None
    by_address: bool = False
    crossing: tuple[Tags, Tags, Reference] | None = None
    area: Tags | None = None
    area_index: int = -1
    landmark: Reference | None = None
    neighbour: Reference | None = None
    admins: dict[int, Tags] = field(default_factory=dict)
    settlement: Tags | None = None
    city: Tags | None = None
    district: str = ""


@dataclass
class Crossings:
    """Crossings of two named streets: points (C, 2) in metres and the tags of both streets."""

    where: np.ndarray
    streets: list[tuple[Tags, Tags]]


class Frame:
    """The local metric frame of an extract, around the middle of its places."""

    def __init__(self, places: list[Place]) -> None:
        self.lng0 = float(np.median([p.lng for p in places]))
        self.lat0 = float(np.median([p.lat for p in places]))

    def metres(self, lnglat: np.ndarray) -> np.ndarray:
        """(N, 2) degrees to (N, 2) metres east and north."""
        return local_metres(lnglat[:, 0], lnglat[:, 1], self.lng0, self.lat0)

    def degrees(self, metres: np.ndarray) -> np.ndarray:
        """(N, 2) metres east and north to (N, 2) degrees."""
        east = metres[:, 0] / (METRES_PER_DEGREE * np.cos(np.radians(self.lat0)))
        return np.stack([self.lng0 + east, self.lat0 + metres[:, 1] / METRES_PER_DEGREE], axis=-1)

    def shapes(self, features: list[Feature]) -> Any:
        """The features' shapes in metres, as an array of objects."""
        return shapely.transform(np.array([f.shape for f in features], dtype=object), self.metres)


def bearing_deg(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Compass bearings in degrees [0, 360) from ``start`` to ``end``, metres east and north; (N, 2), (N, 2) -> (N,)."""
    step = np.asarray(end, float) - np.asarray(start, float)
    return np.degrees(np.arctan2(step[..., 0], step[..., 1])) % 360.0


def gather_facts(places: list[Place], extract: Extract, sub: list[bool]) -> list[Facts]:
    """Facts of every place, in order. ``sub[i]`` says that the name of place i says nothing by itself."""
    frame = Frame(places)
    where = frame.metres(np.array([(p.lng, p.lat) for p in places]))
    facts = [Facts() for _ in places]
    roads = frame.shapes(extract.roads) if extract.roads else np.array([], dtype=object)
    _streets(places, where, extract.roads, roads, facts)
    if len(roads):
        _crossings(where, find_crossings(extract.roads, roads), facts)
    _areas(places, where, extract.areas, frame, sub, facts)
    _references(places, where, sub, facts)
    _admins(where, extract, frame, facts)
    _districts(places, where, facts)
    return facts


def _streets(places: list[Place], where: np.ndarray, roads: list[Feature], shapes: Any, facts: list[Facts]) -> None:
    by_name: dict[str, Tags] = {}
    for road in roads:
        held = by_name.setdefault(road.tags["name"], road.tags)
        if len(road.tags) > len(held):
            by_name[road.tags["name"]] = road.tags
    for place, fact in zip(places, facts, strict=True):
        street = street_of(place.tags)
        if street:
            fact.street, fact.by_address = by_name.get(street, {"name": street}), True
    if not roads:
        return
    tree = shapely.STRtree(shapes)
    points = shapely.points(where)
    (which, road_of) = tree.query_nearest(points, max_distance=STREET_M, all_matches=False)
    foot = shapely.get_coordinates(
        shapely.line_interpolate_point(shapes[road_of], shapely.line_locate_point(shapes[road_of], points[which]))
    )
    away = np.hypot(*(where[which] - foot).T)
    bearings = bearing_deg(foot, where[which])
    for i, road, metres, bearing in zip(which, road_of, away, bearings, strict=True):
        name = name_in(roads[road].tags)
        if not facts[i].by_address:
            facts[i].street = by_name[roads[road].tags["name"]]
        street = facts[i].street
        if street is not None and name_in(street) == name and metres > 3.0:
            facts[i].street_bearing = float(bearing)


def find_crossings(roads: list[Feature], shapes: Any) -> Crossings:
    """Where two streets of different names meet on one level (a bridge over a street is no crossing).

    Args:
        roads: Named streets.
        shapes: Their lines in metres.
    """
    tree = shapely.STRtree(shapes)
    first, second = tree.query(shapes, predicate="intersects")
    level = [(r.tags.get("layer", "0"), "bridge" in r.tags, "tunnel" in r.tags) for r in roads]
    names = [reads(name_in(r.tags)) for r in roads]
    keep = [
        n for n, (a, b) in enumerate(zip(first, second, strict=True))
        if a < b and level[a] == level[b] and names[a] not in names[b] and names[b] not in names[a]
    ]  # fmt: skip
    first, second = first[keep], second[keep]
    meets = shapely.intersection(shapes[first], shapes[second])
    points, owner = [], []
    for n, shape in enumerate(meets):
        if shape.geom_type in ("Point", "MultiPoint"):
            found = shapely.get_coordinates(shape)
            points.append(found)
            owner += [n] * len(found)
    streets = [(roads[first[n]].tags, roads[second[n]].tags) for n in owner]
    return Crossings(np.concatenate(points) if points else np.zeros((0, 2)), streets)


def _crossings(where: np.ndarray, crossings: Crossings, facts: list[Facts]) -> None:
    if not len(crossings.where):
        return
    metres, nearest = cKDTree(crossings.where).query(where)
    bearings = bearing_deg(crossings.where[nearest], where)
    for fact, far, which, bearing in zip(facts, metres, nearest, bearings, strict=True):
        if far <= CROSSING_M:
            one, two = crossings.streets[which]
            if fact.street is not None and reads(name_in(two)) == reads(name_in(fact.street)):
                one, two = two, one
            fact.crossing = (one, two, Reference(int(which), float(far), float(bearing)))


def _areas(
    places: list[Place], where: np.ndarray, areas: list[Feature], frame: Frame, sub: list[bool], facts: list[Facts]
) -> None:
    """The smallest named area that contains a place; for gates and the like, one whose edge is at hand will do."""
    if not areas:
        return
    shapes = frame.shapes(areas)
    sizes = shapely.area(shapes)
    tree = shapely.STRtree(shapes)
    points = shapely.points(where)
    inside = np.stack(tree.query(points, predicate="within"))
    margin = np.where(sub, AREA_MARGIN_M, 0.0)
    near = np.stack(tree.query(points, predicate="dwithin", distance=margin))
    found: dict[int, tuple[bool, float, int]] = {}
    for rank, pairs in ((False, inside), (True, near)):
        for i, a in pairs.T:
            name = reads(name_in(areas[a].tags))
            if areas[a].osm_id == places[i].poi_id or name == reads(places[i].name) or sizes[a] > LARGEST_AREA_M2:
                continue
            candidate = (rank, float(sizes[a]), int(a))
            if int(i) not in found or candidate < found[int(i)]:
                found[int(i)] = candidate
    for i, (_, _, a) in found.items():
        facts[i].area, facts[i].area_index = areas[a].tags, a


def _references(places: list[Place], where: np.ndarray, sub: list[bool], facts: list[Facts]) -> None:
    """The nearest landmark and the nearest other place whose name is its own alone."""
    counts = Counter(reads(p.name) for p in places)
    own = [bool(p.name) and not s and counts[reads(p.name)] == 1 for p, s in zip(places, sub, strict=True)]
    known = [i for i, p in enumerate(places) if own[i] and is_landmark(p.tags)]
    for i, reference in enumerate(_nearest_other(places, where, known, LANDMARK_M)):
        facts[i].landmark = reference
    plain = [i for i, p in enumerate(places) if own[i] and p.category[0] != ADDRESS]
    for i, reference in enumerate(_nearest_other(places, where, plain, NEIGHBOUR_M)):
        facts[i].neighbour = reference


def _nearest_other(
    places: list[Place], where: np.ndarray, among: list[int], within_m: float, k: int = 6
) -> list[Reference | None]:
    """For each place the nearest of ``among`` that is another one and whose name does not overlap with its own."""
    out: list[Reference | None] = [None] * len(places)
    if len(among) < 2:
        return out
    spots = where[among]
    k = min(k, len(among))
    metres, slots = cKDTree(spots).query(where, k=k, distance_upper_bound=within_m)
    names = [reads(p.name) for p in places]
    for i, (row_m, row_s) in enumerate(zip(metres, slots, strict=True)):
        for far, slot in zip(row_m, row_s, strict=True):
            if not np.isfinite(far):
                break
            j = among[slot]
            if j != i and names[j] not in names[i] and (not names[i] or names[i] not in names[j]):
                out[i] = Reference(j, float(far), float(bearing_deg(spots[slot], where[i])))
                break
    return out


def _admins(where: np.ndarray, extract: Extract, frame: Frame, facts: list[Facts]) -> None:
    for fact, found in zip(facts, _containing(where, extract, frame), strict=True):
        fact.admins = found
    for kinds, attribute, within_m in (
        (("suburb", "quarter", "neighbourhood", "village"), "settlement", SETTLEMENT_M),
        (("city", "town"), "city", 20_000.0),
    ):
        nodes = [f for f in extract.settlements if f.tags["place"] in kinds]
        if not nodes:
            continue
        spots = frame.metres(inner_points(nodes))
        communes = [found.get(COMMUNE_LEVEL) for found in _containing(spots, extract, frame)]
        metres, nearest = cKDTree(spots).query(where, distance_upper_bound=within_m)
        for fact, far, node in zip(facts, metres, nearest, strict=True):
            if np.isfinite(far) and communes[node] is fact.admins.get(COMMUNE_LEVEL):
                setattr(fact, attribute, nodes[node].tags)


def _containing(where: np.ndarray, extract: Extract, frame: Frame) -> list[dict[int, Tags]]:
    """admin_level -> tags of the boundary around each point; where two overlap, the first in the file."""
    out: list[dict[int, Tags]] = [{} for _ in where]
    if extract.admins:
        which, admin = shapely.STRtree(frame.shapes(extract.admins)).query(shapely.points(where), predicate="within")
        for i, a in sorted(zip(which.tolist(), admin.tolist(), strict=True)):
            tags = extract.admins[a].tags
            out[i].setdefault(int(tags["admin_level"]), tags)
    return out


def _districts(places: list[Place], where: np.ndarray, facts: list[Facts]) -> None:
    """addr:district, of the place or of the nearest place within a kilometre that has one."""
    told = [p.tags.get("addr:district") or p.tags.get("addr:suburb") or "" for p in places]
    known = [i for i, d in enumerate(told) if d]
    for i in known:
        facts[i].district = told[i]
    if not known:
        return
    metres, nearest = cKDTree(where[known]).query(where, distance_upper_bound=1000.0)
    for fact, far, slot in zip(facts, metres, nearest, strict=True):
        if not fact.district and np.isfinite(far):
            fact.district = told[known[slot]]
