"""Datums, geohash and distances against hand-known values and analytic ones."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo import coordinates as geo
from m3gal_cli.geo.gcj02_area import in_china

BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"
CHINA = np.random.default_rng(3).uniform((100.0, 24.0), (117.5, 41.0), (200, 2))


def test_published_values_of_the_datum_shifts() -> None:
    lng, lat = geo.wgs84_to_gcj02(116.404, 39.915)
    assert (float(lng), float(lat)) == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-9)
    lng, lat = geo.gcj02_to_bd09(116.404, 39.915)
    assert (float(lng), float(lat)) == pytest.approx((116.41036949371029, 39.92133699351021), abs=1e-9)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_datum_round_trip_is_far_below_a_metre(datum: geo.Datum) -> None:
    lng, lat = CHINA.T
    x, y = geo.wgs84_to_gcj02(lng, lat)
    if datum == "bd09":
        x, y = geo.gcj02_to_bd09(x, y)
    assert geo.haversine_m(lng, lat, x, y).min() > 50.0  # the shift is there at all
    back_x, back_y = geo.to_wgs84(x, y, datum)
    assert geo.haversine_m(lng, lat, back_x, back_y).max() < 0.01


def moved(lng: np.ndarray, lat: np.ndarray, datum: geo.Datum) -> tuple[np.ndarray, np.ndarray]:
    """WGS-84 degrees in ``datum``."""
    x, y = geo.wgs84_to_gcj02(lng, lat)
    return geo.gcj02_to_bd09(x, y) if datum == "bd09" else (x, y)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_datum_round_trip_over_all_of_china(datum: geo.Datum) -> None:
    """100,000 points of the country's bounding box, and the meridian at which the formula has a kink."""
    rng = np.random.default_rng(13)
    lng, lat = rng.uniform((73.0, 18.0), (135.1, 53.8), (100_000, 2)).T
    lng[:1000] = 105.0 + rng.uniform(-1e-3, 1e-3, 1000)
    inside = in_china(lng, lat)
    assert 0.4 < inside.mean() < 0.7
    x, y = moved(lng, lat, datum)
    shift = geo.haversine_m(lng, lat, x, y)
    assert 10.0 < shift[inside].min() < shift[inside].max() < 2_000.0
    back = np.array(geo.to_wgs84(x, y, datum))
    assert geo.haversine_m(lng, lat, *back)[inside].max() < 1e-6
    assert geo.haversine_m(x, y, *moved(*back, datum))[inside].max() < 1e-6


def test_outside_china_nothing_moves() -> None:
    lng, lat = geo.wgs84_to_gcj02([24.94], [60.17])
    assert (lng[0], lat[0]) == (24.94, 60.17)
    lng, lat = geo.to_wgs84([24.94], [60.17], "bd09")
    assert (lng[0], lat[0]) == (24.94, 60.17)


def test_unknown_datum_is_an_input_error() -> None:
    with pytest.raises(InputError, match="unknown datum 'utm'"):
        geo.check_datum("utm")


@pytest.mark.parametrize(
    ("lng", "lat", "letters"),
    [(10.40744, 57.64911, "u4pruyd"), (-5.6, 42.6, "ezs42"), (-74.044502, 40.689247, "dr5r7p6"), (0.0, 0.0, "s000000")],
)
def test_geohash_of_well_known_places(lng: float, lat: float, letters: str) -> None:
    digits = geo.geohash_digits(lng, lat)[0]
    assert digits.tolist()[: len(letters)] == [BASE32.index(c) for c in letters]


def test_geohash_against_bisection() -> None:
    for lng, lat in np.random.default_rng(5).uniform((-180, -90), (180, 90), (50, 2)):
        assert geo.geohash_digits(lng, lat)[0].tolist() == _bisected(lng, lat)


def _bisected(lng: float, lat: float) -> list[int]:
    """Geohash as it is taught: halve the longitude, then the latitude, five bits a letter."""
    ranges, bits = [[-180.0, 180.0], [-90.0, 90.0]], []
    for step in range(35):
        low_high, value = ranges[step % 2], (lng, lat)[step % 2]
        middle = sum(low_high) / 2
        bits.append(int(value >= middle))
        low_high[1 - bits[-1]] = middle
    return [int("".join(map(str, bits[i : i + 5])), 2) for i in range(0, 35, 5)]


def test_geohash_at_the_edges_stays_in_range() -> None:
    digits = geo.geohash_digits([180.0, -180.0], [90.0, -90.0])
    assert digits.min() >= 0
    assert digits.max() <= 31
    assert digits[0].tolist() == [31] * 7
    assert digits[1].tolist() == [0] * 7


def test_haversine_against_arcs_of_known_angle() -> None:
    quarter = np.pi / 2 * geo.EARTH_RADIUS_M
    assert float(geo.haversine_m(0, 0, 90, 0)) == pytest.approx(quarter, rel=1e-12)
    assert float(geo.haversine_m(17, 0, 17, 90)) == pytest.approx(quarter, rel=1e-12)
    assert float(geo.haversine_m(0, 0, 180, 0)) == pytest.approx(2 * quarter, rel=1e-12)
    assert float(geo.haversine_m(5, 50, 5, 51)) == pytest.approx(geo.METRES_PER_DEGREE, rel=1e-12)
    assert float(geo.haversine_m(5, 50, 5, 50)) == 0.0


def test_local_metres_agree_with_haversine_within_a_city() -> None:
    rng = np.random.default_rng(7)
    lng, lat = 120.15 + rng.uniform(-0.2, 0.2, 100), 30.25 + rng.uniform(-0.2, 0.2, 100)
    metres = np.hypot(*geo.local_metres(lng, lat, 120.15, 30.25).T)
    assert metres == pytest.approx(geo.haversine_m(lng, lat, 120.15, 30.25), rel=2e-3)
