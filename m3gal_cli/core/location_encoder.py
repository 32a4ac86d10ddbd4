"""Place in: one unit vector a coordinate pair."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from m3gal_cli.core.model_settings import ModelSettings, Normalizer

METRES_PER_DEGREE = 111_195.08  # of latitude, on a sphere of the Earth's mean radius
SCALES = 16


def wavelengths(min_m: float, max_m: float, scales: int) -> Tensor:
    """Shape: (scales,) metres, float64, from the shortest to the longest by equal ratios."""
    steps = torch.arange(scales, dtype=torch.float64) / max(scales - 1, 1)
    return min_m * (max_m / min_m) ** steps


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

    def __init__(self, dim: int, normalizer: Normalizer, min_m: float, max_m: float, scales: int = SCALES) -> None:
        super().__init__()
        angles = torch.arange(3, dtype=torch.float64) * (2.0 * math.pi / 3.0)
        east = normalizer.lng_std * METRES_PER_DEGREE * math.cos(math.radians(normalizer.lat_mean))
        north = normalizer.lat_std * METRES_PER_DEGREE
        self.register_buffer("metres", torch.tensor([east, north], dtype=torch.float32), persistent=False)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()]).float(), persistent=False)
        wave_numbers = 2.0 * math.pi / wavelengths(min_m, max_m, scales)
        self.register_buffer("wave_numbers", wave_numbers.float(), persistent=False)
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


def location_recipe(dim: int, settings: ModelSettings) -> dict[str, Any]:
    """What rebuilds that encoder from its weights elsewhere: the layers' names in their order, and the constants."""
    if settings.location_encoder != "fourier":
        return {"kind": "mlp", "dim": dim, "layers": ["0", "2", "4", "6"], "activation": "relu"}
    recipe = {"kind": "fourier", "dim": dim, "layers": ["mlp.0", "mlp.2", "mlp.4"], "activation": "gelu"}
    lengths = wavelengths(settings.fourier_min_m, settings.fourier_max_m, SCALES).tolist()
    constants = {"metres_per_degree": METRES_PER_DEGREE, "directions_deg": [0.0, 120.0, 240.0]}
    return recipe | constants | {"wavelengths_m": lengths}
