"""Small indexes to search in: of a table and the toy embedder, or of given vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.index import builder as bulk
from m3gal_cli.index.builder import Share, Sources, open_or_build
from m3gal_cli.index.index import Index
from tests.helpers.toy_models import ToyEncoder

ALONE = Share()


class Given(ToyEncoder):
    """Gives vectors that are known: the text of a POI is its number among them."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        super().__init__(vectors.shape[1])
        self.given = vectors

    def poi_texts(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return self.given[[int(text) for text in texts]]

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        return np.zeros((np.size(lng), self.width), np.float32)


def table_of(count: int, seed: int = 0) -> pd.DataFrame:
    """POIs all over the Earth, none like another."""
    draw = np.random.default_rng(seed)
    lng, lat = draw.uniform(-180, 180, count), np.degrees(np.arcsin(draw.uniform(-1, 1, count)))
    numbers = np.arange(count)
    return pd.DataFrame({"poi_id": numbers, "address": numbers.astype(str), "lng": lng, "lat": lat})


def sources_of(pois: pd.DataFrame, encoder: TorchEncoder, model: Any = "model", table: Any = "table") -> Sources:
    """Sources whose identities are names alone."""
    return Sources(Fingerprint((), {"name": model}), Fingerprint((), {"name": table}), lambda: pois, lambda: encoder)


def build(
    path: Path, sources: Sources, shard_rows: int, said: list[str] | None = None, share: Share = ALONE
) -> Index | None:
    """``open_or_build`` with shards of so many rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "SHARD_ROWS", shard_rows)
        patch.setattr(bulk, "POLL_S", 0.01)
        return open_or_build(path, sources, (said if said is not None else []).append, lambda done, total: None, share)


def index_of(path: Path, pois: pd.DataFrame, encoder: TorchEncoder, shard_rows: int = 8192) -> Index:
    """The index of a table."""
    index = build(path, sources_of(pois, encoder), shard_rows)
    assert index is not None
    return index


def index_of_vectors(path: Path, vectors: NDArray[np.float32], shard_rows: int = 8192) -> Index:
    """The index of given vectors, somewhere on the Earth."""
    return index_of(path, table_of(len(vectors)), Given(vectors), shard_rows)
