"""Rows of the answers of web services: {"status": "1", "pois": [{…}, …]}, and of Overpass ({"elements": […]})."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

# Names under which an answer lists its rows: Overpass, Amap, Baidu and Google, Tencent, HERE, CKAN and others.
LISTS = ("elements", "pois", "results", "places", "data", "items", "records", "rows")
_OF_A_ROW = {
    "id", "name", "title", "名称", "店名", "address", "x", "lat", "lng", "lon", "latitude", "longitude", "location",
    "geometry",
}  # fmt: skip
_LIST = re.compile(r"\[\s*(\S)")


def may_list_rows(key: str, others: Collection[str]) -> bool:
    """Return whether a member of an object with these other members can be the list of the rows."""
    return key in LISTS and not _OF_A_ROW & set(others)


def begins_objects(text: str, at: int) -> bool | None:
    """Return whether a list of objects begins in a JSON text; None if the text is too short to tell."""
    found = _LIST.match(text, at)
    return None if found is None else found[1] == "{"


def list_of_rows(value: Any) -> str:
    """Return the name of the list of rows in an answer; "" for other values."""
    for key, items in value.items() if isinstance(value, dict) else ():
        if may_list_rows(key, value) and isinstance(items, list) and items and isinstance(items[0], dict):
            return str(key)
    return ""


def is_element(value: Any) -> bool:
    """Return whether an object is an element of OpenStreetMap, as Overpass writes it."""
    return isinstance(value, dict) and value.get("type") in ("node", "way", "relation") and "id" in value


def element_rows(element: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an element with tags as a row of its tags; id (n123, as ``data osm`` has it), lat and lon.

    The place of a way or relation is its centre, else the middle of its bounds; without both it has none.
    """
    tags = element.get("tags")
    if not isinstance(tags, dict) or not tags:
        return  # a corner of a way
    place, bounds = element, element.get("bounds")
    if isinstance(element.get("center"), dict):
        place = element["center"]
    elif isinstance(bounds, dict):
        place = {axis: _middle(bounds.get(f"min{axis}"), bounds.get(f"max{axis}")) for axis in ("lat", "lon")}
    own = {"id": f"{str(element['type'])[:1]}{element['id']}", "lat": place.get("lat"), "lon": place.get("lon")}
    yield own | {key: value for key, value in tags.items() if key not in own}


def _middle(low: Any, high: Any) -> float | None:
    return (low + high) / 2 if isinstance(low, int | float) and isinstance(high, int | float) else None
