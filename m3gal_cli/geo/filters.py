"""Where a match may lie: within a distance of a point, in a box, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M, haversine_m

Box = tuple[float, float, float, float]
Coordinates = NDArray[np.float64]


@dataclass(frozen=True)
class Area:
    """A part of the Earth; both conditions hold where both are given.

    Args:
        box: west, south, east, north in degrees, WGS-84, edges included; west > east crosses the 180th meridian.
        centre: lng, lat in degrees.
        within_m: metres from ``centre``, on the sphere; the edge is included.
    """

    box: Box | None = None
    centre: tuple[float, float] | None = None
    within_m: float | None = None

    def __post_init__(self) -> None:
        if (self.centre is None) != (self.within_m is None):
            raise ValueError("centre and within_m go together")
        if self.box is None and self.centre is None:
            raise ValueError("an area without a bound is None")

    def rows(self, lng: Coordinates, lat: Coordinates) -> NDArray[np.int64]:
        """Numbers of the points in the area, rising. Shape: (N,), (N,) degrees -> (n,)."""
        inside = np.ones(len(lng), bool)
        for box in self.boxes():
            inside &= in_box(box, lng, lat)
        rows = np.flatnonzero(inside)
        if self.centre is not None and self.within_m is not None:
            rows = rows[haversine_m(lng[rows], lat[rows], *self.centre) <= self.within_m]
        return rows

    def boxes(self) -> list[Box]:
        """Boxes of which each holds the whole area; for engines that filter by columns alone."""
        return [_with_meridian(box) for box in (self.box, self._surrounding()) if box is not None]

    def _surrounding(self) -> Box | None:
        """A box around the circle, a little wider than it."""
        if self.centre is None or self.within_m is None:
            return None
        lng, lat = self.centre
        angle = self.within_m / EARTH_RADIUS_M * (1 + 1e-9) + 1e-12  # radians
        south, north = lat - math.degrees(angle), lat + math.degrees(angle)
        if south <= -90 or north >= 90:  # a pole lies inside: every longitude
            return (-180.0, max(south, -90.0), 180.0, min(north, 90.0))
        # The widest longitude of a circle on a sphere lies nearer to the pole than its centre.
        wide = math.degrees(math.asin(min(1.0, math.sin(angle) / math.cos(math.radians(lat)))))
        return (_wrapped(lng - wide), south, _wrapped(lng + wide), north)


def in_box(box: Box, lng: Coordinates, lat: Coordinates) -> NDArray[np.bool_]:
    """Which points lie in a box. Shape: (N,), (N,) -> (N,)."""
    west, south, east, north = box
    found = (lat >= south) & (lat <= north)
    across = (lng >= west) & (lng <= east) if west <= east else (lng >= west) | (lng <= east)
    inside: NDArray[np.bool_] = found & across
    return inside


def _with_meridian(box: Box) -> Box:
    """The same box; where it ends at the 180th meridian, points that call that -180 or 180 lie in it alike."""
    west, south, east, north = box
    if east == 180 and west != -180:
        return (west, south, -180.0, north)
    if west == -180 and east != 180:
        return (180.0, south, east, north)
    return box


def _wrapped(lng: float) -> float:
    return lng if -180 <= lng <= 180 else (lng + 180) % 360 - 180


def parse_box(text: str) -> Box:
    """``west,south,east,north`` in degrees. Raises InputError."""
    hint = "Write west,south,east,north in degrees, e.g. 120.0,30.1,120.4,30.4."
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is no box", hint=hint) from None
    return check_box((west, south, east, north))


def check_box(box: Box) -> Box:
    """The box, if it is one on the Earth. Raises InputError."""
    west, south, east, north = box
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        hint = "Give west,south,east,north in degrees, e.g. 120.0,30.1,120.4,30.4."
        raise InputError(f"({west:g}, {south:g}, {east:g}, {north:g}) is no box on the Earth", hint=hint)
    return box
