"""``eval-retrieval`` over a generated table with a stand-in for the model: time, memory, and ranks against all scores.

    python benchmarks/evaluation.py --pois 300000 --queries 2000 --json
    python benchmarks/evaluation.py --pois 20000 --queries 2000 --against-all
    python benchmarks/evaluation.py --pois 3000000 --queries 200 --text-dir /tmp/texts

The stand-in gives unit vectors that look random, by the text or place alone, so that what is measured is counting.
``counting_gflops`` is the arithmetic of two float32 products of all queries with all POIs over the time that counting
took, ``plain_gflops`` that of one such product by torch alone, before and after. On a machine that does other work the
same by seconds of the CPU tells more: ``share_of_plain`` is the CPU time that the products alone would take over that
of all the counting, places' vectors and exact scores included.
``--against-all`` compares the ranks with the whole table of scores, in float64.
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
from figures import parser_of, show
from numpy.typing import ArrayLike, NDArray

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.encoders.embedding_cache import EmbeddingCache
from m3gal_cli.encoders.encoder import TorchEncoder, Vectors
from m3gal_cli.evaluation import retrieval
from m3gal_cli.evaluation.ranks import gold_ranks

SHARED_TEXT, SHARED_PLACE = 20, 3  # every so many rows share a text, and a place
PLAIN_ROWS = 16384


class StandIn(TorchEncoder):
    """Vectors by numbers in texts and by places: cosines of them at many random frequencies."""

    def __init__(self, dim: int) -> None:
        draw = np.random.default_rng(0)
        self.width, self.device = dim, torch.device("cpu")
        self.waves = draw.normal(0, 1e4, (2, dim)).astype(np.float32)
        self.phases = draw.uniform(0, 2 * np.pi, (3, dim)).astype(np.float32)

    @property
    def dim(self) -> int:
        return self.width

    def queries(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        return self._unit(self._numbers(texts), 0)

    def poi_texts(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        out = np.empty((len(texts), self.width), np.float32)
        for start in range(0, len(texts), PLAIN_ROWS):
            part = texts[start : start + PLAIN_ROWS]
            out[start : start + len(part)] = self._unit(self._numbers(part), 1)
            if progress is not None:
                progress(start + len(part), len(texts))
        return out

    def locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        return self._unit(self.normalised(lng, lat), 2)

    def normalised(self, lng: ArrayLike, lat: ArrayLike) -> NDArray[np.float32]:
        return np.stack([np.asarray(lng) - 120, np.asarray(lat) - 30], axis=-1).astype(np.float32)

    def _numbers(self, texts: Sequence[str]) -> NDArray[np.float32]:
        numbers = np.array([int(text.rpartition(" ")[2]) for text in texts])
        return np.stack([numbers % 4096 / 4096, numbers // 4096 / 4096], axis=-1).astype(np.float32)

    def _unit(self, points: NDArray[np.float32], phase: int) -> Vectors:
        out = np.cos(points @ self.waves + self.phases[phase])
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def generated(pois: int, queries: int) -> tuple[pd.DataFrame, list[Record]]:
    """A table in which some rows share texts, places or both, and queries each of which means one of its rows."""
    draw = np.random.default_rng(1)
    number, place = np.arange(pois), np.arange(pois)
    for column, every in ((number, SHARED_TEXT), (place, SHARED_PLACE)):
        column[::every] = draw.integers(0, pois, len(column[::every]))
    side = int(np.ceil(np.sqrt(pois)))
    table = {"poi_id": np.arange(pois), "address": [f"generated place with an address of {i}" for i in number]}
    table |= {"lng": 120 + place % side / side, "lat": 30 + place // side / side}
    frame = pd.DataFrame(table)
    rows = frame.iloc[draw.choice(pois, queries, replace=False)]
    golds = [Passage(*row) for row in zip(rows["address"], rows["lng"], rows["lat"], strict=True)]
    return frame, [Record(f"typed {i}", [gold], []) for i, gold in enumerate(golds)]


def plain_gflops(queries: int, pois: int, dim: int, rounds: int = 5) -> tuple[float, float]:
    """Of a float32 product of so many queries with a block of POIs, by the clock and by the CPU; the best of some."""
    a, b = torch.randn(queries, dim), torch.randn(min(pois, PLAIN_ROWS), dim)
    out, seconds, own = torch.empty(len(a), len(b)), [], []
    for _ in range(rounds):
        began, cpu = time.perf_counter(), time.process_time()
        torch.mm(a, b.T, out=out)
        seconds.append(time.perf_counter() - began)
        own.append(time.process_time() - cpu)
    work = 2e-9 * len(a) * len(b) * dim
    return work / min(seconds), work / min(own)


def ranks_of_all(pois: pd.DataFrame, records: list[Record], encoder: StandIn) -> dict[str, NDArray[np.int64]]:
    """Ranks from the whole table of scores, sums of float64 products, equal for equal rows."""
    texts, places = pd.factorize(pois["address"]), pd.factorize(pd.MultiIndex.from_frame(pois[["lng", "lat"]]))
    lng, lat = (np.array(column) for column in zip(*places[1], strict=True))
    sides = {"text": (encoder.poi_texts(list(texts[1])), texts[0])}
    sides["location"] = (encoder.locations(lng, lat), places[0])
    row_of = {key: i for i, key in enumerate(zip(texts[0], places[0], strict=True))}
    kind_of = np.array([row_of[key] for key in zip(texts[0], places[0], strict=True)])
    wanted = [np.flatnonzero((pois["address"] == r.positives[0].text).to_numpy()) for r in records]
    out: dict[str, list[int]] = {"text": [], "location": [], "fused": []}
    for query, rows, record in zip(encoder.queries([r.query for r in records]), wanted, records, strict=True):
        near = (pois["lng"].to_numpy()[rows] == record.positives[0].lng) & (
            pois["lat"].to_numpy()[rows] == record.positives[0].lat
        )
        gold = kind_of == kind_of[rows[near][0]]
        terms = {kind: (v * query.astype(np.float64)).sum(axis=1)[codes] for kind, (v, codes) in sides.items()}
        for kind, scores in (*terms.items(), ("fused", terms["text"] + terms["location"])):
            out[kind].append(int(gold_ranks(scores[None], gold[None])[0]))
    return {kind: np.array(ranks) for kind, ranks in out.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of a run."""
    pois, records = generated(options.pois, options.queries)
    encoder = StandIn(options.dim)
    told: dict[str, tuple[float, float]] = {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text_dir = options.text_dir and Path(options.text_dir)
    store = EmbeddingCache(text_dir, budget=0 if text_dir else 1 << 40, log=lambda text: print(text, file=sys.stderr))

    def stages(stage: str, done: int, total: int) -> None:
        told[stage] = time.perf_counter(), time.process_time()

    plain = [plain_gflops(options.queries, options.pois, options.dim)]
    began, began_cpu = time.perf_counter(), time.process_time()
    own = retrieval.Options(depth=options.depth, texts=store)
    found = retrieval.evaluate_retrieval(records, pois, encoder, own, stages)
    seconds = time.perf_counter() - began
    plain.append(plain_gflops(options.queries, options.pois, options.dim))
    ends = told[retrieval.COUNTING], told.get(retrieval.ENCODING, (began, began_cpu))
    counting, counting_cpu = (one - other for one, other in zip(*ends, strict=True))
    figures: dict[str, Any] = {"pois": options.pois, "queries": options.queries, "dim": options.dim}
    figures |= {"seconds": round(seconds, 2), "counting_s": round(counting, 2), "threads": torch.get_num_threads()}
    work = 4e-9 * options.pois * options.queries * options.dim
    figures["counting_gflops"] = round(work / counting, 1)
    figures["plain_gflops"] = [round(x, 1) for x, _ in plain]
    figures["share_of_plain"] = round(work / counting_cpu / max(cpu for _, cpu in plain), 3)
    figures["peak_mib_beyond_the_table"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    figures["vectors_mib"] = round(4 * options.dim * pois["address"].nunique() / 2**20)
    if options.against_all:
        wanted = ranks_of_all(pois, records, encoder)
        figures["ranks_equal"] = {k: float((found.ranks[k] == ranks).mean()) for k, ranks in wanted.items()}
    return figures


def main() -> None:
    parser = parser_of(__doc__)
    for name, default in (("pois", 300_000), ("queries", 2000), ("dim", 384), ("depth", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--text-dir", help="keep vectors of texts there, on the disk")
    parser.add_argument("--against-all", action="store_true", help="compare ranks with those of all scores")
    options = parser.parse_args()
    show(measure(options), options.json)


if __name__ == "__main__":
    main()
