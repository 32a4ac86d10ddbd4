"""Measure ``eval-retrieval`` on a generated table: time, memory, and equality of the ranks with those of all scores.

    python benchmarks/evaluation.py --pois 300000 --queries 2000 --json
    python benchmarks/evaluation.py --pois 20000 --queries 2000 --against-all
    python benchmarks/evaluation.py --pois 3000000 --queries 200 --text-dir /tmp/texts

A synthetic encoder returns pseudo-random unit vectors that depend only on the text or the location, so the time is that
of scoring and counting. ``counting_gflops`` is the arithmetic of two float32 products of all queries with all POIs over
the time of counting. ``matmul_gflops`` is that of one product by torch, measured before and after. On a busy machine
CPU time is more reliable: ``share_of_matmul`` is the CPU time of the products alone over that of the whole counting,
which includes location vectors and exact scores.
``--against-all`` compares the ranks with those of the full float64 score matrix.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from command_line import create_parser, print_values
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.encoders.embedding_cache import EmbeddingCache
from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from m3gal_cli.evaluation.table_ranker import COUNTING, ENCODING

SHARED_TEXT, SHARED_LOCATION = 20, 3  # every 20th row shares its text with another, every 3rd its location
BLOCK_ROWS = 16384


class SyntheticEncoder(TorchEncoder):
    """Encoder of numbers in texts and of locations: their cosines at many random frequencies."""

    def __init__(self, dim: int) -> None:
        generator = np.random.default_rng(0)
        self.width, self.device = dim, torch.device("cpu")
        self.frequencies = generator.normal(0, 1e4, (2, dim)).astype(np.float32)
        self.phases = generator.uniform(0, 2 * np.pi, (3, dim)).astype(np.float32)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.width

    def encode_queries(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        """Return unit vectors of queries. Shape: n texts -> (n, dim)."""
        return self._unit(self._numbers(texts), 0)

    def encode_poi_texts(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        """Return unit vectors of POI texts. Shape: n texts -> (n, dim)."""
        out = np.empty((len(texts), self.width), np.float32)
        for start in range(0, len(texts), BLOCK_ROWS):
            part = texts[start : start + BLOCK_ROWS]
            out[start : start + len(part)] = self._unit(self._numbers(part), 1)
            if progress is not None:
                progress(start + len(part), len(texts))
        return out

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return unit vectors of locations. Shape: (n,) -> (n, dim)."""
        return self._unit(self.normalize_locations(lng, lat), 2)

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        """Return locations relative to the corner of the table. Shape: (n,) -> (n, 2)."""
        return np.stack([np.asarray(lng) - 120, np.asarray(lat) - 30], axis=-1).astype(np.float32)

    def _numbers(self, texts: Sequence[str]) -> NDArray[np.float32]:
        numbers = np.array([int(text.rpartition(" ")[2]) for text in texts])
        return np.stack([numbers % 4096 / 4096, numbers // 4096 / 4096], axis=-1).astype(np.float32)

    def _unit(self, points: NDArray[np.float32], phase: int) -> Vectors:
        out = np.cos(points @ self.frequencies + self.phases[phase])
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def generate(pois: int, queries: int) -> tuple[pd.DataFrame, list[Record]]:
    """Return a POI table in which some rows share texts, locations or both, and queries with one gold row each."""
    generator = np.random.default_rng(1)
    text, location = np.arange(pois), np.arange(pois)
    for column, every in ((text, SHARED_TEXT), (location, SHARED_LOCATION)):
        column[::every] = generator.integers(0, pois, len(column[::every]))
    side = int(np.ceil(np.sqrt(pois)))
    table = {"poi_id": np.arange(pois), "address": [f"generated place with an address of {i}" for i in text]}
    table |= {"lng": 120 + location % side / side, "lat": 30 + location // side / side}
    frame = pd.DataFrame(table)
    rows = frame.iloc[generator.choice(pois, queries, replace=False)]
    gold = [Passage(*row) for row in zip(rows["address"], rows["lng"], rows["lat"], strict=True)]
    return frame, [Record(f"query {i}", [passage], []) for i, passage in enumerate(gold)]


def matmul_gflops(queries: int, pois: int, dim: int, rounds: int = 5) -> tuple[float, float]:
    """Return the best GFLOP/s of a float32 product of queries with a block of POIs, by wall time and by CPU time."""
    a, b = torch.randn(queries, dim), torch.randn(min(pois, BLOCK_ROWS), dim)
    out, wall, cpu = torch.empty(len(a), len(b)), [], []
    for _ in range(rounds):
        start, start_cpu = time.perf_counter(), time.process_time()
        torch.mm(a, b.T, out=out)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    gflop = 2e-9 * len(a) * len(b) * dim
    return gflop / min(wall), gflop / min(cpu)


def reference_ranks(
    pois: pd.DataFrame, records: list[Record], encoder: SyntheticEncoder
) -> dict[str, NDArray[np.int64]]:
    """Return ranks by kind of score from the full score matrix in float64, equal for equal rows."""
    texts, locations = pd.factorize(pois["address"]), pd.factorize(pd.MultiIndex.from_frame(pois[["lng", "lat"]]))
    lng, lat = (np.array(column) for column in zip(*locations[1], strict=True))
    vectors = {
        "text": (encoder.encode_poi_texts(list(texts[1])), texts[0]),
        "location": (encoder.encode_locations(lng, lat), locations[0]),
    }
    ranks: dict[str, list[int]] = {"text": [], "location": [], "fused": []}
    for query, record in zip(encoder.encode_queries([r.query for r in records]), records, strict=True):
        positive = record.positives[0]
        gold = (pois["address"] == positive.text) & (pois["lng"] == positive.lng) & (pois["lat"] == positive.lat)
        scores = {kind: (v * query.astype(np.float64)).sum(axis=1)[codes] for kind, (v, codes) in vectors.items()}
        scores["fused"] = scores["text"] + scores["location"]
        for kind, own in scores.items():
            ranks[kind].append(int(gold_ranks(own[None], gold.to_numpy()[None])[0]))
    return {kind: np.array(own) for kind, own in ranks.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all measured values."""
    pois, records = generate(options.pois, options.queries)
    encoder = SyntheticEncoder(options.dim)
    ends: dict[str, tuple[float, float]] = {}  # wall and CPU time of the last progress report of each stage
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text_dir = options.text_dir and Path(options.text_dir)
    cache = EmbeddingCache(text_dir, budget=0 if text_dir else 1 << 40, log=lambda text: print(text, file=sys.stderr))

    def record_time(stage: str, done: int, total: int) -> None:
        ends[stage] = time.perf_counter(), time.process_time()

    matmul = [matmul_gflops(options.queries, options.pois, options.dim)]
    start, start_cpu = time.perf_counter(), time.process_time()
    retrieval_options = RetrievalOptions(depth=options.depth, texts=cache)
    evaluation = evaluate_retrieval(records, pois, encoder, retrieval_options, record_time)
    seconds = time.perf_counter() - start
    matmul.append(matmul_gflops(options.queries, options.pois, options.dim))
    encoded = ends.get(ENCODING, (start, start_cpu))
    counting, counting_cpu = (end - begin for end, begin in zip(ends[COUNTING], encoded, strict=True))
    gflop = 4e-9 * options.pois * options.queries * options.dim
    values: dict[str, Any] = {
        "pois": options.pois,
        "queries": options.queries,
        "dim": options.dim,
        "seconds": round(seconds, 2),
        "counting_s": round(counting, 2),
        "threads": torch.get_num_threads(),
        "counting_gflops": round(gflop / counting, 1),
        "matmul_gflops": [round(wall, 1) for wall, _ in matmul],
        "share_of_matmul": round(gflop / counting_cpu / max(cpu for _, cpu in matmul), 3),
        "peak_mib_beyond_the_table": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before) // 1024,
        "vectors_mib": round(4 * options.dim * pois["address"].nunique() / 2**20),
    }
    if options.against_all:
        reference = reference_ranks(pois, records, encoder)
        values["ranks_equal"] = {k: float((evaluation.ranks[k] == own).mean()) for k, own in reference.items()}
    return values


def main() -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--pois", type=int, default=300_000, help="rows of the POI table (%(default)s)")
    parser.add_argument("--queries", type=int, default=2000, help="labelled queries (%(default)s)")
    parser.add_argument("--dim", type=int, default=384, help="width of the vectors (%(default)s)")
    parser.add_argument("--depth", type=int, default=0, help="best matches per query to return (%(default)s)")
    parser.add_argument("--text-dir", help="folder for the text vectors (default: in memory)")
    parser.add_argument("--against-all", action="store_true", help="compare the ranks with those of all scores")
    options = parser.parse_args()
    print_values(measure(options), options.json)


if __name__ == "__main__":
    main()
