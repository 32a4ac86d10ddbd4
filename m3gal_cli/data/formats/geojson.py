"""GeoJSON features as rows, and the check that coordinates are in degrees, WGS-84."""

from __future__ import annotations

from typing import Any

from m3gal_cli.data.lines import BadInput
from m3gal_cli.errors import InputError

WGS84_NAMES = ("CRS84", "EPSG::4326", "EPSG:4326")  # ends of the names of WGS-84 in degrees


def nested(value: Any, *names: str) -> Any:
    """Return the value under these names in nested objects, or None."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def require_wgs84(collection: Any, name: str) -> None:
    """Raise InputError if a FeatureCollection names another coordinate reference system than WGS-84."""
    crs = str(nested(collection, "crs", "properties", "name") or WGS84_NAMES[0])
    if not crs.endswith(WGS84_NAMES):
        raise not_wgs84(crs, f"{name}: crs")


def not_wgs84(crs: str, where: str) -> InputError:
    """Return the error for coordinates in another system."""
    hint = "Convert the file to longitude and latitude in degrees, WGS-84 (EPSG:4326)."
    return InputError(f"the coordinates are in {crs!r}", where=where, hint=hint)


def feature_row(feature: Any, where: str) -> dict[str, Any]:
    """Return a Feature as a row: its properties, ``id`` if they have none, and ``geometry``. Raises BadInput."""
    if nested(feature, "type") != "Feature":
        what = f"expected a Feature, got {repr(feature)[:80]}"
        raise BadInput(what, where=where, hint="Delete it or make it again.")
    properties = feature.get("properties")
    if not isinstance(properties, dict | None):
        what = f"expected properties, got {repr(properties)[:80]}"
        raise BadInput(what, where=where, hint="Properties are an object {…} or null.")
    row = dict(properties or {})
    if feature.get("id") is not None:
        row.setdefault("id", feature["id"])
    return row | {"geometry": feature.get("geometry")}
