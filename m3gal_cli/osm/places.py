"""Places of an extract: their names, and which features are one and the same place."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from m3gal_cli.geo.projection import Frame, bearing_deg
from m3gal_cli.osm.areas import Areas
from m3gal_cli.osm.tags import ADDRESS, CATEGORY_KEYS, part_ref
from m3gal_cli.text.normalise import reads

if TYPE_CHECKING:
    from m3gal_cli.geo.coordinates import Floats
    from m3gal_cli.osm.extract import Extract, Feature, Roads

SAME_PLACE_M = (
    120.0  # things of one name and kind that are nearer than this are one place (the two sides of a stop too)
)
SAME_SUB_M = 30.0  # ... of names that many places share, such as "north gate"
TRANSIT_KEYS = frozenset({"railway", "public_transport", "highway", "aeroway"})
ROAD = ("highway", "road")  # the category of a point that bears the name of a street
_SHELL = frozenset({"building", "landuse", "place", "man_made"})
_PART_CLASS = {  # parts of a compound that read the same
    ("barrier", "gate"): "gate", ("barrier", "entrance"): "gate", ("entrance", "yes"): "gate",
    ("entrance", "main"): "gate", ("entrance", "service"): "service gate", ("entrance", "home"): "door",
    ("entrance", "staircase"): "door",
}  # fmt: skip


@dataclass(slots=True)
class Place:
    """A place that people look for.

    Attributes:
        poi_id: OSM id, as in "n123", "w123", "r123".
        tags: The OSM tags that somebody reads.
        category: OSM key and value, or ("address", "").
        lng, lat: A point inside the shape, degrees WGS-84.
        row: Its text in the POI table that it comes from; empty for one of an extract.
    """

    poi_id: str
    tags: dict[str, str]
    category: tuple[str, str]
    lng: float
    lat: float
    row: str = ""

    @property
    def name(self) -> str:
        """The name on the map; empty for an address, and for a part of a compound that has none."""
        return "" if self.category[0] == ADDRESS else name_in(self.tags)

    @property
    def is_part(self) -> bool:
        """Whether it is told by the named area around it alone: a gate, a car park, a numbered building."""
        return self.category[0] != ADDRESS and not self.name

    @property
    def reading(self) -> str:
        """The name, or the address of a place without a name."""
        return self.name or f"{street_of(self.tags)} {self.tags.get('addr:housenumber', '')}".strip()


def name_in(tags: Mapping[str, str], language: str = "") -> str:
    """The name in a language ("" is the name on the map), empty where there is none."""
    return _first(tags.get(f"name:{language}" if language else "name", ""))


@lru_cache(maxsize=1 << 15)
def _first(text: str) -> str:
    """The first of several names that a semicolon parts, without stray blanks."""
    return " ".join(text.partition(";")[0].split())


def street_of(tags: Mapping[str, str]) -> str:
    """The street of the address tags, or the place that stands for one."""
    return " ".join((tags.get("addr:street") or tags.get("addr:place") or "").split())


def distinct_places(extract: Extract, is_sub: re.Pattern[str] | None = None) -> list[Place]:
    """The places of an extract, each once, in the order of the file; then the parts of compounds without a name.

    Features of one name and kind within ``SAME_PLACE_M`` are one place (the best described is kept); a bare address is
    left out where a named place has it already. A part without a name is left out where no named area is around it or
    within 20 m, and where another one of its kind has the same number and lies in the same direction from the middle
    of the area.

    Args:
        extract: The extract.
        is_sub: Matches names that many places share; those are one place only within ``SAME_SUB_M``.
    """
    places = _with_roads(extract)
    if not places:
        return []
    frame = Frame(places)
    where, stretch = _on_plane(places, frame)
    addresses = [reads(_address(p)) if p.tags.get("addr:housenumber") else "" for p in places]
    named = {a for p, a in zip(places, addresses, strict=True) if a and p.category[0] != ADDRESS}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        if place.category[0] == ADDRESS:
            if addresses[i] not in named:
                groups[addresses[i], ADDRESS].append(i)
        elif reading := reads(place.name):
            groups[reading, _class(place)].append(i)
    _fold_shells(groups)
    kept = [members[0] for members in groups.values() if len(members) == 1]
    several = [members for members in groups.values() if len(members) > 1]
    if several:
        shared = [is_sub is not None and bool(is_sub.fullmatch(places[members[0]].name)) for members in several]
        kept += _best_of_each(places, several, _clusters(several, shared, where, stretch))
    return [places[i] for i in sorted(kept)] + _distinct_parts(extract.parts, extract.areas, frame)


def _with_roads(extract: Extract) -> list[Place]:
    """The places; a point with place=* that bears a street's name is a road."""
    streets = {name_in(tags) for tags in {id(tags): tags for tags in extract.roads.tags}.values()}
    return [
        Place(p.poi_id, p.tags, ROAD, p.lng, p.lat) if p.category[0] == "place" and p.name in streets else p
        for p in extract.places
    ]


