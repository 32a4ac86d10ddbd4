"""Generator of a POI table with hierarchical addresses, and of an index with realistic vectors for it.

The encoder encodes a few rows of every street. The text vector of any other row is that of an encoded row of its
street, plus the difference of two encoded rows of another street, plus noise. The difference imitates the effect of
another house number or building. So neighbours are as close, and streets as far apart, as the encoder puts them. The
places of a street lie on a line, and their location vectors come from the location encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.core.text_encoder import build_text_model, load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import small_config, train_tokenizer
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_export import open_or_export
from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.index.builder import IndexSources, open_or_build
from m3gal_cli.index.index import Index
from m3gal_cli.index.segment import Segment

STREETS, ENCODED_PER_STREET, NUMBERS, LOCATIONS_PER_STREET = 1500, 4, 200, 40
DISTRICTS = ["西湖区", "上城区", "拱墅区", "滨江区", "萧山区", "余杭区", "临平区", "钱塘区", "富阳区", "临安区"]
FIRST = "莫干文三古墩天目环城解放延安体育庆春凤起建国中山江南滨盛网商钱江秋涛"
SECOND = "山路西东北安平和兴明华康宁泰丰盛远达新春"
KINDS = ["路", "街", "巷", "大道"]
COMPOUNDS = ["花园", "公寓", "小区", "新村", "苑", "广场", "大厦", "家园"]
NOISE = 0.05


@dataclass
class City:
    """A POI table of N rows with its index, and queries for some of the rows.

    Shape:
        queries: (Q, D), vectors of ``query_texts``; gold: (Q,), row of the POI of each query.

    Attributes:
        index: The index.
        table: The POI table.
        encoder: Encoder of queries, texts and locations.
        query_texts: Q query texts.
        encode_int8: Function that encodes queries by onnx-int8.
        queries: Vectors of the queries.
        gold: Row numbers.
    """

    index: Index
    table: Path
    encoder: WideningEncoder
    query_texts: list[str]
    encode_int8: Callable[[list[str]], Vectors]
    queries: Vectors
    gold: NDArray[np.int64]

    @property
    def segment(self) -> Segment:
        """Return the only segment of the index."""
        (segment,) = self.index.segments
        return segment


class WideningEncoder:
    """An encoder with vectors embedded into a wider space by an orthogonal map, which keeps all products."""

    def __init__(self, checkpoint: Checkpoint, dim: int) -> None:
        self.checkpoint, self.inner, self.dim = checkpoint, TorchEncoder(checkpoint), dim
        inner_dim = checkpoint.model.dim
        rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((dim, dim)))[0][:inner_dim]
        self.map: Vectors | None = None if dim == inner_dim else rotation.astype(np.float32)

    def encode_queries(self, texts: list[str]) -> Vectors:
        """Return vectors of queries. Shape: n texts -> (n, dim)."""
        return self._wide(self.inner.encode_queries(texts))

    def encode_poi_texts(self, texts: list[str]) -> Vectors:
        """Return vectors of POI texts. Shape: n texts -> (n, dim)."""
        return self._wide(self.inner.encode_poi_texts(texts))

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return vectors of locations. Shape: (n,) -> (n, dim)."""
        return self._wide(self.inner.encode_locations(lng, lat))

    def int8(self, folder: Path) -> Callable[[list[str]], Vectors]:
        """Export the query encoder to onnx-int8 in ``folder``, and return a function that encodes queries with it."""
        encoder = open_or_export(lambda: self.checkpoint, Fingerprint((), {}), folder, True, lambda text: None)
        return lambda texts: self._wide(encoder.encode_queries(texts))

    def _wide(self, vectors: Vectors) -> Vectors:
        return vectors if self.map is None else vectors @ self.map


def new_checkpoint(text_encoder: str | None, texts: list[str]) -> Checkpoint:
    """Return a model with this text encoder, or a small random one, and a random location encoder."""
    settings = ModelSettings(normalizer=Normalizer(120.2, 0.15, 30.25, 0.1))
    torch.manual_seed(0)
    if text_encoder:
        settings = ModelSettings(normalizer=settings.normalizer, query_prefix="query: ", passage_prefix="passage: ")
        return Checkpoint(M3gal(load_text_model(text_encoder), settings), load_tokenizer(text_encoder))
    tokenizer = train_tokenizer(texts, 2000)
    return Checkpoint(M3gal(build_text_model(small_config(len(tokenizer), 64, 2, 2, 0.0)), settings), tokenizer)


