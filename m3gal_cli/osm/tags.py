"""OSM tags: the categories of places, areas and landmarks, and the keys that are kept of millions of objects."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

ADDRESS = "address"  # the category of a house number without a name

# The category of an object comes from the first of these keys that it has.
CATEGORY_KEYS = (
    "amenity", "shop", "tourism", "healthcare", "office", "craft", "leisure", "historic", "railway", "aeroway",
    "public_transport", "highway", "club", "emergency", "military", "man_made", "natural", "place", "landuse",
    "barrier", "entrance", "building",
)  # fmt: skip

# Values that make a named object a place; None: any value but those of _EXCLUDED.
_PLACE_VALUES: dict[str, frozenset[str] | None] = {
    **dict.fromkeys(("amenity", "shop", "tourism", "healthcare", "office", "craft", "leisure", "historic", "club")),
    "building": None,
    "railway": frozenset({"station", "halt", "tram_stop", "subway_entrance", "train_station_entrance"}),
    "aeroway": frozenset({"aerodrome", "terminal", "heliport", "helipad", "gate"}),
    "public_transport": frozenset({"station", "platform", "stop_position"}),
    "highway": frozenset({"bus_stop", "services", "rest_area"}),
    "emergency": frozenset({"ambulance_station", "phone", "assembly_point"}),
    "military": frozenset({"barracks", "base"}),
    "man_made": frozenset({"tower", "bridge", "pier", "lighthouse", "observatory", "works", "water_tower"}),
    "natural": frozenset({"peak", "beach", "bay", "water", "spring", "cave_entrance", "cape", "saddle", "wood"}),
    "place": frozenset(
        {"square", "suburb", "quarter", "neighbourhood", "village", "hamlet", "town", "locality", "island", "farm"}
    ),
    "landuse": frozenset(
        {"residential", "commercial", "retail", "industrial", "cemetery", "education", "recreation_ground", "military",
         "religious", "allotments"}
    ),
    "barrier": frozenset({"gate", "entrance", "border_control", "toll_booth"}),
    "entrance": frozenset({"yes", "main", "service", "home", "staircase"}),
}  # fmt: skip
_EXCLUDED = {
    ("amenity", v) for v in ("bench", "waste_basket", "waste_disposal", "vending_machine", "bicycle_parking",
                             "parking_space", "recycling", "shelter", "hunting_stand", "grit_bin", "parking_entrance")
} | {("tourism", "information"), ("leisure", "picnic_table"), ("building", "no"), ("office", "no"), ("shop", "no"),
     ("historic", "boundary_stone"), ("amenity", "no"), ("leisure", "no"), ("tourism", "no")}  # fmt: skip

_AREA_VALUES: dict[str, frozenset[str] | None] = {
    "landuse": frozenset({"residential", "commercial", "retail", "industrial", "education", "cemetery", "military"}),
    "amenity": frozenset({"university", "school", "college", "hospital", "marketplace", "kindergarten", "monastery"}),
    "leisure": frozenset({"park", "garden", "sports_centre", "stadium", "golf_course", "nature_reserve", "marina"}),
    "shop": frozenset({"mall", "department_store"}),
    "tourism": frozenset({"zoo", "theme_park", "attraction", "museum", "hotel"}),
    "place": frozenset({"neighbourhood", "quarter", "suburb", "square", "island"}),
    "aeroway": frozenset({"aerodrome", "terminal"}),
    "building": None,
}

_LANDMARK_VALUES: dict[str, frozenset[str]] = {
    "railway": frozenset({"station", "halt"}),
    "aeroway": frozenset({"aerodrome", "terminal"}),
    "amenity": frozenset(
        {"university", "college", "hospital", "townhall", "theatre", "library", "marketplace", "cinema", "arts_centre",
         "bus_station", "ferry_terminal", "casino", "conference_centre"}
    ),
    "shop": frozenset({"mall", "department_store"}),
    "tourism": frozenset({"museum", "attraction", "zoo", "theme_park", "gallery"}),
    "leisure": frozenset({"park", "stadium", "sports_centre", "golf_course"}),
    "historic": frozenset({"castle", "monument", "palace", "fort", "church"}),
    "place": frozenset({"square"}),
}  # fmt: skip
_MINOR_KEYS = ("shop", "office", "club", "memorial", "artwork_type", "craft")

# Parts of a compound that need no name: "the north gate of ...", "building 3 of ...".
_PART_VALUES: dict[str, frozenset[str]] = {
    "entrance": frozenset({"yes", "main", "service", "home", "staircase"}),
    "barrier": frozenset({"gate", "entrance"}),
    "amenity": frozenset({"parking", "parking_entrance", "parcel_locker", "post_depot"}),
}
_NUMBER_KEYS = ("ref", "addr:unit", "addr:housename", "addr:housenumber")  # of a building in its compound
_REF_KEYS = ("ref", "local_ref")

SETTLEMENTS = frozenset({"city", "town", "village", "suburb", "quarter", "neighbourhood"})  # nodes with place=*
REGIONS = SETTLEMENTS | {
    "hamlet", "borough", "municipality", "district", "county", "region", "province", "state", "country", "island",
    "archipelago", "locality", "isolated_dwelling",
}  # polygons with place=*  # fmt: skip

NAME_KEYS = ("name", "alt_name", "short_name", "official_name", "old_name", "loc_name", "int_name")
_ADDRESS_KEYS = (
    "addr:street", "addr:place", "addr:housenumber", "addr:housename", "addr:unit", "addr:city", "addr:district",
    "addr:suburb", "addr:postcode", "addr:full",
)  # fmt: skip
UNNAMED_KEYS = (*_ADDRESS_KEYS, *_REF_KEYS, *_PART_VALUES, "building", "vending", "brand")  # kept without a name
KEPT_KEYS = frozenset(
    {*CATEGORY_KEYS, *_MINOR_KEYS, *UNNAMED_KEYS, *NAME_KEYS, "route_ref", "wikidata", "wikipedia",
     "boundary", "admin_level", "layer", "bridge", "tunnel"}
)  # fmt: skip
NAME_PREFIX = "name:"
# Every kept object has one of these keys; osmium skips all others in C++.
REQUIRED_KEYS = ("name", "addr:housenumber", "addr:housename", "addr:unit", "ref", *_PART_VALUES)


def has_name(tags: Mapping[str, str]) -> bool:
    """Return whether the object has a name on the map."""
    return bool(tags.get("name", "").strip())


def category_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (key, value) of a place, ("address", "") for a house number without a name, None for other objects."""
    if has_name(tags):
        for key in CATEGORY_KEYS:
            value = tags.get(key)
            if value is None or (key, value) in _EXCLUDED:
                continue
            allowed = _PLACE_VALUES[key]
            if allowed is None or value in allowed:
                return _pair(key, value)
    if tags.get("addr:housenumber") and (tags.get("addr:street") or tags.get("addr:place")):
        return _pair(ADDRESS, "")
    return None


