"""Places of an extract: their names, their points, and which features are one and the same place."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from scipy.spatial import cKDTree

from m3gal_cli.data.coordinates import local_metres
from m3gal_cli.data.osm.extract import Extract, Feature
from m3gal_cli.data.osm.tags import ADDRESS, CATEGORY_KEYS, category_of

SAME_PLACE_M = (
    120.0  # things of one name and kind that are nearer than this are one place (the two sides of a stop too)
)
SAME_SUB_M = 30.0  # ... of names that many places share, such as "north gate"
TRANSIT_KEYS = frozenset({"railway", "public_transport", "highway", "aeroway"})
ROAD = ("highway", "road")  # the category of a point that bears the name of a street
_SHELL = frozenset({"building", "landuse", "place", "man_made"})
_HAN = re.compile(r"[\u3400-\u9fff]")
_MARKS = re.compile(r"[\W_]+")


@dataclass
class Place:
    """A place that people look for.

    Attributes:
        poi_id: OSM id, as in "n123", "w123", "r123".
        tags: OSM tags.
        category: OSM key and value, or ("address", "").
        lng, lat: A point inside the shape, degrees WGS-84.
    """

    poi_id: str
    tags: dict[str, str]
    category: tuple[str, str]
    lng: float
    lat: float

    @property
    def name(self) -> str:
        """The name on the map; empty for an address."""
        return "" if self.category[0] == ADDRESS else name_in(self.tags)

    @property
    def reading(self) -> str:
        """The name, or the address of a place without a name."""
        return self.name or f"{street_of(self.tags)} {self.tags.get('addr:housenumber', '')}".strip()


@lru_cache(maxsize=1 << 18)
def reads(text: str) -> str:
    """A text as it reads: letters and digits only, of one width and case. Equal readings cannot be told apart."""
    return _MARKS.sub("", unicodedata.normalize("NFKC", text).casefold())


def has_han(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return _HAN.search(text) is not None


def name_in(tags: Mapping[str, str], language: str = "") -> str:
    """The name in a language ("" is the name on the map), empty where there is none."""
    text = tags.get(f"name:{language}" if language else "name", "")
    return " ".join(text.split(";")[0].split())


def street_of(tags: Mapping[str, str]) -> str:
    """The street of the address tags, or the place that stands for one."""
    return " ".join((tags.get("addr:street") or tags.get("addr:place") or "").split())


def inner_points(features: Iterable[Feature]) -> np.ndarray:
    """A point inside each shape: the centroid where it lies inside, else one on the surface; a line's middle.

    Shape:
        N features -> (N, 2) degrees, lng before lat.
    """
    shapes = np.array([f.shape for f in features], dtype=object)
    if not len(shapes):
        return np.zeros((0, 2))
    points = shapely.centroid(shapes)
    kinds = shapely.get_type_id(shapes)
    lines = kinds == 1
    points[lines] = shapely.line_interpolate_point(shapes[lines], 0.5, normalized=True)
    polygons = kinds >= 3
    outside = np.zeros(len(shapes), bool)
    outside[polygons] = ~shapely.contains(shapes[polygons], points[polygons])
    points[outside] = shapely.point_on_surface(shapes[outside])
    return shapely.get_coordinates(points)


def distinct_places(extract: Extract, is_sub: re.Pattern[str] | None = None) -> list[Place]:
    """The places of an extract, each once, in the order of the file.

    Features of one name and kind within ``SAME_PLACE_M`` are one place (the best described is kept); a bare address is
    left out where a named place has it already.

    Args:
        extract: The extract.
        is_sub: Matches names that many places share; those are one place only within ``SAME_SUB_M``.
    """
    points = inner_points(extract.places)
    streets = {name_in(road.tags) for road in extract.roads}
    places = []
    for feature, (lng, lat) in zip(extract.places, points, strict=True):
        category = category_of(feature.tags)
        if category is not None:
            category = ROAD if category[0] == "place" and name_in(feature.tags) in streets else category
            places.append(Place(feature.osm_id, feature.tags, category, float(lng), float(lat)))
    if not places:
        return []
    where = local_metres([p.lng for p in places], [p.lat for p in places], places[0].lng, places[0].lat)
    named = {reads(_address(p)) for p in places if p.name and p.tags.get("addr:housenumber")}
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        if place.category[0] == ADDRESS:
            if reads(_address(place)) not in named:
                groups[reads(_address(place)), ADDRESS].append(i)
        elif reads(place.name):
            groups[reads(place.name), _class(place)].append(i)
    _fold_shells(groups)
    kept = []
    for members in groups.values():
        sub = is_sub is not None and is_sub.fullmatch(places[members[0]].name) is not None
        kept += _best_of_each(places, where, members, SAME_SUB_M if sub else SAME_PLACE_M)
    return [places[i] for i in sorted(kept)]


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


def _best_of_each(places: list[Place], where: np.ndarray, members: list[int], within_m: float) -> list[int]:
    """One member of every cluster: the first kind in CATEGORY_KEYS, then the one with most tags, then the first."""
    if len(members) == 1:
        return members
    label = np.arange(len(members))
    for a, b in sorted(cKDTree(where[members]).query_pairs(within_m)):
        label[label == label[b]] = label[a]
    best: dict[int, int] = {}
    for slot, i in enumerate(members):
        held = best.get(int(label[slot]))
        if held is None or _quality(places[i]) > _quality(places[held]):
            best[int(label[slot])] = i
    return list(best.values())


def _quality(place: Place) -> tuple[int, int]:
    key = place.category[0]
    rank = CATEGORY_KEYS.index(key) if key in CATEGORY_KEYS else len(CATEGORY_KEYS)
    return -rank, len(place.tags)


def local_languages(places: list[Place], roads: list[Feature], share: float = 0.12) -> list[str]:
    """Languages other than the map's in which at least ``share`` of the named things have a name of their own."""
    counts: Counter[str] = Counter()
    total = 0
    for tags in [p.tags for p in places if p.name] + [r.tags for r in roads]:
        total += 1
        for key, value in tags.items():
            if key.startswith("name:") and key[5:].isalpha() and len(key) <= 8 and value != tags.get("name"):
                counts[key[5:]] += 1
    return sorted(language for language, n in counts.items() if n >= share * max(total, 1))
