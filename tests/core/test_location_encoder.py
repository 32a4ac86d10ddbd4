"""Location encoders against the published layers and against sinusoids computed in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from m3gal_cli.core.location_encoder import build_location_encoder
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.geo import distances

CITY = Normalizer(24.9, 0.08, 60.2, 0.04)


def test_the_mlp_is_the_published_one() -> None:
    mlp = build_location_encoder(48, ModelSettings(location_encoder="mlp"))
    linear = [m for m in mlp if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(2, 64), (64, 1024), (1024, 1024), (1024, 48)]
    assert list(mlp.state_dict()) == [f"{i}.{name}" for i in (0, 2, 4, 6) for name in ("weight", "bias")]


def sinusoids(z: list[float], shortest: float, longest: float) -> list[float]:
    """Return sin, then cos, of the phases along three directions at each of 16 wavelengths; then z."""
    metre = math.pi * distances.EARTH_RADIUS_M / 180
    east = z[0] * CITY.lng_std * metre * math.cos(math.radians(CITY.lat_mean))
    north = z[1] * CITY.lat_std * metre
    phases = []
    for direction in (0, 120, 240):
        along = east * math.cos(math.radians(direction)) + north * math.sin(math.radians(direction))
        for s in range(16):
            wavelength = shortest * (longest / shortest) ** (s / 15)
            phases.append(2 * math.pi * along / wavelength)
    return [math.sin(p) for p in phases] + [math.cos(p) for p in phases] + z


def test_fourier_features_equal_those_of_loops_and_only_weights_are_stored() -> None:
    settings = ModelSettings(location_encoder="fourier", fourier_min_m=500.0, fourier_max_m=50_000.0, normalizer=CITY)
    encoder, z = build_location_encoder(24, settings), torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    assert encoder(z).shape == (6, 24)
    assert all(name.startswith("mlp.") for name in encoder.state_dict())
    encoder.mlp = nn.Identity()
    for row, result in zip(z.tolist(), encoder(z).tolist(), strict=True):
        assert result == pytest.approx(sinusoids(row, 500.0, 50_000.0), abs=5e-4)