@lru_cache(maxsize=4096)
def _pair(key: str, value: str) -> tuple[str, str]:
    """Return one shared tuple for equal arguments: millions of places have a thousand categories."""
    return key, value


def part_category_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return (key, value) of an unnamed part of a compound (gate, car park, numbered building ...), else None."""
    if has_name(tags):
        return None
    for key, values in _PART_VALUES.items():
        if tags.get(key) in values:
            return _pair(key, tags[key])
    if "parcel_pickup" in tags.get("vending", "").split(";"):
        return _pair("amenity", "parcel_locker")
    if tags.get("building", "no") != "no" and part_ref(tags):
        return _pair("building", tags["building"])
    return None


def part_ref(tags: Mapping[str, str]) -> str:
    """Return the number or letter of a part of a compound ("3", "B"), "" if it has none."""
    keys = _NUMBER_KEYS if "building" in tags else _REF_KEYS
    return next((" ".join(tags[key].split()) for key in keys if tags.get(key, "").strip()), "")


def is_named_area(tags: Mapping[str, str]) -> bool:
    """Return whether a polygon with these tags is an area by which queries locate places ("inside ...")."""
    return any(key in tags and (values is None or tags[key] in values) for key, values in _AREA_VALUES.items())


def is_landmark(tags: Mapping[str, str]) -> bool:
    """Return whether a place is so well known that queries locate other places by it."""
    if any(tags.get(k) in v for k, v in _LANDMARK_VALUES.items()):
        return True
    famous = "wikidata" in tags or "wikipedia" in tags
    return famous and not any(k in tags for k in _MINOR_KEYS) and tags.get("tourism") != "artwork"