def _on_plane(places: Sequence[Place], frame: Frame) -> tuple[np.ndarray, Floats]:
    lnglat = np.array([(p.lng, p.lat) for p in places]).reshape(-1, 2)
    return frame.metres(lnglat), frame.stretch(lnglat[:, 1])


def _address(place: Place) -> str:
    return f"{street_of(place.tags)}|{place.tags.get('addr:housenumber', '')}|{place.tags.get('addr:city', '')}"


def _class(place: Place) -> str:
    key = place.category[0]
    return "transit" if key in TRANSIT_KEYS else "shell" if key in _SHELL else key


def _fold_shells(groups: dict[tuple[str, str], list[int]]) -> None:
    """Let buildings and grounds join the things of the same name that they house."""
    for name, kind in list(groups):
        if kind == "shell":
            for key in CATEGORY_KEYS:
                if (name, key) in groups and key not in _SHELL:
                    groups[name, key] += groups.pop((name, kind))
                    break


def _clusters(groups: list[list[int]], shared: list[bool], where: np.ndarray, stretch: Floats) -> list[int]:
    """A label for each member of each group: those are alike that steps within their group connect, each shorter than
    ``SAME_PLACE_M``, or ``SAME_SUB_M`` for the names that many places share.
    """
    sizes = [len(members) for members in groups]
    flat = np.array([i for members in groups for i in members], np.int64)
    within = np.repeat(np.where(shared, SAME_SUB_M, SAME_PLACE_M), sizes) / stretch[flat]
    # One tree for all: the groups lie one above the other, farther apart than any step.
    reach = float(within.max())
    floor = np.repeat(np.arange(len(groups)), sizes) * 2.0 * reach
    pairs = cKDTree(np.column_stack([where[flat], floor])).query_pairs(reach, output_type="ndarray")
    one, two = pairs[:, 0], pairs[:, 1]
    near = np.hypot(*(where[flat[one]] - where[flat[two]]).T) <= within[one]
    graph = coo_array((near[near], (one[near], two[near])), shape=(len(flat), len(flat)))
    return [int(label) for label in connected_components(graph, directed=False)[1]]


def _best_of_each(places: list[Place], groups: list[list[int]], labels: list[int]) -> list[int]:
    """One member of every cluster: the first kind in CATEGORY_KEYS, then the one with most tags, then the first."""
    best: dict[int, int] = {}
    for i, label in zip((i for members in groups for i in members), labels, strict=True):
        held = best.get(label)
        if held is None or _quality(places[i]) > _quality(places[held]):
            best[label] = i
    return list(best.values())


def _quality(place: Place) -> tuple[int, int]:
    key = place.category[0]
    rank = CATEGORY_KEYS.index(key) if key in CATEGORY_KEYS else len(CATEGORY_KEYS)
    return -rank, len(place.tags)


def _distinct_parts(parts: list[Place], areas: list[Feature], frame: Frame) -> list[Place]:
    """Parts in a named area or on its edge, one of each kind, direction from the middle and number."""
    if not parts or not areas:
        return []
    around = Areas.of([a.shape for a in areas], frame)
    where, _ = _on_plane(parts, frame)
    area = around.around(where, np.ones(len(parts), bool), lambda i, a: areas[a].osm_id != parts[i].poi_id)
    inside = np.flatnonzero(area >= 0)
    turn = bearing_deg(around.middles[area[inside]], where[inside])
    best: dict[tuple[int, str, int, str], int] = {}
    for i, bearing in zip(inside.tolist(), turn.tolist(), strict=True):
        part = parts[i]
        kind = _PART_CLASS.get(part.category, part.category[1] if part.category[0] == "amenity" else part.category[0])
        key = (int(area[i]), kind, int((bearing + 22.5) // 45.0) % 8, reads(part_ref(part.tags)))
        held = best.get(key)
        if held is None or _part_quality(part) > _part_quality(parts[held]):
            best[key] = i
    return [parts[i] for i in sorted(best.values())]


def _part_quality(part: Place) -> tuple[bool, bool, int]:
    return part.category == ("entrance", "main"), part.category[0] == "barrier", len(part.tags)


def local_languages(places: Sequence[Place], roads: Roads, share: float = 0.12) -> list[str]:
    """Languages other than the map's in which at least ``share`` of the named things have a name of their own."""
    counts: Counter[str] = Counter()
    total = 0
    for tags in [p.tags for p in places if p.name] + roads.tags:
        total += 1
        for key, value in tags.items():
            if key.startswith("name:") and key[5:].isalpha() and len(key) <= 8 and value != tags.get("name"):
                counts[key[5:]] += 1
    return sorted(language for language, n in counts.items() if n >= share * max(total, 1))
