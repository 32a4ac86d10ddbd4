"""Nearness against its formula, and the features of the two searches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.features import FEATURES
from tests.helpers.plain_terms import case, context

LOCATION = (24.91, 60.105)


@pytest.mark.parametrize(("name", "sigma_m"), [("700m", 700.0), ("2500m", 2500.0), ("10km", 10_000.0)])
def test_nearness_is_a_mixture_of_a_near_poi_and_any_poi(name: str, sigma_m: float) -> None:
    candidates, feature = case(), FEATURES[f"nearness_{name}"]
    metres = haversine_m(*LOCATION, candidates.lng, candidates.lat).tolist()
    kernel = [math.exp(-((d / sigma_m) ** 2) / 2) for d in metres]
    expected = np.array([math.log(1 + 100 * k / (1 + sum(kernel))) for k in kernel])
    every = context(Query(1, "hotel", *LOCATION), candidates)
    np.testing.assert_allclose(feature.compute(every), expected, atol=1e-12)
    some = np.array([1, 4])
    np.testing.assert_allclose(feature.compute(every.take(some)), expected[some], atol=1e-12)
    assert expected[8] < 1e-6 < expected.max(), "one candidate is far away"
    assert not feature.compute(context("hotel", candidates)).any(), "without a query location"


def test_scores_are_those_of_the_searches() -> None:
    candidates = case()
    for name, scores in (("dense_score", candidates.scores), ("sparse_score", candidates.sparse_scores)):
        assert FEATURES[name].compute(context("hotel", candidates)).tolist() == scores.tolist()
