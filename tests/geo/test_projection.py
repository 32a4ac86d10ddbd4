"""The projection against the sphere: haversine distances and great-circle bearings."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.geo.distances import METRES_PER_DEGREE, haversine_m
from m3gal_cli.geo.projection import Projection, bearing_deg, plane_distance_m


def test_bearings() -> None:
    ends = np.array([(0, 1), (1, 1), (1, 0), (0, -1), (-1, 0), (-1, 1)])
    assert bearing_deg(np.zeros(2), ends) == pytest.approx([0, 45, 90, 180, 270, 315])


def sphere_bearing(lng1: np.ndarray, lat1: np.ndarray, lng2: np.ndarray, lat2: np.ndarray) -> np.ndarray:
    """Initial bearing of the great circle, degrees."""
    a, b, turn = np.radians(lat1), np.radians(lat2), np.radians(lng2 - lng1)
    y, x = np.sin(turn) * np.cos(b), np.cos(a) * np.sin(b) - np.sin(a) * np.cos(b) * np.cos(turn)
    return np.degrees(np.arctan2(y, x)) % 360.0


def pairs_of_points(reach_m: float) -> tuple[np.ndarray, np.ndarray]:
    """2,000 points from 60 S to 70 N, and one within ``reach_m`` of each; (N, 2) degrees."""
    rng = np.random.default_rng(8)
    start = np.stack([rng.uniform(-170, 170, 2000), rng.uniform(-60, 70, 2000)], axis=-1)
    far, turn = rng.uniform(20, reach_m, 2000), rng.uniform(0, 2 * np.pi, 2000)
    step = np.stack([far * np.sin(turn) / np.cos(np.radians(start[:, 1])), far * np.cos(turn)], axis=-1)
    return start, start + step / METRES_PER_DEGREE


WORLD = Projection([0.0] * 3, [-60.0, 20.0, 70.0])


@pytest.mark.parametrize(("reach", "share", "degrees"), [(1200.0, 5e-4, 0.05), (20_000.0, 5e-3, 0.5)])
def test_metres_and_bearings_are_those_of_the_sphere(reach: float, share: float, degrees: float) -> None:
    start, end = pairs_of_points(reach)
    expected = haversine_m(*start.T, *end.T)
    metres = plane_distance_m(WORLD.metres(start), WORLD.metres(end)) * WORLD.scale_factor(end[:, 1])
    assert np.abs(metres / expected - 1).max() < share
    wrong = bearing_deg(WORLD.metres(start), WORLD.metres(end)) - sphere_bearing(*start.T, *end.T)
    assert np.abs((wrong + 180) % 360 - 180).max() < degrees


def test_degrees_invert_metres() -> None:
    start, _ = pairs_of_points(100.0)
    assert np.allclose(WORLD.degrees(WORLD.metres(start)), start, atol=1e-10, rtol=0)
    assert WORLD.metres(np.array([[0.0, 20.0]])) == pytest.approx(np.zeros((1, 2)), abs=1e-6)
    assert Projection([], []).metres(np.zeros((0, 2))).shape == (0, 2)
    assert WORLD.scale_factor(np.array([20.0, 60.0])) == pytest.approx([1.0, 0.5 / np.cos(np.radians(20.0))])
