"""Indexes of given vectors, written as bulk encoding writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.index import builder as bulk
from m3gal_cli.index.builder import Sources, open_or_build
from m3gal_cli.index.index import Index

MakeIndex = Callable[..., Index]


class GivenVectors:
    """An embedder whose POI vectors are given, in the order of the table."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors, self.dim = vectors, vectors.shape[1]

    def poi_texts(self, texts: list[str], progress: object = None) -> np.ndarray:
        return self.vectors[[int(t) for t in texts]]

    def locations(self, lng: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.zeros((len(lng), self.dim), np.float32)

    def queries(self, texts: list[str], progress: object = None) -> np.ndarray:
        """A vector near to that of the POI which the text's number names."""
        draw = np.random.default_rng(len(texts))
        rows = np.array([int(t) for t in texts]) % len(self.vectors)
        near = self.vectors[rows] + 0.02 * draw.standard_normal((len(texts), self.dim))
        return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def make_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeIndex:
    """Makes an index of vectors of shape (N, D); its POIs lie on a grid around (120, 30), and are named by row."""

    def make(vectors: np.ndarray, shard_rows: int = 8192, name: str = "index") -> Index:
        monkeypatch.setattr(bulk, "SHARD_ROWS", shard_rows)
        row = np.arange(len(vectors))
        columns = {
            "poi_id": row,
            "address": row.astype(str),
            "lng": 120 + row % 100 / 1000,
            "lat": 30 + row // 100 / 1e4,
        }
        fingerprint = Fingerprint((), {"name": name})
        sources = Sources(fingerprint, fingerprint, lambda: pd.DataFrame(columns), lambda: GivenVectors(vectors))  # type: ignore[arg-type, return-value]
        index = open_or_build(tmp_path / name, sources, lambda _: None, lambda *_: None)
        assert index is not None
        return index

    return make


def clustered(count: int, dim: int, directions: int, seed: int = 0) -> np.ndarray:
    """Vectors around a few centres that spread along few directions, and a little along all: as text encoders' do."""
    draw = np.random.default_rng(seed)
    span = np.linalg.qr(draw.standard_normal((dim, directions)))[0].T
    centres = draw.standard_normal((40, directions)) @ span
    vectors = centres[draw.integers(0, 40, count)] + 0.4 * draw.standard_normal((count, directions)) @ span
    vectors += 0.02 * draw.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
