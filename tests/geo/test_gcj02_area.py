"""The area of GCJ-02: cities on both sides, a count of edges as oracle, the datums along its edge."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import Polygon

from m3gal_cli.geo.datums import Datum, to_wgs84, wgs84_to_gcj02
from m3gal_cli.geo.distances import METRES_PER_DEGREE, haversine_m
from m3gal_cli.geo.gcj02_area import OUTLINE, in_gcj02_area
from tests.helpers.datums import from_wgs84

INSIDE = {
    "Shanghai": (121.47, 31.23), "Hong Kong": (114.17, 22.30), "Macau": (113.54, 22.19), "Heihe": (127.50, 50.25),
    "Mohe": (122.54, 52.97), "Fuyuan": (134.31, 48.36), "Suifenhe": (131.15, 44.41), "Hunchun": (130.37, 42.86),
    "Dandong": (124.39, 40.13), "Manzhouli": (117.38, 49.60), "Erenhot": (111.98, 43.65), "Altay": (88.13, 47.85),
    "Tacheng": (82.98, 46.75), "Alashankou": (82.57, 45.17), "Khorgas": (80.42, 44.21), "Tashkurgan": (75.23, 37.77),
    "Ngari": (80.10, 32.50), "Yadong": (88.91, 27.48), "Zayu": (97.47, 28.66), "Ruili": (97.85, 24.01),
    "Mengla": (101.56, 21.48), "Hekou": (103.96, 22.53), "Pingxiang": (106.76, 22.10), "Dongxing": (107.97, 21.54),
    "Sanya": (109.51, 18.25), "Xiamen": (118.09, 24.48), "Zhoushan": (122.20, 29.99), "Weihai": (122.12, 37.51),
}  # fmt: skip
OUTSIDE = {
    "Seoul": (126.98, 37.57), "Pyongyang": (125.75, 39.02), "Chongjin": (129.78, 41.80), "Fukuoka": (130.40, 33.59),
    "Taipei": (121.56, 25.04), "Kaohsiung": (120.31, 22.63), "Penghu": (119.57, 23.57),
    "Dien Bien Phu": (103.02, 21.39), "Chiang Rai": (99.83, 19.91), "Lashio": (97.75, 22.93),
    "Myitkyina": (97.40, 25.38), "Thimphu": (89.64, 27.47), "Siliguri": (88.43, 26.71), "Leh": (77.58, 34.16),
    "Srinagar": (74.80, 34.08), "Gilgit": (74.31, 35.92), "Murghab": (73.97, 38.17), "Naryn": (75.99, 41.43),
    "Almaty": (76.95, 43.24), "Taldykorgan": (78.37, 45.02), "Olgii": (89.97, 48.97), "Khovd": (91.64, 48.01),
    "Choibalsan": (114.53, 48.07), "Belogorsk": (128.47, 50.92), "Birobidzhan": (132.92, 48.79),
    "Ussuriysk": (131.95, 43.80), "Vladivostok": (131.89, 43.12), "Helsinki": (24.94, 60.17),
}  # fmt: skip


def test_cities_lie_on_the_right_side() -> None:
    assert [name for name, (lng, lat) in INSIDE.items() if not in_gcj02_area(lng, lat)] == []
    assert [name for name, (lng, lat) in OUTSIDE.items() if in_gcj02_area(lng, lat)] == []


def test_a_point_inside_has_an_odd_number_of_edges_to_its_right() -> None:
    lng, lat = np.random.default_rng(1).uniform((70.0, 16.0), (140.0, 56.0), (20_000, 2)).T
    odd = np.zeros(len(lng), bool)
    for (x1, y1), (x2, y2) in zip(OUTLINE, (*OUTLINE[1:], OUTLINE[0]), strict=True):
        if y1 != y2:
            odd ^= ((y1 > lat) != (y2 > lat)) & (lng < x1 + (lat - y1) / (y2 - y1) * (x2 - x1))
    assert in_gcj02_area(lng, lat).tolist() == odd.tolist()
    assert Polygon(OUTLINE).is_valid


def test_any_shape_and_value_is_accepted() -> None:
    assert in_gcj02_area(120.15, 30.27).shape == ()
    assert in_gcj02_area([[120.15, 2.35]], 30.27).tolist() == [[True, False]]
    assert in_gcj02_area([], []).tolist() == []
    lng, lat = [np.nan, 120.0, np.inf, 1e300, 180.0], [30.0, np.nan, 30.0, -1e300, 90.0]
    assert in_gcj02_area(lng, lat).tolist() == [False] * 5


def along_the_edge(metres: float) -> np.ndarray:
    """Points at this distance inside the outline (outside, if negative), away from its corners. Shape: (N, 2)."""
    one = np.array(OUTLINE, float)
    step = np.roll(one, -1, axis=0) - one
    at = (one[:, None] + step[:, None] * np.linspace(0.02, 0.98, 200)[:, None]).reshape(-1, 2)
    right = np.repeat(np.stack([step[:, 1], -step[:, 0]], 1) / np.hypot(*step.T)[:, None], 200, axis=0)  # clockwise
    return at + right * metres / METRES_PER_DEGREE


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
@pytest.mark.parametrize("metres", [1, 300, 1500])
def test_points_inside_the_edge_are_shifted_and_return(datum: Datum, metres: float) -> None:
    lng, lat = along_the_edge(metres).T
    assert in_gcj02_area(lng, lat).all()
    x, y = from_wgs84(lng, lat, datum)
    assert haversine_m(lng, lat, x, y).min() > 50.0
    assert not in_gcj02_area(x, y).all() or metres > 1000  # the shift crosses the edge
    assert haversine_m(lng, lat, *to_wgs84(x, y, datum)).max() < 1e-6


def test_points_outside_the_edge_stay() -> None:
    lng, lat = along_the_edge(-1).T
    assert not in_gcj02_area(lng, lat).any()
    x, y = wgs84_to_gcj02(lng, lat)
    assert (x.tolist(), y.tolist()) == (lng.tolist(), lat.tolist())
    far = along_the_edge(-3000)  # no shift is as long
    near_a_corner = contains_xy(Polygon(OUTLINE).buffer(0.025), far)
    lng, lat = np.concatenate([far[~near_a_corner], list(OUTSIDE.values())]).T
    for datum in get_args(Datum):
        x, y = to_wgs84(lng, lat, datum)
        assert (x.tolist(), y.tolist()) == (lng.tolist(), lat.tolist())
