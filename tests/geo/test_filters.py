"""Areas against plain loops: circles by the angle between vectors from the Earth's centre, boxes by their edges."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M, haversine_m
from m3gal_cli.geo.filters import Area, in_box, parse_box
from tests.helpers.indexes import index_of_vectors, table_of

TABLE = table_of(4000, seed=1)
# Also the poles, the 180th meridian under both its names, and the places where all of it meets.
EDGES = [(x, y) for x in (-180.0, -179.9, 0.0, 90.0, 179.9, 180.0) for y in (-90.0, -89.9, 0.0, 60.0, 89.9, 90.0)]
LNG = np.concatenate([TABLE["lng"], [x for x, _ in EDGES]])
LAT = np.concatenate([TABLE["lat"], [y for _, y in EDGES]])


def metres(lng: float, lat: float) -> np.ndarray:
    """From a point to all, by the chord between unit vectors."""
    x, y = np.radians(LNG), np.radians(LAT)
    a, b = math.radians(lng), math.radians(lat)
    here = np.array([math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)])
    there = np.stack([np.cos(y) * np.cos(x), np.cos(y) * np.sin(x), np.sin(y)], axis=1)
    return 2 * EARTH_RADIUS_M * np.arcsin(np.clip(np.linalg.norm(there - here, axis=1) / 2, 0, 1))


@pytest.mark.parametrize("radius_m", [1.0, 12_000.0, 800_000.0, 5e6, 9.9e6, 1.1e7, 1.9e7, 2.1e7])
def test_circles(radius_m: float) -> None:
    draw = np.random.default_rng(int(radius_m))
    centres = [*EDGES, *zip(draw.uniform(-180, 180, 60), draw.uniform(-90, 90, 60), strict=True)]
    for lng, lat in centres:
        distance = metres(lng, lat)
        clear = np.abs(distance - radius_m) > 0.5  # metres; the chord is no better near the antipode
        area = Area(None, (lng, lat), radius_m)
        found = np.zeros(len(LNG), bool)
        found[area.rows(LNG, LAT)] = True
        assert (found == (distance <= radius_m))[clear].all(), (lng, lat)
        exact = haversine_m(LNG, LAT, lng, lat) <= radius_m
        assert (found == exact).all(), "no place falls out of the box around the circle"
        for box in area.boxes():
            assert in_box(box, LNG, LAT)[exact].all()


@pytest.mark.parametrize(
    "box",
    [(-10.0, -10.0, 20.0, 30.0), (170.0, -50.0, -170.0, 50.0), (-180.0, -90.0, 180.0, 90.0), (0.0, 0.0, 0.0, 0.0)],
)
def test_boxes(box: tuple[float, float, float, float]) -> None:
    west, south, east, north = box
    wanted = []
    for row, (lng, lat) in enumerate(zip(LNG, LAT, strict=True)):
        across = west <= lng <= east if west <= east else lng >= west or lng <= east
        if across and south <= lat <= north:
            wanted.append(row)
    assert Area(box).rows(LNG, LAT).tolist() == wanted
    assert wanted


@pytest.mark.parametrize(("west", "east"), [(170.0, 180.0), (-180.0, -170.0), (180.0, 180.0), (180.0, -180.0)])
def test_both_names_of_the_180th_meridian(west: float, east: float) -> None:
    """A box that ends there holds its points whether they are written -180 or 180."""
    lng, lat = np.array([-180.0, 180.0, 179.0, -179.0, 0.0]), np.zeros(5)
    inside = Area((west, -1.0, east, 1.0)).rows(lng, lat).tolist()
    assert inside == [0, 1, *([2] if west == 170 else []), *([3] if east == -170 else [])]


def test_box_and_circle_together() -> None:
    box, centre = (170.0, -40.0, -175.0, 40.0), (179.0, 1.0)
    both = set(Area(box, centre, 2e6).rows(LNG, LAT))
    assert both == set(Area(box).rows(LNG, LAT)) & set(Area(None, centre, 2e6).rows(LNG, LAT))
    assert both


def test_the_belt_of_an_index_holds_the_area(tmp_path: Path) -> None:
    index = index_of_vectors(tmp_path / "index", np.zeros((500, 2), np.float32))
    for area in (Area((170.0, -80.0, -100.0, 80.0)), Area(None, (24.0, 89.0), 2e6), Area((0, 0, 9, 9), (3, 3), 1e6)):
        assert index.rows_in(area).tolist() == area.rows(index.lng, index.lat).tolist()


def test_half_an_area_is_none() -> None:
    for given in ({"centre": (0.0, 0.0)}, {"within_m": 3.0}, {}):
        with pytest.raises(ValueError, match=r"and|bound"):
            Area(**given)


def test_parse_box() -> None:
    assert parse_box("120.0,30.1, 120.4,30.4") == (120.0, 30.1, 120.4, 30.4)
    assert parse_box("170,-10,-170,10") == (170.0, -10.0, -170.0, 10.0)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", "nan,0,1,1", "0,9,1,8", "0,-91,1,0", "181,0,182,1", "inf,0,1,1"]
)
def test_what_is_no_box(text: str) -> None:
    with pytest.raises(InputError, match="is no box"):
        parse_box(text)
