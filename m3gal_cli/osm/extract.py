"""The objects of an OpenStreetMap extract: places, parts of compounds, roads, areas and boundaries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import shapely

from m3gal_cli.osm.places import Place, Tags

COORDINATE_UNITS = 1e7  # OSM coordinates are whole multiples of a ten-millionth of a degree


@dataclass(frozen=True, slots=True)
class NamedShape:
    """A named OSM object with a shape.

    Attributes:
        osm_id: "n", "w" or "r" (node, way, relation) and the number, as in "w123".
        tags: OSM tags that the program reads. Equal dictionaries are shared: do not change them.
        shape: A point, or a polygon (closed ways and multipolygon relations), in degrees.
    """

    osm_id: str
    tags: Tags
    shape: Any


class Roads:
    """Pieces of named streets: lines in arrays, because a country has millions of pieces.

    Attributes:
        tags: Tags of every piece; the pieces of a street mostly share one dictionary.
    """

    def __init__(self) -> None:
        self.tags: list[Tags] = []
        self._points = [np.zeros((0, 2), np.int32)]
        self._sizes = [np.zeros(0, np.int64)]

    def extend(self, tags: list[Tags], lines: np.ndarray) -> None:
        """Append pieces: their tags, and (n,) lines in degrees."""
        self.tags += tags
        self._points.append(np.rint(shapely.get_coordinates(lines) * COORDINATE_UNITS).astype(np.int32))
        self._sizes.append(shapely.get_num_coordinates(lines).astype(np.int64))

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (P, 2) degrees of the points of all pieces in order, and the (R,) number of points of each."""
        if len(self._sizes) > 1:
            self._points, self._sizes = [np.concatenate(self._points)], [np.concatenate(self._sizes)]
        return self._points[0] / COORDINATE_UNITS, self._sizes[0]

    def lines(self) -> np.ndarray:
        """Return all pieces as (R,) shapely lines in degrees."""
        points, sizes = self.coordinates()
        return np.asarray(shapely.linestrings(points, indices=np.repeat(np.arange(len(sizes)), sizes)), dtype=object)

    def __len__(self) -> int:
        return len(self.tags)


@dataclass
class Extract:
    """The objects of an extract, each list in the order of the file.

    Attributes:
        places: Named POIs, and addresses without a name.
        parts: Unnamed parts of compounds, such as gates, car parks and numbered buildings.
        roads: Named streets as lines.
        areas: Named polygons that contain other places (compounds, campuses, malls, parks).
        admins: Administrative boundaries as polygons.
        regions: Other named polygons of settlements and regions.
        settlements: Nodes with place=* (suburb, village, city ...), used where an extract lacks a boundary.
    """

    places: list[Place] = field(default_factory=list)
    parts: list[Place] = field(default_factory=list)
    roads: Roads = field(default_factory=Roads)
    areas: list[NamedShape] = field(default_factory=list)
    admins: list[NamedShape] = field(default_factory=list)
    regions: list[NamedShape] = field(default_factory=list)
    settlements: list[NamedShape] = field(default_factory=list)
