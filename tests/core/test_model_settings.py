"""z-scores against the formula, and settings through JSON."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from m3gal_cli.core.model_settings import PUBLISHED_NORMALIZER, ModelSettings, Normalizer


def test_fit_is_mean_and_population_spread() -> None:
    lng, lat = [120.0, 120.5, 121.0, 123.0], [30.0, 30.0, 31.0, 29.0]
    fitted = Normalizer.fit(lng, lat)
    for values, mean, std in ((lng, fitted.lng_mean, fitted.lng_std), (lat, fitted.lat_mean, fitted.lat_std)):
        centre = sum(values) / 4
        assert mean == pytest.approx(centre, rel=1e-12)
        assert std == pytest.approx(math.sqrt(sum((v - centre) ** 2 for v in values) / 4), rel=1e-12)
    z = fitted(lng, lat)
    assert z.dtype == np.float32
    assert z.shape == (4, 2)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(axis=0), 1, atol=1e-6)


def test_longitude_comes_first() -> None:
    assert Normalizer(10.0, 2.0, 50.0, 4.0)([14.0, 10.0], [46.0, 50.0]).tolist() == [[2.0, -1.0], [0.0, 0.0]]


def test_a_table_of_one_place_gets_a_spread_that_others_survive() -> None:
    fitted = Normalizer.fit([120.1] * 3, [30.1, 30.1, 30.1])
    assert (fitted.lng_std, fitted.lat_std) == (0.01, 0.01)
    assert fitted([120.1], [30.1]) == pytest.approx(np.zeros((1, 2)), abs=1e-9)


def test_a_metre_is_not_rounded_away() -> None:
    """float32 degrees at 120 are 0.85 m apart; z-scores are taken before the cut to float32."""
    lng = 120.2 + 1e-6 * np.arange(10)
    z = PUBLISHED_NORMALIZER(lng, np.full(10, 30.2))
    assert len(np.unique(z[:, 0])) == 10
    step = 1e-6 / PUBLISHED_NORMALIZER.lng_std
    np.testing.assert_allclose(np.diff(z[:, 0]), step, rtol=0.01)


def test_settings_through_json() -> None:
    settings = ModelSettings(
        pooling="cls", append_sep=False, max_length=9, query_prefix="问: ", normalizer=Normalizer(1.5, 0.1, 2.5, 0.3)
    )
    assert ModelSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
