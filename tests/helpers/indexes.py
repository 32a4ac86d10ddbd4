"""Small indexes: of a POI table and a toy encoder, or of given vectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Encoder
from m3gal_cli.encoders.vector_shards import shard_path
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.builder import IndexSources, open_or_build
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import SearchResult, inner_products
from m3gal_cli.index.segment import Segment
from m3gal_cli.index.segment_build import Worker
from tests.helpers.cli import file_contents
from tests.helpers.toy_models import ToyEncoder

Matrix = NDArray[np.float32]
ALONE = Worker()


class GivenVectors(ToyEncoder):
    """Encoder whose POI vectors are given; the address of a POI is its row number."""

    def __init__(self, vectors: Matrix) -> None:
        super().__init__(vectors.shape[1])
        self.given = vectors

    def encode_poi_texts(self, texts: Sequence[str], progress: Any = None) -> Matrix:
        return self.given[[int(text) for text in texts]]

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Matrix:
        return np.zeros((np.size(lng), self.width), np.float32)

    def encode_queries(self, texts: Sequence[str], progress: Any = None) -> Matrix:
        """Return a unit vector close to that of the POI whose row number is the text."""
        generator = np.random.default_rng(len(texts))
        rows = np.array([int(text) for text in texts]) % len(self.given)
        return unit_rows(self.given[rows] + 0.02 * generator.standard_normal((len(texts), self.dim)))


def unit_rows(matrix: NDArray[Any]) -> Matrix:
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return (matrix / norms).astype(np.float32)


def poi_table(count: int, seed: int = 0) -> pd.DataFrame:
    """Distinct POIs all over the Earth."""
    generator = np.random.default_rng(seed)
    lng, lat = generator.uniform(-180, 180, count), np.degrees(np.arcsin(generator.uniform(-1, 1, count)))
    numbers = np.arange(count)
    return pd.DataFrame({"poi_id": numbers, "address": numbers.astype(str), "lng": lng, "lat": lat})


def index_sources(pois: pd.DataFrame, encoder: Encoder, model: Any = "model", table: Any = "table") -> IndexSources:
    """Sources whose fingerprints are names only."""
    fingerprints = Fingerprint((), {"name": model}), Fingerprint((), {"name": table})
    return IndexSources(*fingerprints, lambda: (pois, None), lambda: encoder)


def build(
    path: Path,
    sources: IndexSources,
    shard_rows: int = 8192,
    messages: list[str] | None = None,
    worker: Worker = ALONE,
) -> Index | None:
    """``open_or_build`` without a progress display."""
    log = (messages if messages is not None else []).append
    return open_or_build(path, sources, log, lambda done, total: None, worker, shard_rows)


def index_of(path: Path, pois: pd.DataFrame, encoder: Encoder, shard_rows: int = 8192) -> Index:
    index = build(path, index_sources(pois, encoder), shard_rows)
    assert index is not None
    return index


def index_contents(path: Path) -> dict[str, bytes]:
    """The content of every file of an index; the manifest without times and random id, and with them the generation."""
    contents = file_contents(path)
    manifest = json.loads(contents["manifest.json"])
    kept = {name: value for name, value in manifest.items() if name not in ("id", "created", "updated")}
    return contents | {"manifest.json": json.dumps(kept).encode()}


def interrupt(path: Path, *missing_shards: int) -> Path:
    """Turn an index of one segment into an interrupted build; return the folder of the build."""
    folder = only_segment(Index(path)).path
    (path / "manifest.json").unlink()
    for left in folder.glob("*.1.np*"):  # states and document frequencies are written at the end
        left.unlink()
    (folder / "segment.json").rename(folder / "building.json")
    for number in missing_shards:
        shard_path(folder, number).unlink()
    return folder.rename(path / "building")


def only_segment(index: Index) -> Segment:
    """The segment of an index that was not updated."""
    (segment,) = index.segments
    return segment


def segment_of(path: Path, pois: pd.DataFrame, encoder: Encoder, shard_rows: int = 8192) -> Segment:
    return only_segment(index_of(path, pois, encoder, shard_rows))


def segment_of_vectors(path: Path, vectors: Matrix, shard_rows: int = 8192) -> Segment:
    return only_segment(index_of_vectors(path, vectors, shard_rows))


def index_of_vectors(path: Path, vectors: Matrix, shard_rows: int = 8192) -> Index:
    """The index of given vectors; its POIs lie all over the Earth."""
    return index_of(path, poi_table(len(vectors)), GivenVectors(vectors), shard_rows)


def clustered_vectors(count: int, dim: int, directions: int, seed: int = 0) -> Matrix:
    """Vectors around 40 centres that vary along few directions, as those of text encoders do."""
    generator = np.random.default_rng(seed)
    span = np.linalg.qr(generator.standard_normal((dim, directions)))[0].T
    centres = generator.standard_normal((40, directions)) @ span
    vectors = centres[generator.integers(0, 40, count)] + 0.4 * generator.standard_normal((count, directions)) @ span
    vectors += 0.02 * generator.standard_normal((count, dim))
    return unit_rows(vectors).astype(np.float16).astype(np.float32)


def assert_same_as_sorting(
    result: SearchResult,
    index: Index | Segment,
    queries: Matrix,
    k: int,
    filters: Sequence[GeoFilter | None] | None = None,
) -> None:
    """Compare a result with sorting the scores of all live rows that pass the filter; ties are ordered by row."""
    vectors = index.vectors(np.arange(len(index.lng)))
    live = np.ones(len(index.lng), bool) if index.live is None else index.live
    assert (result.rows.dtype, result.scores.dtype) == (np.int64, np.float32)
    for i, query in enumerate(queries):
        geo_filter = filters[i] if filters is not None else None
        rows = np.arange(len(live)) if geo_filter is None else geo_filter.rows(index.lng, index.lat)
        rows = rows[live[rows]]
        scores = inner_products(vectors[rows], query)
        float64 = vectors[rows].astype(np.float64) @ query.astype(np.float64)
        np.testing.assert_allclose(scores, float64, rtol=1e-4, atol=1e-5 * float(np.abs(query).sum()))
        ranked = sorted((-score, row) for row, score in zip(rows.tolist(), scores.tolist(), strict=True))[:k]
        padding = k - len(ranked)
        assert result.rows[i].tolist() == [row for _, row in ranked] + [-1] * padding
        assert result.scores[i].tolist() == [-score for score, _ in ranked] + [-np.inf] * padding
