"""Draw small OpenStreetMap extracts in metres: distances and bearings have analytic values."""

from __future__ import annotations

import gzip
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np

from m3gal_cli.geo.distances import METRES_PER_DEGREE

LNG0, LAT0 = 10.0, 50.0
Points = list[tuple[float, float]]


class Town:
    """Draws an .osm file in metres east and north of (lng0, lat0)."""

    def __init__(self, lng0: float = LNG0, lat0: float = LAT0) -> None:
        self.lng0, self.lat0, self.last = lng0, lat0, 0
        self.nodes: list[str] = []
        self.ways: list[str] = []

    def at(self, east: float, north: float) -> tuple[float, float]:
        scale = METRES_PER_DEGREE * np.cos(np.radians(self.lat0))
        return self.lng0 + east / scale, self.lat0 + north / METRES_PER_DEGREE

    def node(self, east: float, north: float, **tags: str) -> int:
        self.last += 1
        lng, lat = self.at(east, north)
        self.nodes.append(f'<node id="{self.last}" lon="{lng:.9f}" lat="{lat:.9f}">{_tags(tags)}</node>')
        return self.last

    def way(self, points: Points, *, closed: bool = False, **tags: str) -> int:
        refs = [self.node(*p) for p in points]
        self.last += 1
        inner = "".join(f'<nd ref="{r}"/>' for r in refs + refs[:1] * closed)
        self.ways.append(f'<way id="{self.last}">{inner}{_tags(tags)}</way>')
        return self.last

    def write(self, path: Path) -> Path:
        body = "\n".join(["<osm version='0.6'>", *self.nodes, *self.ways, "</osm>"])
        path.write_bytes(gzip.compress(body.encode()) if path.suffix == ".gz" else body.encode())
        return path


def _tags(tags: dict[str, str]) -> str:
    names = {k.replace("__", ":"): v for k, v in tags.items()}
    return "".join(f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in names.items())


def square(east: float, north: float, half: float) -> Points:
    return [(east + x * half, north + y * half) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


BENT: Points = [(0, 300), (200, 300), (200, 320), (20, 320), (20, 500), (0, 500)]  # its centroid lies outside


def small_town() -> Town:
    """Draw two streets that cross at the origin, First Street from west to east, with a bridge over it, and places."""
    town = Town()
    town.way([(-1000, 0), (1000, 0)], highway="residential", name="First Street", name__xx="Erste Gasse")
    town.way([(0, -1000), (0, 1000)], highway="residential", name="Second Street")
    town.way([(150, -50), (150, 50)], highway="primary", name="High Bridge", bridge="yes", layer="1")
    town.node(70, 70, amenity="cafe", name="Corner Cafe")
    town.node(400, -60, amenity="pharmacy", name="Far Pharmacy")
    town.way(BENT, closed=True, building="yes", name="Bent House")
    town.way(square(-500, 500, 300), closed=True, leisure="park", name="Green Park")
    town.way(square(-500, 500, 50), closed=True, amenity="school", name="Park School")
    town.node(-500, 500, shop="kiosk", name="School Kiosk")
    town.node(-700, 500, amenity="fountain", name="Old Fountain")
    town.node(0, -120, tourism="museum", name="Town Museum")
    town.node(-30, -220, amenity="bar", name="Red Bar")
    town.way(square(500, 0, 800), closed=True, boundary="administrative", admin_level="10", name="Old Town")
    town.way(square(0, 0, 3000), closed=True, boundary="administrative", admin_level="8", name="Testville")
    town.node(300, 500, shop="books", name="Page", addr__street="First Street", addr__housenumber="12")
    town.node(301, 500, addr__street="First Street", addr__housenumber="12")
    town.node(310, 500, addr__street="First Street", addr__housenumber="14")
    town.node(-900, -900, amenity="bench", name="Bench")
    return town


def three_towns() -> Town:
    """Draw the same small town at three latitudes in one extract; the names end in A, B and C."""
    town = Town()
    for n, (letter, lat) in enumerate(zip("ABC", (-41.0, 0.5, 69.6), strict=True)):
        town.lng0, town.lat0 = 10.0 + 7 * n, lat
        town.way([(-900, 0), (900, 0)], highway="residential", name=f"First Street {letter}")
        town.way([(0, -900), (0, 900)], highway="residential", name=f"Second Street {letter}")
        town.way(square(0, 0, 20_000), closed=True, boundary="administrative", admin_level="6", name=f"County {letter}")
        town.node(19_000, 0, place="city", name=f"City {letter}")
        town.node(140, -140, amenity="pharmacy", name=f"Pharmacy {letter}")
        town.node(-100, 110, tourism="museum", name=f"Museum {letter}")
        town.node(-300, 400, shop="books", name=f"Books {letter}")
        town.node(500, 700, amenity="bar", name=f"Bar {letter}")
        town.way(square(500, 900, 201), closed=True, leisure="park", name=f"Park {letter}")
        town.node(516, 1116, barrier="gate")  # 15 m outside the fence
        town.node(460, 1130, entrance="yes")  # 29 m outside
    return town


def grid_town() -> Town:
    """Draw Chinese streets in a grid, with shops, schools and compounds."""
    town = Town(120.1, 30.28)
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'东西南北'[n]}山路")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'春夏秋冬'[n]}水街")
    kinds = [("shop", "books", "书店"), ("amenity", "school", "小学"), ("amenity", "pharmacy", "药房"),
             ("landuse", "residential", "新村"), ("amenity", "bank", "银行")]  # fmt: skip
    for n in range(80):
        key, value, word = kinds[n % 5]
        name = f"{'金木水火土风云雷'[n // 10]}{'子丑寅卯辰巳午未申酉'[n % 10]}{word}"
        town.node(n % 9 * 80.0, n // 9 * 80.0 + 15, **{key: value}, name=name)
    return town
