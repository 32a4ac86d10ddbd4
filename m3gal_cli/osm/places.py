"""Places: POIs and addresses, with names and addresses from OSM tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from m3gal_cli.geo.projection import Projection
from m3gal_cli.osm.tags import ADDRESS

Tags = dict[str, str]


@dataclass(slots=True)
class Place:
    """A POI or address that a query can mean.

    Attributes:
        poi_id: OSM id ("n123", "w123", "r123"), or the id in a POI table.
        tags: OSM tags that the program reads.
        category: OSM key and value, or ("address", "").
        lng, lat: A point inside the shape, degrees WGS-84.
        row: Address text in the POI table that the place comes from; "" for a place of an extract.
    """

    poi_id: str
    tags: Tags
    category: tuple[str, str]
    lng: float
    lat: float
    row: str = ""

    @property
    def name(self) -> str:
        """The name on the map; "" for an address and for an unnamed part of a compound."""
        return "" if self.category[0] == ADDRESS else name_in(self.tags)

    @property
    def is_unnamed_part(self) -> bool:
        """Whether this is an unnamed part of a compound, such as a gate, a car park or a numbered building."""
        return self.category[0] != ADDRESS and not self.name

    @property
    def label(self) -> str:
        """The name; for a place without a name the street and house number."""
        return self.name or f"{street_of(self.tags)} {self.tags.get('addr:housenumber', '')}".strip()


def name_in(tags: Mapping[str, str], language: str = "") -> str:
    """Return the name in a language, "" for the language of the map; the result is "" if the place has no name."""
    return _first_name(tags.get(f"name:{language}" if language else "name", ""))


@lru_cache(maxsize=1 << 15)
def _first_name(text: str) -> str:
    """Return the text before the first semicolon, with single spaces."""
    return " ".join(text.partition(";")[0].split())


def street_of(tags: Mapping[str, str]) -> str:
    """Return addr:street, else addr:place, else ""."""
    return " ".join((tags.get("addr:street") or tags.get("addr:place") or "").split())


def coordinates_of(places: Sequence[Place]) -> np.ndarray:
    """Return the coordinates (lng, lat) of N places in degrees, shape (N, 2)."""
    return np.array([(p.lng, p.lat) for p in places]).reshape(-1, 2)


def projection_of(places: Sequence[Place]) -> Projection:
    """Return the projection around the median of the places."""
    return Projection([p.lng for p in places], [p.lat for p in places])
