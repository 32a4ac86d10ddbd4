"""Coordinates written as text."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import parse_lnglat
from m3gal_cli.geo.datums import wgs84_to_gcj02


def test_lng_comes_before_lat_and_is_converted_from_the_datum() -> None:
    assert parse_lnglat(" 24.9384 , 60.1699 ", "here") == (24.9384, 60.1699)
    x, y = wgs84_to_gcj02(120.1, 30.2)
    np.testing.assert_allclose(parse_lnglat(f"{float(x)!r},{float(y)!r}", "here", "gcj02"), (120.1, 30.2), atol=1e-9)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("1,2,3", "expected \"lng,lat\", got '1,2,3'"),
        ("east,2", "expected \"lng,lat\", got 'east,2'"),
        ("nan,2", "longitude nan is not between -180 and 180"),
        ("-190,95", "longitude -190 is not between -180 and 180"),
        ("120,95", "latitude 95 is not between -90 and 90"),
        ("30,120", "latitude 120 is not between -90 and 90: lng and lat look swapped"),
    ],
)
def test_text_that_is_no_position_is_an_input_error(text: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_lnglat(text, "file:3")
    assert (caught.value.what, caught.value.where) == (what, "file:3")
