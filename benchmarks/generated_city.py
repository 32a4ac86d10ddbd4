"""A generated database of hierarchical addresses, and vectors for it: a real encoder's on a sample, structured beyond.

Every street has a few rows that the encoder really encodes. Any other row takes one of them and adds the difference of
two such rows of another street, which is what another house number or building does to a vector, and a little noise in
all directions; so neighbours lie as close, and streets as far apart, as the encoder puts them. Places of a street lie
in a row, and their vectors are a location encoder's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.checkpoint import Checkpoint
from m3gal_cli.core.model_settings import ModelSettings, Normalizer
from m3gal_cli.core.text_encoder import build_text_model, load_text_model, load_tokenizer
from m3gal_cli.core.tiny_encoder import small_config, train_tokenizer
from m3gal_cli.encoders.encoder import TorchEncoder, Vectors
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.onnx_runtime import open_onnx
from m3gal_cli.index.builder import SHARD_ROWS
from m3gal_cli.index.index import FORMAT, MANIFEST, POIS, SHARDS, Index, rest_path, shard_path

STREETS, REAL, NUMBERS, PLACES_A_STREET = 1500, 4, 200, 40
DISTRICTS = ["西湖区", "上城区", "拱墅区", "滨江区", "萧山区", "余杭区", "临平区", "钱塘区", "富阳区", "临安区"]
FIRST = "莫干文三古墩天目环城解放延安体育庆春凤起建国中山江南滨盛网商钱江秋涛"
SECOND = "山路西东北安平和兴明华康宁泰丰盛远达新春"
KINDS = ["路", "街", "巷", "大道"]
COMPOUNDS = ["花园", "公寓", "小区", "新村", "苑", "广场", "大厦", "家园"]
NOISE = 0.05


@dataclass
class City:
    """Addresses, places and vectors of N POIs, and queries as typed for some of them.

    Shape:
        queries: (Q, D), gold: (Q,) rows of the POIs that they were made from.

    Args:
        quick: encodes queries by onnx-int8.
    """

    index: Index
    table: Path
    encoder: MappedEmbedder
    typed: list[str]
    quick: Callable[[list[str]], Vectors]
    queries: Vectors
    gold: NDArray[np.int64]


class MappedEmbedder:
    """A real encoder with its vectors laid into a wider space without changing any product."""

    def __init__(self, checkpoint: Checkpoint, dim: int) -> None:
        self.checkpoint, self.inner, self.dim = checkpoint, TorchEncoder(checkpoint), dim
        own = checkpoint.model.dim
        rotation = np.linalg.qr(np.random.default_rng(7).standard_normal((dim, dim)))[0][:own]
        self.map: Vectors | None = None if dim == own else rotation.astype(np.float32)

    def queries(self, texts: list[str]) -> Vectors:
        return self._wide(self.inner.queries(texts))

    def poi_texts(self, texts: list[str]) -> Vectors:
        return self._wide(self.inner.poi_texts(texts))

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        return self._wide(self.inner.locations(lng, lat))

    def quick(self, folder: Path) -> Callable[[list[str]], Vectors]:
        """What encodes queries by onnx-int8; ``folder`` keeps the exported encoder."""
        encoder = open_onnx(lambda: self.checkpoint, Fingerprint((), {}), folder, True, lambda text: None)
        return lambda texts: self._wide(encoder.queries(texts))

    def _wide(self, vectors: Vectors) -> Vectors:
        return vectors if self.map is None else vectors @ self.map


def new_checkpoint(text_encoder: str | None, texts: list[str]) -> Checkpoint:
    """A model of this text encoder, or of a small random one, with a random location encoder."""
    settings = ModelSettings(normalizer=Normalizer(120.2, 0.15, 30.25, 0.1))
    torch.manual_seed(0)
    if text_encoder:
        settings = ModelSettings(normalizer=settings.normalizer, query_prefix="query: ", passage_prefix="passage: ")
        return Checkpoint(M3gal(load_text_model(text_encoder), settings), load_tokenizer(text_encoder))
    tokenizer = train_tokenizer(texts, 2000)
    return Checkpoint(M3gal(build_text_model(small_config(len(tokenizer), 64, 2, 2, 0.0)), settings), tokenizer)


def addresses(count: int) -> pd.DataFrame:
    """poi_id, address, lng, lat and street of ``count`` POIs; the first rows hold REAL of every street."""
    draw = np.random.default_rng(0)
    pairs = [a + b for a in FIRST for b in SECOND]
    names = [pairs[i % len(pairs)] + KINDS[(i // len(pairs)) % len(KINDS)] for i in range(STREETS)]
    row = np.arange(count)
    street, turn = row % STREETS, row // STREETS
    number, building = turn * 7 % NUMBERS + 1, turn // NUMBERS + 1
    west, south = draw.uniform(119.9, 120.5, STREETS), draw.uniform(30.1, 30.4, STREETS)
    along = (number % PLACES_A_STREET)[:, None] * 2e-4 * draw.standard_normal((STREETS, 2))[street]
    texts = [
        f"浙江省杭州市{DISTRICTS[s % len(DISTRICTS)]}{names[s]}{n}号{pairs[(s * 31 + n) % len(pairs)]}"
        f"{COMPOUNDS[(s + n) % len(COMPOUNDS)]}{b}幢"
        for s, n, b in zip(street.tolist(), number.tolist(), building.tolist(), strict=True)
    ]
    places = {"lng": (west[street] + along[:, 0]).round(6), "lat": (south[street] + along[:, 1]).round(6)}
    return pd.DataFrame({"poi_id": row, "address": texts, **places, "street": street})


def typed_queries(texts: list[str]) -> list[str]:
    """What somebody may type for these addresses: the tail from the street on, some without the building."""
    cut = [t.split("区", 1)[-1] for t in texts]
    return [t if i % 3 else t.rsplit("号", 1)[0] + "号" for i, t in enumerate(cut)]


def build(folder: Path, options: argparse.Namespace, log: Callable[[str], None]) -> City:
    """Make the city in ``folder``, as an index with all its vectors."""
    pois = addresses(options.pois)
    real = min(STREETS * REAL, len(pois))
    checkpoint = new_checkpoint(options.text_encoder, pois["address"].iloc[:real].tolist())
    encoder = MappedEmbedder(checkpoint, options.dim or checkpoint.model.dim)
    log(f"encoding {real:,} addresses of {len(pois):,}")
    sample = encoder.poi_texts(pois["address"].iloc[:real].tolist())
    places, code = np.unique(pois[["lng", "lat"]].to_numpy(), axis=0, return_inverse=True)
    log(f"encoding {len(places):,} places")
    where = encoder.locations(places[:, 0], places[:, 1])
    table, path = folder / "pois.csv", folder / "index"
    if not (path / MANIFEST).exists():
        write_index(pois, sample, (where, code.reshape(-1)), table, path)
    gold = np.sort(np.random.default_rng(5).choice(real, min(options.queries, real), replace=False))
    typed = typed_queries(pois["address"].iloc[gold].tolist())
    return City(Index(path), table, encoder, typed, encoder.quick(folder), encoder.queries(typed), gold)


def write_index(
    pois: pd.DataFrame, sample: Vectors, where: tuple[Vectors, NDArray[np.int64]], table: Path, path: Path
) -> None:
    """The table, and the index with all its vectors; ``where``: those of places, and which of them a row is at."""
    pois.drop(columns="street").to_csv(table, index=False)
    (path / SHARDS).mkdir(parents=True)
    pq.write_table(pa.Table.from_pandas(pois.drop(columns="street"), preserve_index=False), path / POIS)
    largest = rest = 0.0
    for first in range(0, len(pois), SHARD_ROWS):
        rows = np.arange(first, min(first + SHARD_ROWS, len(pois)))
        vectors = text_vectors(rows, sample) + where[0][where[1][rows]]
        rounded = vectors.astype(np.float16)
        np.save(shard_path(path, first // SHARD_ROWS), rounded)
        left = (vectors - rounded).astype(np.float16)
        np.save(rest_path(path, first // SHARD_ROWS), left)
        largest = max(largest, float(np.linalg.norm(vectors, axis=1).max()) * 1.001)
        rest = max(rest, float(np.linalg.norm(left.astype(np.float32), axis=1).max()) * 1.001)
    manifest: dict[str, Any] = {"format": FORMAT, "rows": len(pois), "dim": sample.shape[1], "shard_rows": SHARD_ROWS}
    manifest |= {"largest_norm": largest, "largest_rest": rest}
    manifest |= {"model": {"sha256": "generated"}, "table": {"sha256": f"{len(pois)}"}}
    (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def text_vectors(rows: NDArray[np.int64], sample: Vectors) -> Vectors:
    """Text vectors of these rows; the same for the same rows in whatever company. Shape: (n,) -> (n, D)."""
    real, streets = len(sample), min(STREETS, len(sample))
    draw = np.random.default_rng(int(rows[0]) + 1)
    out = sample[np.minimum(rows, real - 1)].copy()
    beyond = rows >= real
    count = int(beyond.sum())
    if count:
        times = real // streets
        own = rows[beyond] % streets + streets * draw.integers(0, times, count)
        other = draw.integers(0, streets, count)
        one, two = (other + streets * draw.integers(0, times, count) for _ in range(2))
        moved = sample[own] + sample[one] - sample[two]
        moved += NOISE / np.sqrt(sample.shape[1]) * draw.standard_normal(moved.shape, np.float32)
        out[beyond] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return out
