"""Find the street and the crossing nearest to each place, with distance and bearing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from m3gal_cli.geo.projection import Projection, bearing_deg, plane_distance_m
from m3gal_cli.osm.extract import Roads
from m3gal_cli.osm.places import Tags, name_in
from m3gal_cli.osm.spatial_joins import Ints, Nearest, PlanePoints
from m3gal_cli.text.normalise import reading_key

STREET_M = 150.0
ADDRESS_STREET_M = 400.0  # largest distance to the street that the address names
ON_STREET_M = 3.0  # a place within this distance has no side of the street
CHUNK = 32768  # places joined at a time


class Streets:
    """R pieces of named streets on the plane of a projection.

    Attributes:
        lines: (R,) lines on the plane.
        code: (R,) index of the piece's name in ``names``.
        layer: (R,) number of the combination of layer, bridge and tunnel: pieces that meet have the same.
        names: Distinct names on the map.
        tags: Tags for each name, from the piece with most tags.
    """

    def __init__(self, roads: Roads, projection: Projection) -> None:
        self._codes: dict[str, int] = {}
        self.tags: list[Tags] = []
        code = []
        for tags in roads.tags:
            n = self._codes.setdefault(name_in(tags), len(self._codes))
            if n == len(self.tags):
                self.tags.append(tags)
            elif len(tags) > len(self.tags[n]):
                self.tags[n] = tags
            code.append(n)
        self.code = np.array(code, np.int64)
        self.names = list(self._codes)
        levels: dict[tuple[str, bool, bool], int] = {}
        keys = ((t.get("layer", "0"), "bridge" in t, "tunnel" in t) for t in roads.tags)
        self.layer = np.array([levels.setdefault(key, len(levels)) for key in keys], np.int64)
        points, sizes = roads.coordinates()
        self.lines: Any = shapely.linestrings(
            projection.metres(points), indices=np.repeat(np.arange(len(sizes)), sizes)
        )
        self._tree = shapely.STRtree(self.lines)

    def code_of(self, name: str) -> int:
        """Return the index of a name, which is added if the map has no such street; -1 for ""."""
        if not name:
            return -1
        n = self._codes.setdefault(name, len(self.names))
        if n == len(self.names):
            self.names.append(name)
            self.tags.append({"name": name})
        return n

    def nearest(self, points: PlanePoints, address_street: Ints) -> Nearest:
        """Join each place with the street of its address, else with the nearest within ``STREET_M``.

        Args:
            points: N places.
            address_street: (N,) codes of the streets that the addresses name, -1 for none.

        Returns:
            The join with ``names``; distance and bearing start at the middle line. Both are NaN if the street of the
            address is farther than ``ADDRESS_STREET_M``. The bearing is NaN for a place within ``ON_STREET_M``.
        """
        joined = Nearest.empty(len(points))
        joined.index[:] = address_street
        for start in range(0, len(points) if len(self.lines) else 0, CHUNK):
            rows = slice(start, start + CHUNK)
            self._join(PlanePoints(points.xy[rows], points.scale[rows]), joined.part(rows))
        return joined

    def _join(self, points: PlanePoints, joined: Nearest) -> None:
        geometries = shapely.points(points.xy)
        reach = STREET_M / points.scale.min()
        rows, line = self._tree.query_nearest(geometries, max_distance=reach, all_matches=False)
        fits = (joined.index[rows] < 0) | (joined.index[rows] == self.code[line])
        self._measure(points, geometries, rows[fits], line[fits], joined, STREET_M)
        missing = np.flatnonzero((joined.index >= 0) & np.isnan(joined.metres))
        if not len(missing):
            return
        reach = ADDRESS_STREET_M / points.scale.min()
        slot, line = self._tree.query(geometries[missing], predicate="dwithin", distance=reach)
        rows = missing[slot]
        same = joined.index[rows] == self.code[line]
        rows, line = rows[same], line[same]
        order = np.lexsort((shapely.distance(geometries[rows], self.lines[line]), rows))
        rows, first = np.unique(rows[order], return_index=True)
        self._measure(points, geometries, rows, line[order][first], joined, ADDRESS_STREET_M)

    def _measure(
        self, points: PlanePoints, geometries: Any, rows: Ints, line: Ints, joined: Nearest, within_m: float
    ) -> None:
        """Join places with pieces of streets whose nearest point lies within a distance."""
        lines, xy = self.lines[line], points.xy[rows]
        foot = shapely.get_coordinates(
            shapely.line_interpolate_point(lines, shapely.line_locate_point(lines, geometries[rows]))
        )
        metres = plane_distance_m(foot, xy) * points.scale[rows]
        bearing = np.where(metres > ON_STREET_M, bearing_deg(foot, xy), np.nan)
        near = metres <= within_m
        joined.put(rows[near], self.code[line[near]], metres[near], bearing[near])


@dataclass
class Crossings:
    """Crossings of two named streets: (C, 2) points on the plane and (C, 2) codes of the two streets."""

    xy: np.ndarray
    codes: Ints


def find_crossings(streets: Streets) -> Crossings:
    """Return the points where two streets of different names meet on one level, so not below a bridge.

    Two names are not different if one contains the other ("Main Street" and "Main Street Bridge").
    """
    lines, code, layer = streets.lines, streets.code, streets.layer
    nothing = Crossings(np.zeros((0, 2)), np.zeros((0, 2), np.int64))
    if not len(lines):
        return nothing
    first, second = streets._tree.query(lines)  # by bounding box; comparing names first is cheaper than shapes
    keep = (first < second) & (layer[first] == layer[second]) & (code[first] != code[second])
    first, second = first[keep], second[keep]
    pairs, back = np.unique(np.stack([code[first], code[second]]), axis=1, return_inverse=True)
    names = [reading_key(name) for name in streets.names]
    other = [names[a] not in names[b] and names[b] not in names[a] for a, b in pairs.T.tolist()]
    keep = np.array(other, bool)[back] if other else np.zeros(0, bool)
    first, second = first[keep], second[keep]
    keep = shapely.intersects(lines[first], lines[second])
    first, second = first[keep], second[keep]
    meeting = shapely.intersection(lines[first], lines[second])
    usable = np.isin(shapely.get_type_id(meeting), (0, 4)) & ~shapely.is_empty(meeting)  # points, no common stretches
    xy, owner = shapely.get_coordinates(meeting[usable], return_index=True)
    if not len(xy):
        return nothing
    return Crossings(xy, np.stack([code[first], code[second]], axis=-1)[usable][owner])
