"""Geographic filters: points in a bounding box, within a distance of a point, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import EARTH_RADIUS_M, haversine_m

Box = tuple[float, float, float, float]
Coordinates = NDArray[np.float64]
_ORDER = "Give west,south,east,north in degrees, e.g. 120.0,30.1,120.4,30.4: longitude comes first."


@dataclass(frozen=True)
class GeoFilter:
    """A condition on coordinates: in a box, within a distance of a point, or both.

    Args:
        box: west, south, east, north in degrees, WGS-84, edges included; west > east crosses the 180th meridian.
        centre: lng, lat in degrees; given together with ``within_m``.
        within_m: largest great-circle distance from ``centre`` in metres, inclusive.
    """

    box: Box | None = None
    centre: tuple[float, float] | None = None
    within_m: float | None = None

    def __post_init__(self) -> None:
        if (self.centre is None) != (self.within_m is None):
            raise ValueError("centre and within_m are given together")
        if self.box is None and self.centre is None:
            raise ValueError("a filter needs a box or a centre")

    def rows(self, lng: Coordinates, lat: Coordinates) -> NDArray[np.int64]:
        """Return the points that meet the filter, ascending. Shape: (N,), (N,) degrees -> (n,)."""
        inside = np.ones(len(lng), bool)
        for box in self.boxes():
            inside &= in_box(box, lng, lat)
        rows = np.flatnonzero(inside)
        if self.centre is not None and self.within_m is not None:
            rows = rows[haversine_m(lng[rows], lat[rows], *self.centre) <= self.within_m]
        return rows

    def boxes(self) -> list[Box]:
        """Return boxes that each contain all points of the filter, for engines that compare columns only."""
        return [_with_meridian(box) for box in (self.box, self._surrounding()) if box is not None]

    def _surrounding(self) -> Box | None:
        """Return a box around the circle, slightly larger than it."""
        if self.centre is None or self.within_m is None:
            return None
        lng, lat = self.centre
        angle = self.within_m / EARTH_RADIUS_M * (1 + 1e-9) + 1e-12  # radians
        south, north = lat - math.degrees(angle), lat + math.degrees(angle)
        if south <= -90 or north >= 90:  # contains a pole: all longitudes
            return (-180.0, max(south, -90.0), 180.0, min(north, 90.0))
        # A circle on a sphere is widest in longitude nearer to the pole than its centre.
        wide = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(lat)))))
        return (_wrapped(lng - wide), south, _wrapped(lng + wide), north)


def in_box(box: Box, lng: Coordinates, lat: Coordinates) -> NDArray[np.bool_]:
    """Return which points lie in a box. Shape: (N,), (N,) -> (N,)."""
    west, south, east, north = box
    between = (lat >= south) & (lat <= north)
    across = (lng >= west) & (lng <= east) if west <= east else (lng >= west) | (lng <= east)
    inside: NDArray[np.bool_] = between & across
    return inside


def _with_meridian(box: Box) -> Box:
    """Return the box, extended so that both -180 and 180 lie in it if one of them is an edge."""
    west, south, east, north = box
    if east == 180 and west != -180:
        return (west, south, -180.0, north)
    if west == -180 and east != 180:
        return (180.0, south, east, north)
    return box


def _wrapped(lng: float) -> float:
    return lng if -180 <= lng <= 180 else (lng + 180) % 360 - 180


def parse_box(text: str, *, crossing: bool = True) -> Box:
    """Parse ``west,south,east,north`` in degrees; see ``check_box``."""
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is not a bounding box", hint=_ORDER) from None
    return check_box((west, south, east, north), crossing=crossing)


def check_box(box: Box, *, crossing: bool = True) -> Box:
    """Return the box if it is valid.

    Raises:
        InputError: A degree is out of range, south > north, or west > east (across the 180th meridian) if not
            ``crossing``.
    """
    west, south, east, north = box
    what = f"bounding box {_text(box)}: "
    for name, limit, values in (("longitude", 180, (west, east)), ("latitude", 90, (south, north))):
        for value in values:
            if not abs(value) <= limit:  # also refuses NaN
                raise InputError(f"{what}{name} {value:g} is not between -{limit} and {limit}", hint=_ORDER)
    if south > north:
        raise InputError(f"{what}south is greater than north", hint=_ORDER)
    if west > east and not crossing:
        hint = "Split a box that crosses the 180th meridian into two runs."
        raise InputError(f"{what}west is greater than east", hint=hint)
    return box


def swapped_box_warning(box: Box, lng: Coordinates, lat: Coordinates, name: str = "--bbox") -> str | None:
    """Return a warning if no POI lies in a box, but some lie in the box with longitude and latitude swapped.

    ``name`` is the option or argument that gives the box. Shape: lng, lat: (N,) degrees.
    """
    west, south, east, north = box
    if west > east or max(abs(west), abs(east)) > 90 or in_box(box, lng, lat).any():
        return None
    count = int(in_box((south, west, north, east), lng, lat).sum())
    if not count:
        return None
    return (
        f"no POI lies in {name} {_text(box)}; with longitude and latitude swapped, {count:,} would: "
        "the order is west,south,east,north"
    )


def _text(box: Box) -> str:
    return ",".join(f"{value:g}" for value in box)
