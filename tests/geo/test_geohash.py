"""Geohash digits against well-known places and bisection."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.geo.geohash import geohash_digits

BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


@pytest.mark.parametrize(
    ("lng", "lat", "letters"),
    [(10.40744, 57.64911, "u4pruyd"), (-5.6, 42.6, "ezs42"), (-74.044502, 40.689247, "dr5r7p6"), (0.0, 0.0, "s000000")],
)
def test_well_known_places_have_their_geohash(lng: float, lat: float, letters: str) -> None:
    assert geohash_digits(lng, lat)[0].tolist()[: len(letters)] == [BASE32.index(c) for c in letters]


def test_digits_equal_bisection() -> None:
    for lng, lat in np.random.default_rng(5).uniform((-180, -90), (180, 90), (50, 2)):
        assert geohash_digits(lng, lat)[0].tolist() == bisected(lng, lat)
    assert geohash_digits([180.0, -180.0], [90.0, -90.0]).tolist() == [[31] * 7, [0] * 7]


def bisected(lng: float, lat: float) -> list[int]:
    """Geohash by its definition: halve the longitude, then the latitude, five bits a digit."""
    ranges, bits = [[-180.0, 180.0], [-90.0, 90.0]], []
    for step in range(35):
        low_high, value = ranges[step % 2], (lng, lat)[step % 2]
        middle = sum(low_high) / 2
        bits.append(int(value >= middle))
        low_high[1 - bits[-1]] = middle
    return [int("".join(map(str, bits[i : i + 5])), 2) for i in range(0, 35, 5)]
