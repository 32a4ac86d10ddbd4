"""Features of the neighbours of a candidate: other candidates near it, whose addresses explain the rest of the query.

A query may name a place beside the POI. A neighbour counts by the n-grams of the query that its address has and the
candidate's address lacks. Its value falls with its distance d from the candidate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.geo.distances import EARTH_RADIUS_M
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature

REACH_M = 1500.0  # decay of the whole query; that of its halves is a third of it
# Shares are rounded to steps of 1/4096: float32 sums are then exact, and equal candidates get equal values.
_STEPS = 4096


@feature(scale=12.0)
def neighbour_coverage(context: FeatureContext) -> Floats:
    """Return max over neighbours of exp(-d / 1.5 km) · Σ idf(query ∩ neighbour − candidate) / Σ idf(query)."""
    return np.asarray(context.shared(_neighbour_features)[0])


@feature(scale=16.0)
def neighbour_first_half(context: FeatureContext) -> Floats:
    """Return ``neighbour_coverage`` of the first half of the query, with exp(-d / 500 m)."""
    return np.asarray(context.shared(_neighbour_features)[1])


@feature(scale=16.0)
def neighbour_second_half(context: FeatureContext) -> Floats:
    """Return ``neighbour_coverage`` of the second half of the query, with exp(-d / 500 m)."""
    return np.asarray(context.shared(_neighbour_features)[2])


def _neighbour_features(context: FeatureContext) -> Floats:
    """Compute the three features of n candidates and N neighbours. Shape: -> (3, n)."""
    neighbours = context.all
    missing, present = ~context.matches("ngrams").table(), neighbours.matches("ngrams").table()
    useful = np.flatnonzero(missing.any(axis=0) & present.any(axis=0))
    missing, present = missing[:, useful].astype(np.float32), present[:, useful].T.astype(np.float32)
    decay = _decay(neighbours.candidates, context.positions)
    half_decay = decay * decay * decay  # exp(-d / 500 m)
    out = np.zeros((3, len(context)))
    parts = (context.text.shares, *context.text.half_shares)
    for i, (shares, factor) in enumerate(zip(parts, (decay, half_decay, half_decay), strict=True)):
        weights = np.round(shares[useful] * _STEPS).astype(np.float32)
        own = np.flatnonzero(weights)
        if len(own):
            gains = (missing[:, own] * weights[own]) @ present[own]
            gains *= factor
            out[i] = gains.max(axis=1)
    return out / _STEPS


def _decay(neighbours: Candidates, scored: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return exp(-d / 1.5 km), d the distance of some candidates and all N. Shape: (n,) -> (n, N)."""
    points = _cartesian(neighbours.lng, neighbours.lat)
    others = (points - points.mean(axis=1, keepdims=True)).astype(np.float32)
    squares, step = np.zeros((2, len(scored), len(neighbours)), np.float32)
    for b in others:
        np.subtract(b[scored, None], b, out=step)
        np.multiply(step, step, out=step)
        squares += step
    np.sqrt(squares, out=squares)
    squares /= np.float32(-REACH_M)
    return np.asarray(np.exp(squares, out=squares))


def _cartesian(lng: Floats, lat: Floats) -> NDArray[np.float64]:
    """Return points on the globe as x, y, z in metres. Shape: (n,), (n,) -> (3, n)."""
    # Unlike map coordinates, these have no date line and no pole. At such distances a chord is as long as the arc.
    east, north = np.radians(lng), np.radians(lat)
    return EARTH_RADIUS_M * np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])
