"""Settings that a checkpoint stores beside its weights, and that decide how texts and locations are encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Normalizer:
    """Z-score of coordinates in degrees; computed in float64, returned as float32."""

    lng_mean: float
    lng_std: float
    lat_mean: float
    lat_std: float

    @classmethod
    def fit(cls, lng: ArrayLike, lat: ArrayLike) -> Normalizer:
        """Return the mean and population standard deviation of a table. Equal values get 0.01 degrees."""
        x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
        # By rounding of the mean, equal values may have a deviation of 1e-14, and other locations huge z-scores.
        x_std, y_std = (float(v.std()) if np.ptp(v) > 0 else 0.01 for v in (x, y))
        return cls(float(x.mean()), x_std, float(y.mean()), y_std)

    def __call__(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        """Return z-scores. Shape: (N,), (N,) degrees -> (N, 2), lng first."""
        x = (np.asarray(lng, np.float64) - self.lng_mean) / self.lng_std
        y = (np.asarray(lat, np.float64) - self.lat_mean) / self.lat_std
        return np.stack([x, y], axis=-1).astype(np.float32)


# Constants of the published code (OSM-HZ, 100k views of Hangzhou); its checkpoints do not store them.
PUBLISHED_NORMALIZER = Normalizer(120.22537389613467, 0.13344521724616895, 30.265117058856283, 0.10241391371600085)


@dataclass(frozen=True)
class ModelSettings:
    """Settings of the text and location encoders.

    Args:
        pooling: ``pooler`` (published), ``cls`` or ``mean`` over the tokens without padding.
        append_sep: End token ids with [SEP]; the published tokenizer does not add it.
        max_length: Maximum number of tokens with special tokens; longer texts are truncated.
        query_prefix: Text before each query.
        passage_prefix: Text before each POI text.
        location_encoder: ``mlp`` (published) or ``fourier``.
        fourier_min_m: Shortest wavelength of the ``fourier`` encoder in metres.
        fourier_max_m: Longest wavelength of the ``fourier`` encoder in metres.
        location_weight: w of the score q·k + w q·g' (published: 1); POI vectors are k + w g'.
        normalizer: Z-score of the coordinates.
    """

    pooling: str = "mean"
    append_sep: bool = True
    max_length: int = 64
    query_prefix: str = ""
    passage_prefix: str = ""
    location_encoder: str = "mlp"
    fourier_min_m: float = 200.0
    fourier_max_m: float = 200_000.0
    location_weight: float = 1.0
    normalizer: Normalizer = PUBLISHED_NORMALIZER

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ModelSettings:
        """Return the settings that ``to_json`` gave. Raises KeyError or TypeError for unknown or missing names."""
        return cls(**{**row, "normalizer": Normalizer(**row["normalizer"])})
