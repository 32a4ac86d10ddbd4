"""Geographic filters: circles against the chords between unit vectors, boxes against a loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import EARTH_RADIUS_M, haversine_m
from m3gal_cli.geo.filters import GeoFilter, in_box, parse_box, swapped_box_warning
from tests.helpers.indexes import index_of_vectors, only_segment, poi_table

TABLE = poi_table(4000, seed=1)
# Also the poles, the 180th meridian as -180 and as 180, and where they meet.
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
def test_circles_contain_the_points_within_their_radius(radius_m: float) -> None:
    draw = np.random.default_rng(int(radius_m))
    centres = [*EDGES, *zip(draw.uniform(-180, 180, 60), draw.uniform(-90, 90, 60), strict=True)]
    for lng, lat in centres:
        distance = metres(lng, lat)
        clear = np.abs(distance - radius_m) > 0.5  # metres; the chord is no better near the antipode
        area = GeoFilter(None, (lng, lat), radius_m)
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
def test_boxes_contain_the_points_between_their_edges(box: tuple[float, float, float, float]) -> None:
    west, south, east, north = box
    wanted = []
    for row, (lng, lat) in enumerate(zip(LNG, LAT, strict=True)):
        across = west <= lng <= east if west <= east else lng >= west or lng <= east
        if across and south <= lat <= north:
            wanted.append(row)
    assert GeoFilter(box).rows(LNG, LAT).tolist() == wanted
    assert wanted


@pytest.mark.parametrize(("west", "east"), [(170.0, 180.0), (-180.0, -170.0), (180.0, 180.0), (180.0, -180.0)])
def test_points_at_180_and_at_minus_180_are_the_same(west: float, east: float) -> None:
    lng, lat = np.array([-180.0, 180.0, 179.0, -179.0, 0.0]), np.zeros(5)
    inside = GeoFilter((west, -1.0, east, 1.0)).rows(lng, lat).tolist()
    assert inside == [0, 1, *([2] if west == 170 else []), *([3] if east == -170 else [])]


def test_a_box_and_a_circle_together_are_their_intersection() -> None:
    box, centre = (170.0, -40.0, -175.0, 40.0), (179.0, 1.0)
    both = set(GeoFilter(box, centre, 2e6).rows(LNG, LAT))
    assert both == set(GeoFilter(box).rows(LNG, LAT)) & set(GeoFilter(None, centre, 2e6).rows(LNG, LAT))
    assert both


def test_a_segment_applies_a_filter(tmp_path: Path) -> None:
    index = only_segment(index_of_vectors(tmp_path / "index", np.zeros((500, 2), np.float32)))
    for area in (GeoFilter((170.0, -80.0, -100.0, 80.0)), GeoFilter((0, 0, 9, 9), (3, 3), 1e6)):
        assert index.rows_in(area).tolist() == area.rows(index.lng, index.lat).tolist()


def test_a_filter_needs_a_box_or_a_complete_circle() -> None:
    for given in ({"centre": (0.0, 0.0)}, {"within_m": 3.0}, {}):
        with pytest.raises(ValueError, match=r"together|needs"):
            GeoFilter(**given)


def test_a_box_is_west_south_east_north() -> None:
    assert parse_box("120.0,30.1, 120.4,30.4") == (120.0, 30.1, 120.4, 30.4)
    assert parse_box("-180,-90,180,90", crossing=False) == (-180.0, -90.0, 180.0, 90.0)
    assert parse_box("170,-10,-170,10") == (170.0, -10.0, -170.0, 10.0)
    with pytest.raises(InputError, match="west is greater than east"):
        parse_box("170,-10,-170,10", crossing=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "is not a bounding box") for text in ("1,2,3", "1,2,3,4,5", "a,b,c,d")),
        ("nan,0,1,1", "longitude nan is not between -180 and 180"),
        ("181,0,182,1", "longitude 181 is not between -180 and 180"),
        ("30.1,120,30.4,120.4", "bounding box 30.1,120,30.4,120.4: latitude 120 is not between -90 and 90"),
        ("0,9,1,8", "south is greater than north"),
    ],
)
def test_text_that_is_no_box_is_an_input_error(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        parse_box(text)
    assert "longitude comes first" in str(caught.value.hint)


def test_a_box_that_is_empty_unless_swapped_gives_a_warning() -> None:
    lng, lat = np.array([24.93, 24.95, 25.4]), np.array([60.16, 60.17, 60.2])
    assert swapped_box_warning((60.1, 24.9, 60.2, 25.0), lng, lat) == (
        "no POI lies in --bbox 60.1,24.9,60.2,25; with longitude and latitude swapped, 2 would: "
        "the order is west,south,east,north"
    )
    for box in ((24.9, 60.1, 25.0, 60.2), (10.0, 10.0, 11.0, 11.0), (170.0, 24.0, -170.0, 25.0)):
        assert swapped_box_warning(box, lng, lat) is None
