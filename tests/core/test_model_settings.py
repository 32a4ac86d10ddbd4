"""Z-scores against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from m3gal_cli.core.model_settings import PUBLISHED_NORMALIZER, Normalizer


def test_fit_gives_mean_and_population_standard_deviation() -> None:
    lng, lat = [120.0, 120.5, 121.0, 123.0], [30.0, 30.0, 31.0, 29.0]
    fitted = Normalizer.fit(lng, lat)
    for values, mean, std in ((lng, fitted.lng_mean, fitted.lng_std), (lat, fitted.lat_mean, fitted.lat_std)):
        centre = sum(values) / 4
        assert mean == pytest.approx(centre, rel=1e-12)
        assert std == pytest.approx(math.sqrt(sum((v - centre) ** 2 for v in values) / 4), rel=1e-12)


def test_equal_coordinates_get_a_deviation_of_a_hundredth_of_a_degree() -> None:
    fitted = Normalizer.fit([120.1] * 3, [30.1, 30.1, 30.1])
    assert (fitted.lng_std, fitted.lat_std) == (0.01, 0.01)
    z = fitted([120.1, 120.11], [30.1, 30.12])
    assert (z.dtype, z.shape) == (np.float32, (2, 2))
    assert z == pytest.approx(np.array([[0.0, 0.0], [1.0, 2.0]]), abs=1e-6)


def test_z_scores_resolve_less_than_a_metre() -> None:
    """float32 degrees near 120 are 0.85 m apart; z-scores are computed before rounding to float32."""
    z = PUBLISHED_NORMALIZER(120.2 + 1e-6 * np.arange(10), np.full(10, 30.2))
    np.testing.assert_allclose(np.diff(z[:, 0]), 1e-6 / PUBLISHED_NORMALIZER.lng_std, rtol=0.01)
