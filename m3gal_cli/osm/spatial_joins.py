"""Spatial joins on a projected plane: the nearest point within a distance, and the polygon that contains a point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from m3gal_cli.geo.distances import Floats
from m3gal_cli.geo.projection import Projection, bearing_deg, plane_distance_m

AREA_MARGIN_M = 20.0  # gates lie on the boundary of an area
LARGEST_AREA_M2 = 2e7

Ints = NDArray[np.int64]


@dataclass
class PlanePoints:
    """N points on the plane of a projection.

    Attributes:
        xy: (N, 2) metres east and north.
        scale: (N,) metres on the ground per metre of the plane.
    """

    xy: np.ndarray
    scale: Floats

    @classmethod
    def project(cls, lnglat: np.ndarray, projection: Projection) -> PlanePoints:
        """Project (N, 2) degrees."""
        return cls(projection.metres(lnglat), projection.scale_factor(lnglat[:, 1]))

    def __len__(self) -> int:
        return len(self.xy)


@dataclass
class Nearest:
    """The joined object of each of N points.

    Attributes:
        index: (N,) index of the object, -1 for none.
        metres: (N,) distance on the ground, NaN if unknown.
        bearing: (N,) degrees from the object to the point, clockwise from north, NaN if unknown.
    """

    index: Ints
    metres: Floats
    bearing: Floats

    @classmethod
    def empty(cls, n: int) -> Nearest:
        """Return a join in which none of n points has an object."""
        return cls(np.full(n, -1, np.int64), np.full(n, np.nan), np.full(n, np.nan))

    def put(self, rows: Ints, index: Ints, metres: Floats, bearing: Floats) -> None:
        """Set the objects of these rows."""
        self.index[rows], self.metres[rows], self.bearing[rows] = index, metres, bearing

    def part(self, rows: slice) -> Nearest:
        """Return a join of these rows that shares its arrays with this one."""
        return Nearest(self.index[rows], self.metres[rows], self.bearing[rows])


def nearest_target(points: PlanePoints, targets: np.ndarray, within_m: float) -> Nearest:
    """Join each point with the nearest of (M, 2) targets on the plane, within ``within_m`` metres on the ground."""
    joined = Nearest.empty(len(points))
    if len(targets) and len(points):
        distances, target = cKDTree(targets).query(points.xy)
        metres = distances * points.scale
        rows = np.flatnonzero(metres <= within_m)
        target = target[rows]
        joined.put(rows, target, metres[rows], bearing_deg(targets[target], points.xy[rows]))
    return joined


def nearest_accepted(
    points: PlanePoints, targets: Ints, within_m: float, wanted: int, accepts: Callable[[int, int], bool]
) -> list[Nearest]:
    """Join each point with the nearest accepted target, the second nearest, ..., ``wanted`` joins in total.

    Targets are (M,) indices of points. ``accepts`` is called with (point, target) for the ``wanted + 5`` nearest
    targets within ``within_m`` metres on the ground; False excludes the pair.
    """
    joined = [Nearest.empty(len(points)) for _ in range(wanted)]
    if not len(targets) or not len(points):
        return joined
    k = min(wanted + 5, len(targets))
    reach = within_m / points.scale.min()
    distances, nearest = cKDTree(points.xy[targets]).query(points.xy, k=range(1, k + 1), distance_upper_bound=reach)
    rows, count = np.arange(len(points)), np.zeros(len(points), np.int64)
    for column in range(k):
        metres = distances[rows, column] * points.scale[rows]
        near = metres <= within_m
        rows, metres = rows[near], metres[near]
        target = targets[nearest[rows, column]]
        accepted = np.array([accepts(*pair) for pair in zip(rows.tolist(), target.tolist(), strict=True)], bool)
        for rank, join in enumerate(joined):
            chosen = accepted & (count[rows] == rank)
            at, to = rows[chosen], target[chosen]
            join.put(at, to, metres[chosen], bearing_deg(points.xy[to], points.xy[at]))
        count[rows[accepted]] += 1
        rows = rows[count[rows] < wanted]
    return joined


class AreaPolygons:
    """Polygons of named areas on the plane of a projection."""

    def __init__(self, shapes: Sequence[Any], projection: Projection) -> None:
        self.shapes = projection.shapes(shapes)
        self.centroids = shapely.get_coordinates(shapely.centroid(self.shapes)).reshape(-1, 2)
        self._scale = projection.scale_factor(projection.degrees(self.centroids)[:, 1])
        self._size_m2 = shapely.area(self.shapes) * self._scale**2

    def smallest_around(self, points: PlanePoints, margin: np.ndarray, accepts: Callable[[int, int], bool]) -> Nearest:
        """Join each point with the smallest polygon that contains it, of at most ``LARGEST_AREA_M2``.

        Distance and bearing start at the centroid of the polygon. Of polygons of equal size the first is taken.

        Args:
            points: N points.
            margin: (N,) bool: whether a polygon within ``AREA_MARGIN_M`` is used if none contains the point.
            accepts: Called with (point, polygon); False excludes the pair.
        """
        joined = Nearest.empty(len(points))
        small = np.flatnonzero(self._size_m2 <= LARGEST_AREA_M2)
        if not len(small) or not len(points):
            return joined
        area, point = shapely.STRtree(shapely.points(points.xy)).query(self.shapes[small], predicate="contains")
        self._take_smallest(joined.index, point, small[area], accepts)
        rows = np.flatnonzero(margin & (joined.index < 0))
        if len(rows):
            tree = shapely.STRtree(shapely.points(points.xy[rows]))
            area, row = tree.query(self.shapes[small], predicate="dwithin", distance=AREA_MARGIN_M / self._scale[small])
            self._take_smallest(joined.index, rows[row], small[area], accepts)
        inside = np.flatnonzero(joined.index >= 0)
        area, xy = joined.index[inside], points.xy[inside]
        metres = plane_distance_m(self.centroids[area], xy) * points.scale[inside]
        joined.put(inside, area, metres, bearing_deg(self.centroids[area], xy))
        return joined

    def _take_smallest(self, joined: Ints, point: Ints, area: Ints, accepts: Callable[[int, int], bool]) -> None:
        order = np.lexsort((area, self._size_m2[area], point))
        for i, a in zip(point[order].tolist(), area[order].tolist(), strict=True):
            if joined[i] < 0 and accepts(i, a):
                joined[i] = a


def first_containing(xy: np.ndarray, shapes: Any, level: Ints) -> dict[int, Ints]:
    """Return the first polygon of each level that contains each point, -1 for none.

    Shape:
        xy: (N, 2) and shapes: (A,) on the plane, level: (A,) of the polygons -> level: (N,).
    """
    first = {n: np.full(len(xy), -1, np.int64) for n in sorted(set(level.tolist()))}
    if len(xy) and len(shapes):
        tree = shapely.STRtree(shapely.points(xy))
        for a in range(len(shapes) - 1, -1, -1):  # backwards, so that the first polygon overwrites later ones
            first[int(level[a])][tree.query(shapes[a], predicate="contains")] = a
    return first
