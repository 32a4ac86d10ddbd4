"""Which OSM tags make a place that people look for, an area that contains places, a landmark to tell others by.

Reading keeps only the tags that somebody reads (``KEPT``, and names in every language): a country has millions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

ADDRESS = "address"  # the category of a house number without a name

# In this order: the first key that a thing carries is its category.
CATEGORY_KEYS = (
    "amenity", "shop", "tourism", "healthcare", "office", "craft", "leisure", "historic", "railway", "aeroway",
    "public_transport", "highway", "club", "emergency", "military", "man_made", "natural", "place", "landuse",
    "barrier", "entrance", "building",
)  # fmt: skip

# None: any value but those of _NOT_SOUGHT; else only these values.
_SOUGHT: dict[str, frozenset[str] | None] = {
    "amenity": None,
    "shop": None,
    "tourism": None,
    "healthcare": None,
    "office": None,
    "craft": None,
    "leisure": None,
    "historic": None,
    "club": None,
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
_NOT_SOUGHT = {
    ("amenity", v) for v in ("bench", "waste_basket", "waste_disposal", "vending_machine", "bicycle_parking",
                             "parking_space", "recycling", "shelter", "hunting_stand", "grit_bin", "parking_entrance")
} | {("tourism", "information"), ("leisure", "picnic_table"), ("building", "no"), ("office", "no"), ("shop", "no"),
     ("historic", "boundary_stone"), ("amenity", "no"), ("leisure", "no"), ("tourism", "no")}  # fmt: skip

_AREAS: dict[str, frozenset[str] | None] = {
    "landuse": frozenset({"residential", "commercial", "retail", "industrial", "education", "cemetery", "military"}),
    "amenity": frozenset({"university", "school", "college", "hospital", "marketplace", "kindergarten", "monastery"}),
    "leisure": frozenset({"park", "garden", "sports_centre", "stadium", "golf_course", "nature_reserve", "marina"}),
    "shop": frozenset({"mall", "department_store"}),
    "tourism": frozenset({"zoo", "theme_park", "attraction", "museum", "hotel"}),
    "place": frozenset({"neighbourhood", "quarter", "suburb", "square", "island"}),
    "aeroway": frozenset({"aerodrome", "terminal"}),
    "building": None,
}

_LANDMARKS: dict[str, frozenset[str]] = {
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


# Parts of a compound that need no name of their own: "the north gate of ...", "building 3 of ...".
_PARTS: dict[str, frozenset[str]] = {
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
UNNAMED_KEYS = (*_ADDRESS_KEYS, *_REF_KEYS, *_PARTS, "building", "vending", "brand")  # all that is read without a name
KEPT = frozenset(
    {*CATEGORY_KEYS, *_MINOR_KEYS, *UNNAMED_KEYS, *NAME_KEYS, "route_ref", "wikidata", "wikipedia",
     "boundary", "admin_level", "layer", "bridge", "tunnel"}
)  # fmt: skip
NAME_PREFIX = "name:"
# Whatever is kept of an extract carries one of these; all else is passed over in C++, before Python sees it.
SEEN_KEYS = ("name", "addr:housenumber", "addr:housename", "addr:unit", "ref", *_PARTS)


def category_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """(key, value) that says what it is, ``("address", "")`` for a bare house number, None if nobody looks for it."""
    if tags.get("name", "").strip():
        for key in CATEGORY_KEYS:
            value = tags.get(key)
            if value is None or (key, value) in _NOT_SOUGHT:
                continue
            allowed = _SOUGHT[key]
            if allowed is None or value in allowed:
                return _pair(key, value)
    if tags.get("addr:housenumber") and (tags.get("addr:street") or tags.get("addr:place")):
        return _pair(ADDRESS, "")
    return None


@lru_cache(maxsize=4096)
def _pair(key: str, value: str) -> tuple[str, str]:
    """One tuple for all that are equal: a country has millions of places of a thousand kinds."""
    return key, value


def part_of(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """(key, value) of a thing without a name that one tells by the compound around it: gate, entrance, car park,
    parcel locker, building with a number; None for all else.
    """
    if tags.get("name", "").strip():
        return None
    for key, values in _PARTS.items():
        if tags.get(key) in values:
            return _pair(key, tags[key])
    if "parcel_pickup" in tags.get("vending", "").split(";"):
        return _pair("amenity", "parcel_locker")
    if tags.get("building", "no") != "no" and part_ref(tags):
        return _pair("building", tags["building"])
    return None


def part_ref(tags: Mapping[str, str]) -> str:
    """The number or letter that tells a part of a compound from its like ("3", "B"), "" where it has none."""
    keys = _NUMBER_KEYS if "building" in tags else _REF_KEYS
    return next((" ".join(tags[key].split()) for key in keys if tags.get(key, "").strip()), "")


def is_named_area(tags: Mapping[str, str]) -> bool:
    """Whether a polygon with these tags is what people mean by "inside ..."."""
    return any(key in tags and (values is None or tags[key] in values) for key, values in _AREAS.items())


def is_landmark(tags: Mapping[str, str]) -> bool:
    """Whether a place is known well enough to tell others by."""
    if any(tags.get(k) in v for k, v in _LANDMARKS.items()):
        return True
    famous = "wikidata" in tags or "wikipedia" in tags
    return famous and not any(k in tags for k in _MINOR_KEYS) and tags.get("tourism") != "artwork"
