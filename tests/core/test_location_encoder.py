"""Location encoders against the published layers and sinusoids written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from m3gal_cli.core.location_encoder import METRES_PER_DEGREE, FourierLocationEncoder, build_location_encoder
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.geo import coordinates

CITY = Normalizer(24.9, 0.08, 60.2, 0.04)


def test_mlp_is_the_published_one() -> None:
    mlp = build_location_encoder(48, ModelSettings(location_encoder="mlp"))
    linear = [m for m in mlp if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(2, 64), (64, 1024), (1024, 1024), (1024, 48)]
    assert list(mlp.state_dict()) == [f"{i}.{name}" for i in (0, 2, 4, 6) for name in ("weight", "bias")]
    z = torch.randn(5, 2)
    out = z
    for layer in linear[:-1]:
        out = (out @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(mlp(z), out @ linear[-1].weight.T + linear[-1].bias)


def sinusoids(z: list[float], scales: int, shortest: float, longest: float) -> list[float]:
    """sin, then cos, of the way along three directions in each wavelength; then z itself."""
    metre = math.pi * coordinates.EARTH_RADIUS_M / 180
    east = z[0] * CITY.lng_std * metre * math.cos(math.radians(CITY.lat_mean))
    north = z[1] * CITY.lat_std * metre
    phases = []
    for direction in (0, 120, 240):
        along = east * math.cos(math.radians(direction)) + north * math.sin(math.radians(direction))
        for s in range(scales):
            wavelength = shortest * (longest / shortest) ** (s / (scales - 1))
            phases.append(2 * math.pi * along / wavelength)
    return [math.sin(p) for p in phases] + [math.cos(p) for p in phases] + z


@pytest.mark.parametrize("scales", [2, 16])
def test_fourier_features_against_loops(scales: int) -> None:
    encoder = FourierLocationEncoder(8, CITY, 500.0, 50_000.0, scales)
    encoder.mlp = nn.Identity()
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(2))
    for row, found in zip(z.tolist(), encoder(z).tolist(), strict=True):
        assert found == pytest.approx(sinusoids(row, scales, 500.0, 50_000.0), abs=5e-4)


def test_fourier_takes_its_wavelengths_from_the_settings_and_stores_weights_alone() -> None:
    settings = ModelSettings(location_encoder="fourier", fourier_min_m=100.0, fourier_max_m=20_000.0, normalizer=CITY)
    encoder = build_location_encoder(24, settings)
    waves = 2 * math.pi / encoder.wave_numbers
    assert (waves[0].item(), waves[-1].item()) == pytest.approx((100.0, 20_000.0), rel=1e-5)
    assert encoder(torch.randn(3, 2)).shape == (3, 24)
    assert all(name.startswith("mlp.") for name in encoder.state_dict())


def test_the_shortest_wave_tells_neighbours_apart_where_z_hardly_does() -> None:
    encoder = FourierLocationEncoder(8, CITY, 200.0, 50_000.0)
    encoder.mlp = nn.Identity()
    z = torch.from_numpy(CITY([24.9, 24.9], [60.2, 60.2 + 50.0 / METRES_PER_DEGREE]))  # 50 m north
    here, there = encoder(z)
    assert (here - there)[-2:].abs().max() < 0.02
    assert (here - there)[:-2].abs().max() > 0.9


def test_a_degree_is_as_long_as_elsewhere() -> None:
    assert pytest.approx(coordinates.METRES_PER_DEGREE, abs=0.01) == METRES_PER_DEGREE
