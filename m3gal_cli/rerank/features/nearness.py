"""Features of the distance from the query location."""

from __future__ import annotations

import numpy as np

from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features.context import FeatureContext
from m3gal_cli.rerank.features.registry import feature

PRIOR_ODDS = 100.0  # that the query means a POI near its location; no value up to 3000 is better (GeoTES)


@feature(scale=2.0, cheap=True)
def nearness_700m(context: FeatureContext) -> Floats:
    """Return ``nearness`` with σ = 700 m."""
    return nearness(context, 700.0)


@feature(scale=2.0, cheap=True)
def nearness_2500m(context: FeatureContext) -> Floats:
    """Return ``nearness`` with σ = 2500 m."""
    return nearness(context, 2500.0)


@feature(scale=2.0, cheap=True)
def nearness_10km(context: FeatureContext) -> Floats:
    """Return ``nearness`` with σ = 10 km."""
    return nearness(context, 10_000.0)


def nearness(context: FeatureContext, sigma_m: float) -> Floats:
    """Return ln(1 + 100 k / (1 + Σ k)), k = exp(-(d / σ)² / 2), d the distance from the query location; 0 without one.

    This is the log likelihood ratio of a mixture: the query means one of the POIs near its location, or any POI. The
    POIs near the location share the prior odds of 100, so a POI that is alone there gets more than one of many. The 1
    accounts for near POIs that are not candidates. Without it, the nearest candidate would get all the odds at any
    distance. Distant candidates add nothing to Σ k, so their number does not matter. The sum is over all candidates.
    """
    all_metres = context.all.query_distances_m
    if all_metres is None:
        return np.zeros(len(context))
    near = np.exp(-0.5 * (all_metres / sigma_m) ** 2)
    return np.asarray(np.log1p(PRIOR_ODDS * near[context.positions] / (1.0 + near.sum())))