def addresses(count: int) -> pd.DataFrame:
    """Return poi_id, address, lng, lat and street of ``count`` POIs; the streets take turns."""
    generator = np.random.default_rng(0)
    pairs = [a + b for a in FIRST for b in SECOND]
    names = [pairs[i % len(pairs)] + KINDS[(i // len(pairs)) % len(KINDS)] for i in range(STREETS)]
    row = np.arange(count)
    street, turn = row % STREETS, row // STREETS
    number, building = turn * 7 % NUMBERS + 1, turn // NUMBERS + 1
    west, south = generator.uniform(119.9, 120.5, STREETS), generator.uniform(30.1, 30.4, STREETS)
    along = (number % LOCATIONS_PER_STREET)[:, None] * 2e-4 * generator.standard_normal((STREETS, 2))[street]
    texts = [
        f"浙江省杭州市{DISTRICTS[s % len(DISTRICTS)]}{names[s]}{n}号{pairs[(s * 31 + n) % len(pairs)]}"
        f"{COMPOUNDS[(s + n) % len(COMPOUNDS)]}{b}幢"
        for s, n, b in zip(street.tolist(), number.tolist(), building.tolist(), strict=True)
    ]
    places = {"lng": (west[street] + along[:, 0]).round(6), "lat": (south[street] + along[:, 1]).round(6)}
    return pd.DataFrame({"poi_id": row, "address": texts, **places, "street": street})


def query_texts_of(texts: list[str]) -> list[str]:
    """Return queries for these addresses: the text from the street on, every third without the building."""
    tails = [t.split("区", 1)[-1] for t in texts]
    return [t if i % 3 else t.rsplit("号", 1)[0] + "号" for i, t in enumerate(tails)]


def build(folder: Path, options: argparse.Namespace, log: Callable[[str], None]) -> City:
    """Create the table and the index in ``folder``, or reuse those of an earlier run."""
    pois = addresses(options.pois)
    encoded = min(STREETS * ENCODED_PER_STREET, len(pois))
    checkpoint = new_checkpoint(options.text_encoder, pois["address"].iloc[:encoded].tolist())
    encoder = WideningEncoder(checkpoint, options.dim or checkpoint.model.dim)
    log(f"encoding {encoded:,} addresses of {len(pois):,}")
    sample = encoder.encode_poi_texts(pois["address"].iloc[:encoded].tolist())
    places = np.unique(pois[["lng", "lat"]].to_numpy(), axis=0)
    log(f"encoding {len(places):,} places")
    location_vectors = encoder.encode_locations(places[:, 0], places[:, 1])
    table, path = folder / "pois.csv", folder / "index"
    own = pois.drop(columns="street")
    own.to_csv(table, index=False)
    fingerprints = Fingerprint((), {"model": "generated"}), Fingerprint((), {"rows": len(pois)})
    source: Any = CityEncoder(pois, sample, places, location_vectors)
    index = open_or_build(path, IndexSources(*fingerprints, lambda: (own, None), lambda: source), log, lambda *_: None)
    assert index is not None
    gold = np.sort(np.random.default_rng(5).choice(encoded, min(options.queries, encoded), replace=False))
    query_texts = query_texts_of(pois["address"].iloc[gold].tolist())
    return City(index, table, encoder, query_texts, encoder.int8(folder), encoder.encode_queries(query_texts), gold)


class CityEncoder:
    """Encoder of the POIs of a table into their generated vectors.

    Args:
        pois: The POI table.
        sample: Text vectors of the first rows.
        places: Distinct locations, ascending. Shape: (L, 2).
        location_vectors: Vectors of the locations. Shape: (L, D).
    """

    device = "cpu"

    def __init__(
        self, pois: pd.DataFrame, sample: Vectors, places: NDArray[np.float64], location_vectors: Vectors
    ) -> None:
        self.dim, self._sample, self._locations = sample.shape[1], sample, location_vectors
        self._row = {text: row for row, text in enumerate(pois["address"])}
        self._places = places[:, 0] + 1j * places[:, 1]  # complex numbers are sorted by both parts

    def encode_poi_texts(self, texts: list[str], progress: Any = None) -> Vectors:
        """Return the vectors of addresses of the table. Shape: n texts -> (n, dim)."""
        return text_vectors(np.array([self._row[text] for text in texts]), self._sample)

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return the vectors of locations of the table. Shape: (n,) -> (n, dim)."""
        return self._locations[np.searchsorted(self._places, np.asarray(lng) + 1j * np.asarray(lat))]


def text_vectors(rows: NDArray[np.int64], sample: Vectors) -> Vectors:
    """Return text vectors of consecutive rows, reproducible by the first row. Shape: (n,) -> (n, D)."""
    encoded, streets = len(sample), min(STREETS, len(sample))
    generator = np.random.default_rng(int(rows[0]) + 1)
    out = sample[np.minimum(rows, encoded - 1)].copy()
    others = rows >= encoded
    count = int(others.sum())
    if count:
        per_street = encoded // streets
        own = rows[others] % streets + streets * generator.integers(0, per_street, count)
        other = generator.integers(0, streets, count)
        one, two = (other + streets * generator.integers(0, per_street, count) for _ in range(2))
        vectors = sample[own] + sample[one] - sample[two]
        vectors += NOISE / np.sqrt(sample.shape[1]) * generator.standard_normal(vectors.shape, np.float32)
        out[others] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return out
