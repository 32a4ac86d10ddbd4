"""Distances against arcs of known angle."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.geo.distances import EARTH_RADIUS_M, haversine_m, local_metres


def test_great_circle_distances() -> None:
    metres = haversine_m([17, 0, 5, 5], [0, 0, 50, 50], [17, 180, 5, 5], [90, 0, 51, 50])
    assert metres / EARTH_RADIUS_M == pytest.approx([np.pi / 2, np.pi, np.pi / 180, 0.0], rel=1e-12)


def test_local_metres_agree_with_haversine_within_a_city() -> None:
    rng = np.random.default_rng(7)
    lng, lat = 120.15 + rng.uniform(-0.2, 0.2, 100), 30.25 + rng.uniform(-0.2, 0.2, 100)
    metres = np.hypot(*local_metres(lng, lat, 120.15, 30.25).T)
    assert metres == pytest.approx(haversine_m(lng, lat, 120.15, 30.25), rel=2e-3)
