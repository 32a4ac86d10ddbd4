"""The outline within which the Chinese datums apply: cities on both sides, its corners, and a plain crossing count."""

from __future__ import annotations

import numpy as np
import pytest
from shapely import contains_xy
from shapely.geometry import Polygon

from m3gal_cli.geo import coordinates as geo
from m3gal_cli.geo.gcj02_area import OUTLINE, in_china

INSIDE = {
    "Beijing": (116.41, 39.90), "Tianjin": (117.20, 39.13), "Shijiazhuang": (114.51, 38.04), "Taiyuan": (112.55, 37.87),
    "Hohhot": (111.75, 40.84), "Shenyang": (123.43, 41.80), "Changchun": (125.32, 43.82), "Harbin": (126.53, 45.80),
    "Shanghai": (121.47, 31.23), "Nanjing": (118.80, 32.06), "Hangzhou": (120.15, 30.27), "Hefei": (117.23, 31.82),
    "Fuzhou": (119.30, 26.07), "Nanchang": (115.86, 28.68), "Jinan": (117.00, 36.65), "Zhengzhou": (113.63, 34.75),
    "Wuhan": (114.31, 30.59), "Changsha": (112.94, 28.23), "Guangzhou": (113.26, 23.13), "Nanning": (108.37, 22.82),
    "Haikou": (110.20, 20.04), "Chongqing": (106.55, 29.56), "Chengdu": (104.07, 30.57), "Guiyang": (106.63, 26.65),
    "Kunming": (102.83, 24.88), "Lhasa": (91.14, 29.65), "Xi'an": (108.94, 34.34), "Lanzhou": (103.83, 36.06),
    "Xining": (101.78, 36.62), "Yinchuan": (106.23, 38.49), "Urumqi": (87.62, 43.83), "Hong Kong": (114.17, 22.30),
    "Macau": (113.54, 22.19), "Heihe": (127.50, 50.25), "Mohe": (122.54, 52.97), "Fuyuan": (134.31, 48.36),
    "Suifenhe": (131.15, 44.41), "Hunchun": (130.37, 42.86), "Yanji": (129.51, 42.89), "Ji'an": (126.19, 41.13),
    "Dandong": (124.39, 40.13), "Manzhouli": (117.38, 49.60), "Erenhot": (111.98, 43.65), "Ejin": (101.07, 41.96),
    "Altay": (88.13, 47.85), "Tacheng": (82.98, 46.75), "Alashankou": (82.57, 45.17), "Khorgas": (80.42, 44.21),
    "Yining": (81.32, 43.92), "Kashgar": (75.99, 39.47), "Tashkurgan": (75.23, 37.77), "Ngari": (80.10, 32.50),
    "Shigatse": (88.88, 29.27), "Yadong": (88.91, 27.48), "Nyingchi": (94.36, 29.65), "Zayu": (97.47, 28.66),
    "Tengchong": (98.49, 25.02), "Ruili": (97.85, 24.01), "Jinghong": (100.80, 22.01), "Mengla": (101.56, 21.48),
    "Hekou": (103.96, 22.53), "Pingxiang": (106.76, 22.10), "Dongxing": (107.97, 21.54), "Beihai": (109.12, 21.48),
    "Sanya": (109.51, 18.25), "Zhanjiang": (110.36, 21.27), "Shenzhen": (114.06, 22.54), "Shantou": (116.68, 23.35),
    "Xiamen": (118.09, 24.48), "Wenzhou": (120.70, 28.00), "Zhoushan": (122.20, 29.99), "Qingdao": (120.38, 36.07),
    "Weihai": (122.12, 37.51), "Dalian": (121.61, 38.91),
}  # fmt: skip
OUTSIDE = {
    "Seoul": (126.98, 37.57), "Incheon": (126.71, 37.46), "Busan": (129.08, 35.18), "Jeju": (126.53, 33.50),
    "Pyongyang": (125.75, 39.02), "Hamhung": (127.54, 39.92), "Chongjin": (129.78, 41.80), "Tokyo": (139.69, 35.69),
    "Fukuoka": (130.40, 33.59), "Nagasaki": (129.87, 32.75), "Naha": (127.68, 26.21), "Taipei": (121.56, 25.04),
    "Taichung": (120.68, 24.14), "Tainan": (120.21, 22.99), "Kaohsiung": (120.31, 22.63), "Hualien": (121.60, 23.99),
    "Penghu": (119.57, 23.57), "Manila": (120.98, 14.60), "Hanoi": (105.85, 21.03), "Haiphong": (106.68, 20.86),
    "Da Nang": (108.22, 16.07), "Dien Bien Phu": (103.02, 21.39), "Luang Prabang": (102.14, 19.89),
    "Vientiane": (102.60, 17.97), "Chiang Rai": (99.83, 19.91), "Bangkok": (100.50, 13.76), "Mandalay": (96.08, 21.98),
    "Lashio": (97.75, 22.93), "Myitkyina": (97.40, 25.38), "Dhaka": (90.41, 23.81), "Guwahati": (91.74, 26.14),
    "Dibrugarh": (94.91, 27.48), "Thimphu": (89.64, 27.47), "Siliguri": (88.43, 26.71), "Kathmandu": (85.32, 27.71),
    "Pokhara": (83.99, 28.21), "Dehradun": (78.03, 30.32), "Shimla": (77.17, 31.10), "Delhi": (77.21, 28.61),
    "Leh": (77.58, 34.16), "Srinagar": (74.80, 34.08), "Gilgit": (74.31, 35.92), "Islamabad": (73.05, 33.68),
    "Kabul": (69.17, 34.53), "Khorog": (71.55, 37.49), "Murghab": (73.97, 38.17), "Dushanbe": (68.78, 38.56),
    "Osh": (72.80, 40.53), "Naryn": (75.99, 41.43), "Bishkek": (74.59, 42.87), "Karakol": (78.39, 42.49),
    "Almaty": (76.95, 43.24), "Taldykorgan": (78.37, 45.02), "Oskemen": (82.61, 49.95), "Novosibirsk": (82.92, 55.03),
    "Olgii": (89.97, 48.97), "Khovd": (91.64, 48.01), "Altai": (96.26, 46.37), "Dalanzadgad": (104.43, 43.57),
    "Ulan Bator": (106.92, 47.92), "Choibalsan": (114.53, 48.07), "Irkutsk": (104.28, 52.29), "Chita": (113.50, 52.03),
    "Belogorsk": (128.47, 50.92), "Birobidzhan": (132.92, 48.79), "Ussuriysk": (131.95, 43.80),
    "Vladivostok": (131.89, 43.12), "Komsomolsk": (137.01, 50.55), "Helsinki": (24.94, 60.17),
}  # fmt: skip


