"""Points of curves, which shapely cannot represent, and of geometries with infinite coordinates."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from m3gal_cli.geo.geometries import geometry_points


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "wrong", ["CIRCULARSTRING (0 0, 1 1, 2 0)", "POLYGON ((inf 0, 1 1, 2 2, inf 0))", "POINT (nan nan)", "x", None]
)
def test_a_geometry_that_cannot_be_read_has_no_point_and_the_others_have_theirs(wrong: str | None) -> None:
    lng, lat = geometry_points(["POINT (1 2)", wrong, "SRID=4326;POINT (3 4)"])
    np.testing.assert_array_equal(lng, [1, np.nan, 3])
    np.testing.assert_array_equal(lat, [2, np.nan, 4])


def test_geojson_of_values_that_json_does_not_have_is_nan() -> None:
    value = {"type": "Point", "coordinates": [Decimal(1), Decimal(2)]}
    assert np.isnan(geometry_points([value])).all()
