"""Streets and their crossings: which is nearest to a place, how far, in what direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from scipy.spatial import cKDTree

from m3gal_cli.geo.coordinates import Floats
from m3gal_cli.geo.projection import Frame, apart_m, bearing_deg
from m3gal_cli.osm.areas import Ints
from m3gal_cli.osm.extract import Roads
from m3gal_cli.osm.places import name_in
from m3gal_cli.text.normalise import reads

STREET_M = 150.0
OWN_STREET_M = 400.0  # a street that the address names is looked for up to here
CROSSING_M = 600.0
ON_STREET_M = 3.0  # nearer than this a place has no side of the street
CHUNK = 32768  # places at a time

Tags = dict[str, str]


@dataclass
class Found:
    """The nearest of something for each of N places: its index (-1 for none), metres to it, degrees from it."""

    who: Ints
    metres: Floats
    bearing: Floats

    @classmethod
    def nothing(cls, n: int) -> Found:
        """Nothing found for n places."""
        return cls(np.full(n, -1, np.int64), np.full(n, np.nan), np.full(n, np.nan))


class Streets:
    """Named streets on the plane of a frame: pieces of lines, each with the code of its name.

    Attributes:
        lines: (R,) lines on the plane.
        code: (R,) index of the piece's name in ``names``.
        layer: (R,) alike for pieces on one level: of one layer, both bridge or tunnel or neither.
        names: Distinct names, as on the map.
        tags: For each name the tags of the piece that has most of them.
    """

    def __init__(self, roads: Roads, frame: Frame) -> None:
        codes: dict[str, int] = {}
        self.tags: list[Tags] = []
        code = []
        for tags in roads.tags:
            n = codes.setdefault(name_in(tags), len(codes))
            if n == len(self.tags):
                self.tags.append(tags)
            elif len(tags) > len(self.tags[n]):
                self.tags[n] = tags
            code.append(n)
        self.code = np.array(code, np.int64)
        self.names = list(codes)
        self._codes = codes
        self.layer = _layers(roads.tags)
        points, sizes = roads.coordinates()
        self.lines: Any = shapely.linestrings(frame.metres(points), indices=np.repeat(np.arange(len(sizes)), sizes))
        self._tree = shapely.STRtree(self.lines)

    def code_of(self, name: str) -> int:
        """The code of a name, made if no street of the map bears it; -1 for no name."""
        if not name:
            return -1
        n = self._codes.setdefault(name, len(self.names))
        if n == len(self.names):
            self.names.append(name)
            self.tags.append({"name": name})
        return n

    def nearest(self, where: np.ndarray, stretch: Floats, own: Ints) -> Found:
        """The street of each place, by code: its own if it has one, else the nearest within ``STREET_M``.

        Args:
            where: (N, 2) places on the plane.
            stretch: (N,) metres on the ground for one of the plane.
            own: (N,) codes of the streets that the addresses name, -1 for none. Metres and bearing are those of that
                street, NaN where it is not within ``OWN_STREET_M``.
        """
        found = Found.nothing(len(where))
        found.who[:] = own
        for start in range(0, len(where) if len(self.lines) else 0, CHUNK):
            part = slice(start, start + CHUNK)
            self._nearest(where[part], stretch[part], Found(found.who[part], found.metres[part], found.bearing[part]))
        return found

    def _nearest(self, where: np.ndarray, stretch: Floats, found: Found) -> None:
        points = shapely.points(where)
        reach = STREET_M / stretch.min()
        which, line = self._tree.query_nearest(points, max_distance=reach, all_matches=False)
        fits = (found.who[which] < 0) | (found.who[which] == self.code[line])
        which, line = which[fits], line[fits]
        self._measure(points, where, stretch, which, line, found, STREET_M)
        asking = np.flatnonzero((found.who >= 0) & np.isnan(found.metres))
        if not len(asking):
            return
        reach = OWN_STREET_M / stretch.min()
        slot, line = self._tree.query(points[asking], predicate="dwithin", distance=reach)
        which = asking[slot]
        same = found.who[which] == self.code[line]
        which, line = which[same], line[same]
        order = np.lexsort((shapely.distance(points[which], self.lines[line]), which))
        which, first = np.unique(which[order], return_index=True)
        self._measure(points, where, stretch, which, line[order][first], found, OWN_STREET_M)

    def _measure(
        self, points: Any, where: np.ndarray, stretch: Floats, which: Ints, line: Ints, found: Found, within_m: float
    ) -> None:
        """Write the way from the foot on ``line`` to the places ``which``, where it is short enough."""
        lines = self.lines[line]
        foot = shapely.get_coordinates(
            shapely.line_interpolate_point(lines, shapely.line_locate_point(lines, points[which]))
        )
        metres = apart_m(foot, where[which]) * stretch[which]
        near = metres <= within_m
        which, line, metres = which[near], line[near], metres[near]
        found.who[which], found.metres[which] = self.code[line], metres
        turn = bearing_deg(foot[near], where[which])
        found.bearing[which] = np.where(metres > ON_STREET_M, turn, np.nan)


@dataclass
class Crossings:
    """Crossings of two named streets: points (C, 2) on the plane and (C, 2) codes of the two streets."""

    where: np.ndarray
    codes: Ints

    def nearest(self, where: np.ndarray, stretch: Floats) -> Found:
        """The nearest crossing of each place within ``CROSSING_M``; (N, 2) places on the plane, (N,) stretch."""
        found = Found.nothing(len(where))
        if len(self.where) and len(where):
            away, nearest = cKDTree(self.where).query(where)
            near = away * stretch <= CROSSING_M
            found.who[near], found.metres[near] = nearest[near], (away * stretch)[near]
            found.bearing[near] = bearing_deg(self.where[nearest[near]], where[near])
        return found


def find_crossings(streets: Streets) -> Crossings:
    """Where two streets of different names meet on one level (a bridge over a street is no crossing).

    Two names of which one is a part of the other ("Main Street" and "Main Street Bridge") are one street here.
    """
    lines, code, layer = streets.lines, streets.code, streets.layer
    nothing = Crossings(np.zeros((0, 2)), np.zeros((0, 2), np.int64))
    if not len(lines):
        return nothing
    first, second = streets._tree.query(lines)  # boxes; the rest is cheaper to rule out by name than by shape
    keep = (first < second) & (layer[first] == layer[second]) & (code[first] != code[second])
    first, second = first[keep], second[keep]
    pairs, back = np.unique(np.stack([code[first], code[second]]), axis=1, return_inverse=True)
    readings = [reads(name) for name in streets.names]
    other = [readings[a] not in readings[b] and readings[b] not in readings[a] for a, b in pairs.T.tolist()]
    keep = np.array(other, bool)[back] if other else np.zeros(0, bool)
    first, second = first[keep], second[keep]
    keep = shapely.intersects(lines[first], lines[second])
    first, second = first[keep], second[keep]
    meets = shapely.intersection(lines[first], lines[second])
    usable = np.isin(shapely.get_type_id(meets), (0, 4)) & ~shapely.is_empty(meets)  # points, not stretches in common
    where, owner = shapely.get_coordinates(meets[usable], return_index=True)
    if not len(where):
        return nothing
    codes = np.stack([code[first], code[second]], axis=-1)[usable]
    return Crossings(where, codes[owner])


def _layers(tags: list[Tags]) -> Ints:
    known: dict[tuple[str, bool, bool], int] = {}
    levels = ((t.get("layer", "0"), "bridge" in t, "tunnel" in t) for t in tags)
    return np.array([known.setdefault(level, len(known)) for level in levels], np.int64)
