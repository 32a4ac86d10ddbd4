"""Which polygon a point lies in: the smallest named area around it, the boundaries that contain it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from m3gal_cli.geo.coordinates import Floats
from m3gal_cli.geo.projection import Frame

AREA_MARGIN_M = 20.0  # gates stand on the fence
LARGEST_AREA_M2 = 2e7

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass
class Areas:
    """Polygons on the plane of a frame.

    Attributes:
        shapes: (A,) polygons.
        middles: (A, 2) centroids on the plane.
        size_m2: (A,) square metres on the ground.
        stretch: (A,) metres on the ground for one of the plane, at the middle.
    """

    shapes: Any
    middles: np.ndarray
    size_m2: Floats
    stretch: Floats

    @classmethod
    def of(cls, shapes: list[Any], frame: Frame) -> Areas:
        """Put polygons in degrees on the plane."""
        drawn = frame.shapes(shapes)
        middles = shapely.get_coordinates(shapely.centroid(drawn)).reshape(-1, 2)
        stretch = frame.stretch(frame.degrees(middles)[:, 1])
        return cls(drawn, middles, shapely.area(drawn) * stretch**2, stretch)

    def around(self, where: np.ndarray, near: np.ndarray, fits: Callable[[int, int], bool]) -> Ints:
        """The area that each point is told by: the smallest that contains it, of at most ``LARGEST_AREA_M2``.

        Args:
            where: (N, 2) points on the plane.
            near: (N,) bool: whether an area whose edge is within ``AREA_MARGIN_M`` will do where none contains it.
            fits: Called as (point, area); False rules a pair out.

        Returns:
            (N,) indices of areas, -1 where there is none.
        """
        found = np.full(len(where), -1, np.int64)
        small = np.flatnonzero(self.size_m2 <= LARGEST_AREA_M2)
        if not len(small) or not len(where):
            return found
        area, point = shapely.STRtree(shapely.points(where)).query(self.shapes[small], predicate="contains")
        _take_smallest(found, point, small[area], self.size_m2, fits)
        asking = np.flatnonzero(near & (found < 0))
        if len(asking):
            tree = shapely.STRtree(shapely.points(where[asking]))
            margin = AREA_MARGIN_M / self.stretch[small]
            area, slot = tree.query(self.shapes[small], predicate="dwithin", distance=margin)
            _take_smallest(found, asking[slot], small[area], self.size_m2, fits)
        return found


def _take_smallest(found: Ints, point: Ints, area: Ints, size: Floats, fits: Callable[[int, int], bool]) -> None:
    """Write the smallest fitting area of each point into ``found``; of equal ones the first."""
    order = np.lexsort((area, size[area], point))
    for i, a in zip(point[order].tolist(), area[order].tolist(), strict=True):
        if found[i] < 0 and fits(i, a):
            found[i] = a


def first_containing(where: np.ndarray, shapes: Any, level: Ints) -> dict[int, Ints]:
    """For every level the polygon of that level that contains each point; where two overlap, the first.

    Args:
        where: (N, 2) points on the plane.
        shapes: (A,) polygons on the plane.
        level: (A,) of the polygons.

    Returns:
        level -> (N,) indices of polygons, -1 where there is none.
    """
    found = {n: np.full(len(where), -1, np.int64) for n in sorted(set(level.tolist()))}
    if len(where) and len(shapes):
        tree = shapely.STRtree(shapely.points(where))
        for a in range(len(shapes) - 1, -1, -1):  # backwards: the first has the last word
            found[int(level[a])][tree.query(shapes[a], predicate="contains")] = a
    return found
