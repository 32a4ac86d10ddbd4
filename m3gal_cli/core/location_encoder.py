"""Location encoders: from z-scores of coordinates to vectors, which ``M3gal`` normalises."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from m3gal_cli.core.model_settings import ModelSettings, Normalizer

METRES_PER_DEGREE = 111_195.08  # latitude, on a sphere with the Earth's mean radius
DIRECTIONS_DEG = (0.0, 120.0, 240.0)
WAVELENGTHS = 16  # per direction


def wavelengths(min_m: float, max_m: float) -> Tensor:
    """Return min_m (max_m / min_m)^(s / (S - 1)) metres, s = 0 .. S - 1, S = ``WAVELENGTHS``. Shape: (S,) float64."""
    steps = torch.arange(WAVELENGTHS, dtype=torch.float64) / (WAVELENGTHS - 1)
    return min_m * (max_m / min_m) ** steps


class FourierLocationEncoder(nn.Module):
    """Multi-scale sinusoids of the metres east and north of the mean point, then an MLP.

    The metres are e = z_lng · lng_std · METRES_PER_DEGREE · cos(lat_mean) and n = z_lat · lat_std · METRES_PER_DEGREE.
    For each direction α and wavelength w the phase is p = 2π (e cos α + n sin α) / w. The MLP reads sin p, cos p and z.
    An MLP of z alone learns fine detail late (spectral bias; Tancik et al. 2020, "Fourier Features Let Networks Learn
    High Frequency Functions in Low Dimensional Domains"). The three directions, 120 degrees apart, are those of Mai et
    al. 2020, "Multi-Scale Representation Learning for Spatial Feature Distributions using Grid Cells" (Space2Vec).

    Args:
        dim: Width of the vectors.
        normalizer: Z-score of the inputs.
        min_m: Shortest wavelength in metres.
        max_m: Longest wavelength in metres.
    """

    directions: Tensor
    wave_numbers: Tensor
    metres: Tensor

    def __init__(self, dim: int, normalizer: Normalizer, min_m: float, max_m: float) -> None:
        super().__init__()
        angles = torch.deg2rad(torch.tensor(DIRECTIONS_DEG, dtype=torch.float64))
        east = normalizer.lng_std * METRES_PER_DEGREE * math.cos(math.radians(normalizer.lat_mean))
        north = normalizer.lat_std * METRES_PER_DEGREE
        self.register_buffer("metres", torch.tensor([east, north], dtype=torch.float32), persistent=False)
        self.register_buffer("directions", torch.stack([angles.cos(), angles.sin()]).float(), persistent=False)
        wave_numbers = 2.0 * math.pi / wavelengths(min_m, max_m)
        self.register_buffer("wave_numbers", wave_numbers.float(), persistent=False)
        inputs = 2 * len(DIRECTIONS_DEG) * WAVELENGTHS + 2
        self.mlp = nn.Sequential(nn.Linear(inputs, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(), nn.Linear(512, dim))

    def forward(self, z: Tensor) -> Tensor:
        """Encode z-scores. Shape: (N, 2), lng first -> (N, dim)."""
        along = (z * self.metres) @ self.directions  # (N, 3) metres
        phase = (along.unsqueeze(-1) * self.wave_numbers).flatten(1)
        out: Tensor = self.mlp(torch.cat([phase.sin(), phase.cos(), z], dim=-1))
        return out


def build_location_encoder(dim: int, settings: ModelSettings) -> nn.Module:
    """Build the location encoder of ``settings``: Fourier, or the published MLP 2-64-1024-1024-dim with ReLU."""
    if settings.location_encoder == "fourier":
        return FourierLocationEncoder(dim, settings.normalizer, settings.fourier_min_m, settings.fourier_max_m)
    layers: list[nn.Module] = []
    for inputs, outputs in ((2, 64), (64, 1024), (1024, 1024), (1024, dim)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def location_config(dim: int, settings: ModelSettings) -> dict[str, Any]:
    """Return the layer names in order, the activation and the constants that rebuild the encoder without m3gal."""
    if settings.location_encoder != "fourier":
        return {"kind": "mlp", "dim": dim, "layers": ["0", "2", "4", "6"], "activation": "relu"}
    config = {"kind": "fourier", "dim": dim, "layers": ["mlp.0", "mlp.2", "mlp.4"], "activation": "gelu"}
    lengths = wavelengths(settings.fourier_min_m, settings.fourier_max_m).tolist()
    constants = {"metres_per_degree": METRES_PER_DEGREE, "directions_deg": list(DIRECTIONS_DEG)}
    return config | constants | {"wavelengths_m": lengths}
