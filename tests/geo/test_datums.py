"""Datum shifts against published values, and their inverses all over the GCJ-02 area."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum, check_datum, to_wgs84, wgs84_to_gcj02
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.geo.gcj02_area import in_gcj02_area
from tests.helpers.datums import from_wgs84, gcj02_to_bd09


def test_shifts_have_the_published_values() -> None:
    lng, lat = wgs84_to_gcj02(116.404, 39.915)
    assert (float(lng), float(lat)) == pytest.approx((116.41024449916938, 39.91640428150164), abs=1e-9)
    lng, lat = gcj02_to_bd09(116.404, 39.915)
    assert (float(lng), float(lat)) == pytest.approx((116.41036949371029, 39.92133699351021), abs=1e-9)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_shifts_are_inverted_to_a_micrometre(datum: Datum) -> None:
    """For 100,000 points of China's bounding box, also along the meridian at which the formula has a kink."""
    rng = np.random.default_rng(13)
    lng, lat = rng.uniform((73.0, 18.0), (135.1, 53.8), (100_000, 2)).T
    lng[:1000] = 105.0 + rng.uniform(-1e-3, 1e-3, 1000)
    inside = in_gcj02_area(lng, lat)
    assert 0.4 < inside.mean() < 0.7
    x, y = from_wgs84(lng, lat, datum)
    shift = haversine_m(lng, lat, x, y)
    assert 10.0 < shift[inside].min() < shift[inside].max() < 2_000.0
    back = np.array(to_wgs84(x, y, datum))
    assert haversine_m(lng, lat, *back)[inside].max() < 1e-6


def test_an_unknown_datum_is_an_input_error() -> None:
    with pytest.raises(InputError, match="unknown datum 'utm'"):
        check_datum("utm")