def test_cities_are_on_their_side() -> None:
    assert [name for name, (lng, lat) in INSIDE.items() if not in_china(lng, lat)] == []
    assert [name for name, (lng, lat) in OUTSIDE.items() if in_china(lng, lat)] == []


def test_the_outline_is_a_polygon_and_agrees_with_shapely() -> None:
    outline = Polygon(OUTLINE)
    assert outline.is_valid
    lng, lat = np.random.default_rng(1).uniform((70.0, 16.0), (140.0, 56.0), (100_000, 2)).T
    assert in_china(lng, lat).tolist() == contains_xy(outline, lng, lat).tolist()
    corners = np.array(OUTLINE)  # the latitudes at which the edges of a slab change
    lng = np.repeat(np.arange(70.1, 140.0), len(corners))
    lat = np.tile(corners[:, 1], len(lng) // len(corners))
    beside = outline.boundary.buffer(1e-9)
    off = ~contains_xy(beside, lng, lat)
    assert in_china(lng, lat)[off].tolist() == contains_xy(outline, lng, lat)[off].tolist()


def test_any_shape_and_anything_goes_in() -> None:
    assert in_china(120.15, 30.27).shape == ()
    assert in_china([[120.15, 2.35]], [[30.27, 48.85]]).tolist() == [[True, False]]
    assert in_china([120.15, 2.35], 30.27).tolist() == [True, False]
    assert in_china([], []).tolist() == []
    assert in_china([np.nan, 120.0, np.inf, 1e300, 180.0], [30.0, np.nan, 30.0, -1e300, 90.0]).tolist() == [False] * 5


def along_the_edge(metres: float) -> np.ndarray:
    """Points beside the outline, so far inside (or, below 0, outside) and away from its corners. Shape: (N, 2)."""
    one = np.array(OUTLINE, float)
    step = np.roll(one, -1, axis=0) - one
    at = (one[:, None] + step[:, None] * np.linspace(0.02, 0.98, 200)[:, None]).reshape(-1, 2)
    right = np.repeat(np.stack([step[:, 1], -step[:, 0]], 1) / np.hypot(*step.T)[:, None], 200, axis=0)  # clockwise
    return at + right * metres / geo.METRES_PER_DEGREE


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
@pytest.mark.parametrize("metres", [1, 50, 300, 700, 1500])
def test_what_lies_inside_the_edge_comes_back(datum: geo.Datum, metres: float) -> None:
    lng, lat = along_the_edge(metres).T
    assert in_china(lng, lat).all()
    x, y = geo.wgs84_to_gcj02(lng, lat)
    if datum == "bd09":
        there = x, y
        x, y = geo.gcj02_to_bd09(x, y)
        assert geo.haversine_m(*there, *geo.bd09_to_gcj02(x, y)).max() < 1e-6
    assert geo.haversine_m(lng, lat, x, y).min() > 50.0
    assert not in_china(x, y).all() or metres > 1000  # the shift crosses the edge
    assert geo.haversine_m(lng, lat, *geo.to_wgs84(x, y, datum)).max() < 1e-6


def test_what_lies_outside_the_edge_stays() -> None:
    lng, lat = along_the_edge(-1).T
    assert not in_china(lng, lat).any()
    x, y = geo.wgs84_to_gcj02(lng, lat)
    assert (x.tolist(), y.tolist()) == (lng.tolist(), lat.tolist())
    away = along_the_edge(-3000)  # no shift is as long
    lng, lat = away[
        ~contains_xy(Polygon(OUTLINE).buffer(0.025), away)
    ].T  # ... nor near the next edge at a sharp corner
    for there in (geo.wgs84_to_gcj02, geo.gcj02_to_wgs84, geo.gcj02_to_bd09, geo.bd09_to_gcj02):
        x, y = there(lng, lat)
        assert (x.tolist(), y.tolist()) == (lng.tolist(), lat.tolist())


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_no_city_outside_moves(datum: geo.Datum) -> None:
    lng, lat = np.array(list(OUTSIDE.values())).T
    x, y = geo.to_wgs84(lng, lat, datum)
    assert (x.tolist(), y.tolist()) == (lng.tolist(), lat.tolist())
