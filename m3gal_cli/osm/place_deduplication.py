"""Deduplicate the places of an extract: of several OSM objects for one place, keep the best described one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from m3gal_cli.geo.projection import Projection
from m3gal_cli.osm.extract import Extract, NamedShape, Roads
from m3gal_cli.osm.places import Place, coordinates_of, name_in, projection_of, street_of
from m3gal_cli.osm.spatial_joins import AreaPolygons, Ints, PlanePoints
from m3gal_cli.osm.tags import ADDRESS, CATEGORY_KEYS, part_ref
from m3gal_cli.text.normalise import reading_key

SAME_PLACE_M = 120.0  # objects of one name and category within this distance are one place (the sides of a bus stop)
SAME_GENERIC_M = 30.0  # distance for generic names such as "north gate"
TRANSIT_KEYS = frozenset({"railway", "public_transport", "highway", "aeroway"})
ROAD = ("highway", "road")  # the category of a point that has the name of a street
_SHELL_KEYS = frozenset({"building", "landuse", "place", "man_made"})
_GATES = ("barrier", "gate"), ("barrier", "entrance"), ("entrance", "yes"), ("entrance", "main")
_PART_CLASS = dict.fromkeys(_GATES, "gate") | {
    ("entrance", "service"): "service gate", ("entrance", "home"): "door", ("entrance", "staircase"): "door",
}  # fmt: skip

K = TypeVar("K")


def deduplicate_places(extract: Extract, generic_name: re.Pattern[str] | None = None) -> list[Place]:
    """Return the places of an extract without duplicates, in file order, then the unnamed parts of compounds.

    Single linkage joins objects of one name and category within ``SAME_PLACE_M``, or ``SAME_GENERIC_M`` for names that
    match ``generic_name``. The object with the best category and most tags stays. An address is dropped if a named
    place has it. An unnamed part is dropped if no named area contains it (to within 20 m). It is also dropped if the
    area has a better described part of the same kind, number and direction from the centroid.
    """
    places = _with_road_points(extract)
    if not places:
        return []
    projection = projection_of(places)
    groups = _same_name_groups(places)
    kept = [members[0] for members in groups if len(members) == 1]
    several = [members for members in groups if len(members) > 1]
    if several:
        generic = [generic_name is not None and bool(generic_name.fullmatch(places[m[0]].name)) for m in several]
        labels = _cluster(several, generic, PlanePoints.project(coordinates_of(places), projection))
        members = [i for group in several for i in group]
        kept += _best_of_each(zip(labels, members, strict=True), lambda i: _quality(places[i]))
    return [places[i] for i in sorted(kept)] + _deduplicate_parts(extract.parts, extract.areas, projection)


def _with_road_points(extract: Extract) -> list[Place]:
    """Return the places; a place=* point with the name of a street gets the category ``ROAD``."""
    streets = {name_in(tags) for tags in {id(tags): tags for tags in extract.roads.tags}.values()}
    return [
        Place(p.poi_id, p.tags, ROAD, p.lng, p.lat) if p.category[0] == "place" and p.name in streets else p
        for p in extract.places
    ]


def _same_name_groups(places: list[Place]) -> list[list[int]]:
    """Group places by reading key and class of category; drop the addresses that a named place has."""
    addresses = [reading_key(_address(p)) if p.tags.get("addr:housenumber") else "" for p in places]
    named = {a for p, a in zip(places, addresses, strict=True) if a and p.category[0] != ADDRESS}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        if place.category[0] == ADDRESS:
            if addresses[i] not in named:
                groups[addresses[i], ADDRESS].append(i)
        elif name := reading_key(place.name):
            groups[name, _class(place)].append(i)
    for name, kind in list(groups):  # a building or ground joins the place inside that has its name
        if kind == "shell":
            for key in CATEGORY_KEYS:
                if (name, key) in groups and key not in _SHELL_KEYS:
                    groups[name, key] += groups.pop((name, kind))
                    break
    return list(groups.values())


def _address(place: Place) -> str:
    return f"{street_of(place.tags)}|{place.tags.get('addr:housenumber', '')}|{place.tags.get('addr:city', '')}"


def _class(place: Place) -> str:
    key = place.category[0]
    return "transit" if key in TRANSIT_KEYS else "shell" if key in _SHELL_KEYS else key


def _cluster(groups: list[list[int]], generic: list[bool], points: PlanePoints) -> list[int]:
    """Return a label for each member of each group, by single linkage within the group."""
    sizes = [len(members) for members in groups]
    flat = np.array([i for members in groups for i in members], np.int64)
    within = np.repeat(np.where(generic, SAME_GENERIC_M, SAME_PLACE_M), sizes) / points.scale[flat]
    # One k-d tree serves all groups: a third axis keeps groups farther apart than any distance within a group.
    reach = float(within.max())
    third_axis = np.repeat(np.arange(len(groups)), sizes) * 2.0 * reach
    xy = points.xy[flat]
    pairs = cKDTree(np.column_stack([xy, third_axis])).query_pairs(reach, output_type="ndarray")
    one, two = pairs[:, 0], pairs[:, 1]
    near = np.hypot(*(xy[one] - xy[two]).T) <= within[one]
    graph = coo_array((near[near], (one[near], two[near])), shape=(len(flat), len(flat)))
    return [int(label) for label in connected_components(graph, directed=False)[1]]


def _best_of_each(rows: Iterable[tuple[K, int]], quality: Callable[[int], tuple[int, ...]]) -> list[int]:
    """Return the row of the highest quality for each key; of rows of equal quality the first."""
    best: dict[K, int] = {}
    for key, i in rows:
        old = best.get(key)
        if old is None or quality(i) > quality(old):
            best[key] = i
    return list(best.values())


def _quality(place: Place) -> tuple[int, ...]:
    """Return the priority of the category (``CATEGORY_KEYS``) and the number of tags."""
    key = place.category[0]
    return -(CATEGORY_KEYS.index(key) if key in CATEGORY_KEYS else len(CATEGORY_KEYS)), len(place.tags)


def _part_quality(part: Place) -> tuple[int, ...]:
    return part.category == ("entrance", "main"), part.category[0] == "barrier", len(part.tags)


def _deduplicate_parts(parts: list[Place], areas: list[NamedShape], projection: Projection) -> list[Place]:
    """Return the parts of named areas, one of each area, kind, direction from the centroid and number."""
    if not parts or not areas:
        return []
    points = PlanePoints.project(coordinates_of(parts), projection)
    polygons = AreaPolygons([a.shape for a in areas], projection)
    around = polygons.smallest_around(
        points, np.ones(len(parts), bool), lambda i, a: areas[a].osm_id != parts[i].poi_id
    )
    inside: Ints = np.flatnonzero(around.index >= 0)
    keys = []
    for i in inside.tolist():
        part = parts[i]
        kind = _PART_CLASS.get(part.category, part.category[1] if part.category[0] == "amenity" else part.category[0])
        octant = int((around.bearing.item(i) + 22.5) // 45.0) % 8
        keys.append((around.index.item(i), kind, octant, reading_key(part_ref(part.tags))))
    best = _best_of_each(zip(keys, inside.tolist(), strict=True), lambda i: _part_quality(parts[i]))
    return [parts[i] for i in sorted(best)]


def local_languages(places: Sequence[Place], roads: Roads, share: float = 0.12) -> list[str]:
    """Return the codes of the foreign languages in which at least ``share`` of the places and streets have a name."""
    counts: Counter[str] = Counter()
    total = 0
    for tags in [p.tags for p in places if p.name] + roads.tags:
        total += 1
        for key, value in tags.items():
            if key.startswith("name:") and key[5:].isalpha() and len(key) <= 8 and value != tags.get("name"):
                counts[key[5:]] += 1
    return sorted(language for language, n in counts.items() if n >= share * max(total, 1))
