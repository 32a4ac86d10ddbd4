"""The plane of an extract against the sphere: haversine distances and great-circle bearings."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.geo.coordinates import METRES_PER_DEGREE, haversine_m
from m3gal_cli.geo.projection import Frame, apart_m, bearing_deg
from m3gal_cli.osm.places import Place


@pytest.mark.parametrize(
    ("end", "degrees"), [((0, 1), 0), ((1, 1), 45), ((1, 0), 90), ((0, -1), 180), ((-1, 0), 270), ((-1, 1), 315)]
)
def test_bearings(end: tuple[float, float], degrees: float) -> None:
    assert float(bearing_deg(np.zeros(2), np.array(end))) == pytest.approx(degrees)


def sphere_bearing(lng1: np.ndarray, lat1: np.ndarray, lng2: np.ndarray, lat2: np.ndarray) -> np.ndarray:
    """Initial bearing of the great circle, degrees."""
    a, b, turn = np.radians(lat1), np.radians(lat2), np.radians(lng2 - lng1)
    y, x = np.sin(turn) * np.cos(b), np.cos(a) * np.sin(b) - np.sin(a) * np.cos(b) * np.cos(turn)
    return np.degrees(np.arctan2(y, x)) % 360.0


def pair_of_points(reach_m: float) -> tuple[np.ndarray, np.ndarray]:
    """2,000 points from 60 S to 70 N, and one within ``reach_m`` of each; (N, 2) degrees."""
    rng = np.random.default_rng(8)
    start = np.stack([rng.uniform(-170, 170, 2000), rng.uniform(-60, 70, 2000)], axis=-1)
    far, turn = rng.uniform(20, reach_m, 2000), rng.uniform(0, 2 * np.pi, 2000)
    step = np.stack([far * np.sin(turn) / np.cos(np.radians(start[:, 1])), far * np.cos(turn)], axis=-1)
    return start, start + step / METRES_PER_DEGREE


def world() -> Frame:
    return Frame([Place("n1", {}, ("amenity", "cafe"), 0.0, lat) for lat in (-60.0, 20.0, 70.0)])


@pytest.mark.parametrize(("reach", "share", "degrees"), [(1200.0, 5e-4, 0.05), (20_000.0, 5e-3, 0.5)])
def test_metres_and_bearings_are_those_of_the_sphere_anywhere(reach: float, share: float, degrees: float) -> None:
    frame = world()
    start, end = pair_of_points(reach)
    true = haversine_m(*start.T, *end.T)
    metres = apart_m(frame.metres(start), frame.metres(end)) * frame.stretch(end[:, 1])
    assert np.abs(metres / true - 1).max() < share
    wrong = bearing_deg(frame.metres(start), frame.metres(end)) - sphere_bearing(*start.T, *end.T)
    assert np.abs((wrong + 180) % 360 - 180).max() < degrees


def test_an_equirectangular_frame_would_fail_that() -> None:
    """Why the plane is conformal: with one latitude for all, metres are wrong by half and bearings by 20 degrees."""
    start, end = pair_of_points(1200.0)
    flat = METRES_PER_DEGREE * np.array([np.cos(np.radians(20.0)), 1.0])
    assert np.abs(apart_m(start * flat, end * flat) / haversine_m(*start.T, *end.T) - 1).max() > 0.5
    wrong = bearing_deg(start * flat, end * flat) - sphere_bearing(*start.T, *end.T)
    assert np.abs((wrong + 180) % 360 - 180).max() > 20


def test_degrees_undo_metres() -> None:
    frame = world()
    start, _ = pair_of_points(100.0)
    assert np.allclose(frame.degrees(frame.metres(start)), start, atol=1e-10, rtol=0)
    assert frame.metres(np.array([[0.0, 20.0]])) == pytest.approx(np.zeros((1, 2)), abs=1e-6)
    assert frame.stretch(np.array([20.0, 60.0])) == pytest.approx([1.0, 0.5 / np.cos(np.radians(20.0))])


def test_a_frame_of_nothing_is_a_frame() -> None:
    assert Frame([]).metres(np.zeros((0, 2))).shape == (0, 2)
