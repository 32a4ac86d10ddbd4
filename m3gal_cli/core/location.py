"""Place in: one unit vector a coordinate pair."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from m3gal_cli.core.settings import ModelSettings, Normalizer

METRES_PER_DEGREE = 111_195.08  # of latitude, on a sphere of the Earth's mean radius


def _mlp(inputs: int, dim: int) -> nn.Sequential:
    """Linear inputs-64-1024-1024-dim with ReLU between (published for inputs = 2)."""
    return nn.Sequential(
        nn.Linear(inputs, 64),
        nn.ReLU(),
        nn.Linear(64, 1024),
        nn.ReLU(),
        nn.Linear(1024, 1024),
        nn.ReLU(),
        nn.Linear(1024, dim),
    )


class FourierLocationEncoder(nn.Module):
    """Sinusoids of several wavelengths over metres east and north, then an MLP.

    An MLP alone learns the coarse shape of its inputs first and detail late (spectral bias; Tancik et al. 2020,
    "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains"; Mai et al. 2020,
    "Space2Vec", for three directions 120 degrees apart).

    Shape:
        z: (N, 2) z-scores, lng first -> (N, dim).
    """

    directions: Tensor
    wave_numbers: Tensor
    metres: Tensor

    def __init__(self, dim: int, normalizer: Normalizer, min_m: float, max_m: float, scales: int = 16) -> None:
        super().__init__()
        steps = torch.arange(scales, dtype=torch.float64) / max(scales - 1, 1)
        wavelengths = min_m * (max_m / min_m) ** steps
        angles = torch.arange(3, dtype=torch.float64) * (2.0 * math.pi / 3.0)
        east = normalizer.lng_std * METRES_PER_DEGREE * math.cos(math.radians(normalizer.lat_mean))
        north = normalizer.lat_std * METRES_PER_DEGREE
        self.register_buffer("metres", torch.tensor([east, north], dtype=torch.float32), persistent=False)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()]).float(), persistent=False)
        self.register_buffer("wave_numbers", (2.0 * math.pi / wavelengths).float(), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(6 * scales + 2, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, dim)
        )

    def forward(self, z: Tensor) -> Tensor:
        along = (z * self.metres) @ self.directions  # (N, 3) metres
        phase = (along.unsqueeze(-1) * self.wave_numbers).flatten(1)
        out: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos(), z], dim=-1))
        return out


def build_location_encoder(dim: int, settings: ModelSettings) -> nn.Module:
    """The location encoder that ``settings`` names, with vectors of ``dim`` (not yet of unit length)."""
    if settings.location_encoder == "fourier":
        return FourierLocationEncoder(dim, settings.normalizer, settings.fourier_min_m, settings.fourier_max_m)
    return _mlp(2, dim)
