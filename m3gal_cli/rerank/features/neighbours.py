"""Features of the neighbours of a candidate: other candidates near it, whose addresses explain the rest of the query.

A query may name a place beside the POI. A neighbour counts by the n-grams of the query that its address has and the
candidate's address lacks. Its value falls with its distance d from the candidate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.geo.distances import EARTH_RADIUS_M
from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature

REACH_M = 1500.0  # decay of the whole query; that of its halves is a third of it
# Shares are rounded to steps of 1/4096: float32 sums are then exact, and equal candidates get equal values.
_STEPS = 4096
_BLOCK = 64  # candidates compared at once; the intermediate arrays stay in the processor's cache


@feature(scale=12.0)
def neighbour_coverage(context: FeatureContext) -> Floats:
    """Return max over neighbours of exp(-d / 1.5 km) · Σ idf(query ∩ neighbour − candidate) / Σ idf(query)."""
    return context.shared(_neighbour_features)[0]


@feature(scale=16.0)
def neighbour_first_half(context: FeatureContext) -> Floats:
    """Return ``neighbour_coverage`` of the first half of the query, with exp(-d / 500 m)."""
    return context.shared(_neighbour_features)[1]


@feature(scale=16.0)
def neighbour_second_half(context: FeatureContext) -> Floats:
    """Return ``neighbour_coverage`` of the second half of the query, with exp(-d / 500 m)."""
    return context.shared(_neighbour_features)[2]


def _neighbour_features(context: FeatureContext) -> Floats:
    """Compute the three features, which share the distances of all pairs, block by block. Shape: -> (3, n)."""
    axes, n = _cartesian(context.candidates.lng, context.candidates.lat), len(context)
    steps = [np.round(part.shares * _STEPS).astype(np.float32) for part in context.parts]
    weighted = [np.ascontiguousarray((p.matches * own).T) for p, own in zip(context.parts, steps, strict=True)]
    missing = [(~part.matches).astype(np.float32, order="C") for part in context.parts]
    out = np.zeros((len(steps), n))
    buffers = [np.empty((_BLOCK, n), np.float32) for _ in range(3)]
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        decay, half_decay, gain = (buffer[: rows.stop - start] for buffer in buffers)
        _distances_m(axes, rows, decay, spare=gain)
        np.exp(np.divide(decay, np.float32(-REACH_M), out=decay), out=decay)
        np.power(decay, 2, out=half_decay)
        half_decay *= decay  # exp(-d / 500 m), within 3e-7
        for i, factor in enumerate((decay, half_decay, half_decay)):
            np.matmul(missing[i][rows], weighted[i], out=gain)
            gain *= factor
            out[i, rows] = gain.max(axis=1)
    return out / _STEPS


def _distances_m(axes: NDArray[np.float32], rows: slice, out: NDArray[np.float32], spare: NDArray[np.float32]) -> None:
    """Compute the distances of some points from all points. Shape: axes: (3, n) metres. out, spare: (rows, n)."""
    out[:] = 0.0
    for axis in axes:
        np.subtract(axis[rows, None], axis, out=spare)
        np.multiply(spare, spare, out=spare)
        out += spare
    np.sqrt(out, out=out)


def _cartesian(lng: Floats, lat: Floats) -> NDArray[np.float32]:
    """Return points on the globe as x, y, z in metres from their mean. Shape: (n,), (n,) -> (3, n)."""
    # Unlike map coordinates, these have no date line and no pole. At such distances a chord is as long as the arc.
    east, north = np.radians(lng), np.radians(lat)
    points = EARTH_RADIUS_M * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
    return np.asarray(points - points.mean(axis=1, keepdims=True), np.float32)
