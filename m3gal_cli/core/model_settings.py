"""What a checkpoint must know besides its weights to embed a text or a place the same way again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

POOLINGS = ("pooler", "cls", "mean")
LOCATION_ENCODERS = ("mlp", "fourier")


@dataclass(frozen=True)
class Normalizer:
    """z-score of coordinates in degrees; computed in float64, handed on as float32."""

    lng_mean: float
    lng_std: float
    lat_mean: float
    lat_std: float

    @classmethod
    def fit(cls, lng: ArrayLike, lat: ArrayLike) -> Normalizer:
        """Mean and population standard deviation of a table (a table of one place gets a spread of 0.01 degrees)."""
        x, y = np.asarray(lng, np.float64), np.asarray(lat, np.float64)
        # Where all are equal, rounding of the mean may leave a spread of 1e-14, which would blow up every other place.
        x_std, y_std = (float(v.std()) if np.ptp(v) > 0 else 0.01 for v in (x, y))
        return cls(float(x.mean()), x_std, float(y.mean()), y_std)

    def __call__(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        """Shape: (N,), (N,) degrees -> (N, 2) z-scores, lng first."""
        x = (np.asarray(lng, np.float64) - self.lng_mean) / self.lng_std
        y = (np.asarray(lat, np.float64) - self.lat_mean) / self.lat_std
        return np.stack([x, y], axis=-1).astype(np.float32)


# The published code carries these constants (OSM-HZ, 100k views of Hangzhou); its checkpoints do not.
PUBLISHED_NORMALIZER = Normalizer(120.22537389613467, 0.13344521724616895, 30.265117058856283, 0.10241391371600085)


@dataclass(frozen=True)
class ModelSettings:
    """How texts and places enter the model.

    Args:
        pooling: ``pooler`` (published), ``cls`` or ``mean`` over the tokens that are not padding.
        append_sep: whether a text ends with [SEP]; the published tokenizer leaves it out.
        max_length: tokens a text is cut at, special tokens included; no more than the encoder has positions.
        query_prefix, passage_prefix: put before a query and before a POI's text.
        location_encoder: ``mlp`` (published) or ``fourier``.
        fourier_min_m, fourier_max_m: shortest and longest wavelength of the ``fourier`` encoder, metres.
        location_weight: w of the score q.k + w q.g' (published: 1); POI vectors are k + w g'.
        normalizer: z-score of the coordinates.
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
    normalizer: Normalizer = field(default=PUBLISHED_NORMALIZER)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> ModelSettings:
        return cls(**{**row, "normalizer": Normalizer(**row["normalizer"])})
