"""Measure encoding, search, latency and memory of retrieval on a generated city, against the published method.

    python benchmarks/retrieval.py --pois 1000000 --dim 768 --text-encoder DIRECTORY --json
    python benchmarks/retrieval.py --pois 3000000 --dim 768 --text-encoder DIRECTORY --only ann,memory
    python benchmarks/retrieval.py --pois 3000000 --text-encoder DIRECTORY --only ann,memory,cold
    python benchmarks/retrieval.py --pois 100000 --text-encoder DIRECTORY --only ann --others Flat,HNSW32,pois.db

The POI table is generated (see generated_city). The published method is reimplemented here from its description. It
encodes in float32, in batches of 100 in file order, padded to the longest text, with text and location apart. Its
search takes two products and their sum, and sorts each of the three completely.

encode_ratio    time of the published encoding / time of m3gal's
search_ratio    time of the published search / time of exact search
ranks_equal     share of the first 20 ranks with the same POI; scores that differ by less than 1e-6 may swap ranks
ann_ms          median latency of one query with approximate search, including encoding (the faster of torch, onnx-int8)
exact_ms        the same with exact search
..._reranked_ms the same for a whole answer with the packaged reranker, which searches deeper, with onnx-int8
memory_ratio    memory of a searching process beyond its libraries / size of the stored vectors; the larger of exact and
                approximate search
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from command_line import create_parser, print_values
from generated_city import City, addresses, build, text_vectors
from transformers.utils import logging

from m3gal_cli.core.checkpoint import save_checkpoint
from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.data.queries import Query
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import QueryEncoder, Vectors
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.encoders.vector_shards import SHARDS
from m3gal_cli.index.ann import open_ann
from m3gal_cli.index.builder import IndexSources, open_or_build
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.index import MANIFEST, Index
from m3gal_cli.index.searcher import Searcher, SearchResult
from m3gal_cli.index.segment import Segment
from m3gal_cli.matching.matcher import Matcher
from m3gal_cli.rerank.weights import RerankerWeights

TOP_K, NEIGHBOURS, PUBLISHED_BATCH, QUERY_BATCH = 20, 10, 100, 50


def log(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


# Encoding ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def published_encoding(encoder: TorchEncoder, texts: list[str], lng: Vectors, lat: Vectors) -> tuple[Vectors, Vectors]:
    """Return text vectors and location vectors by the published method."""
    model, tokenizer = encoder.model, encoder.tokenize.tokenizer
    prefix = model.settings.passage_prefix
    text, location = [], []
    for first in range(0, len(texts), PUBLISHED_BATCH):
        part = [prefix + t for t in texts[first : first + PUBLISHED_BATCH]]
        tokens = tokenizer(part, padding=True, truncation=True, max_length=64, return_tensors="pt")
        text.append(model.embed_poi_text(tokens["input_ids"], tokens["attention_mask"]).numpy())
    z = torch.from_numpy(model.settings.normalizer(lng, lat))
    for first in range(0, len(texts), PUBLISHED_BATCH):
        location.append(model.embed_poi_location(z[first : first + PUBLISHED_BATCH]).numpy())
    return np.concatenate(text), np.concatenate(location)


def encoding(city: City, count: int, folder: Path) -> dict[str, Any]:
    """Return rows per second of both encodings, alternating over parts of the rows so that other load affects both."""
    pois = addresses(count).sample(frac=1, random_state=0).reset_index(drop=True)
    encoder: TorchEncoder = TorchEncoder(city.encoder.checkpoint)
    spent: dict[str, float] = {"published": 0.0, "m3gal": 0.0}
    attention = encoder.model.encoder_k.text_encoder.set_attn_implementation
    step = -(-count // 4)
    for first in range(0, count, step):
        part = pois.iloc[first : first + step].reset_index(drop=True)
        columns = part["address"].tolist(), part["lng"].to_numpy(), part["lat"].to_numpy()
        attention("eager")
        own, reference = seconds_of(lambda columns=columns: published_encoding(encoder, *columns))
        spent["published"] += own
        attention("sdpa")
        model, path = Fingerprint((), {"first": first}), Path(tempfile.mkdtemp(dir=folder))
        sources = IndexSources(model, model, lambda part=part: (part, None), lambda: encoder)
        own, index = seconds_of(lambda sources=sources, path=path: open_or_build(path, sources, log, _silent))
        spent["m3gal"] += own
        difference = np.abs(index.vectors(np.arange(len(part))) - (reference[0] + reference[1])).max()
        assert difference < 5e-3, f"the two encodings differ by {difference}"
    rates = {name: round(count / value, 1) for name, value in spent.items()}
    return {"encode_rows_per_second": rates, "encode_ratio": round(spent["published"] / spent["m3gal"], 2)}


def _silent(done: int, total: int) -> None:
    """Ignore progress."""


# Search --------------------------------------------------------------------------------------------------------------


def published_search(queries: torch.Tensor, text: torch.Tensor, location: torch.Tensor) -> torch.Tensor:
    """Return the best rows of each query by the fused score; the two other scores are sorted too, as published."""
    orders = torch.empty((len(queries), TOP_K), dtype=torch.int64)
    for first in range(0, len(queries), QUERY_BATCH):
        part = queries[first : first + QUERY_BATCH]
        by_text, by_location = part @ text.T, part @ location.T
        fused = by_text + by_location
        sorted_ = [torch.argsort(scores, dim=1, descending=True) for scores in (by_text, by_location, fused)]
        orders[first : first + QUERY_BATCH] = sorted_[2][:, :TOP_K]
    return orders


def text_and_location_vectors(city: City) -> tuple[torch.Tensor, torch.Tensor]:
    """Return float32 text and location vectors; the sum of both is the stored vector."""
    index = city.index
    text, location = (torch.empty((len(index), index.dim)) for _ in range(2))
    sample = city.encoder.encode_poi_texts(addresses(min(len(index), 6000))["address"].tolist())
    for first, shard in city.segment.shards():
        rows = np.arange(first, first + len(shard))
        text[rows] = torch.from_numpy(text_vectors(rows, sample))
        location[rows] = torch.from_numpy(index.vectors(rows)) - text[rows]
    return text, location


def search(city: City, repeat: int) -> dict[str, Any]:
    """Compare the published search with exact search in time and results."""
    text, location = text_and_location_vectors(city)
    queries = torch.from_numpy(city.queries)
    exact = ExactSearcher(city.segment)
    exact.search(city.queries[:8], TOP_K)
    published_s, exact_s = [], []
    for _ in range(repeat):
        spent, order = seconds_of(lambda: published_search(queries, text, location))
        published_s.append(spent)
        spent, results = seconds_of(lambda: exact.search(city.queries, TOP_K))
        exact_s.append(spent)
    other = np.stack([city.index.vectors(rows) @ q for rows, q in zip(order.numpy(), city.queries, strict=True)])
    same = (order.numpy() == results.rows) | (np.abs(other - results.scores) < 1e-6)
    values = {"search_seconds_published": round(min(published_s), 3), "search_seconds_exact": round(min(exact_s), 3)}
    values |= {"search_ratio": round(min(published_s) / min(exact_s), 2), "ranks_equal": round(float(same.mean()), 6)}
    top = seconds_of(lambda: queries @ text.T)[0]
    return values | {"search_seconds_one_product": round(top, 3)}


def latency(city: City, searcher: Searcher, count: int) -> dict[str, float]:
    """Return milliseconds per query: encoding by torch or onnx-int8, search, and both together."""
    encode, search = {}, []
    encoders = {"torch": city.encoder.encode_queries, "int8": city.encode_int8}
    for name, encoder in encoders.items():  # one after the other, as their threads would compete
        own = [seconds_of(lambda encoder=encoder, text=text: encoder([text])) for text in city.query_texts[:count]]
        encode[name] = 1000 * statistics.median(spent for spent, _ in own)
        search += [seconds_of(lambda vector=vector: searcher.search(vector, NEIGHBOURS))[0] for _, vector in own]
    search_ms = 1000 * statistics.median(search)
    whole = {f"ms_{name}": round(own + search_ms, 2) for name, own in encode.items()}
    return {"ms": min(whole.values()), "search_ms": round(search_ms, 2)} | whole


class Int8Encoder:
    """The onnx-int8 encoder of a city as a query encoder."""

    def __init__(self, city: City) -> None:
        self.encode_queries = city.encode_int8


def reranked_latency_ms(city: City, searcher: Searcher, count: int) -> float:
    """Return median milliseconds of an answer with the packaged reranker."""
    weights = RerankerWeights.load(PACKAGED_MODEL)
    assert weights is not None
    matcher = Matcher(city.index, cast(QueryEncoder, Int8Encoder(city)), searcher, weights.reranker)
    lng, lat = city.index.lng[city.gold], city.index.lat[city.gold]
    queries = [Query(i, *where) for i, where in enumerate(zip(city.query_texts[:count], lng, lat, strict=False))]
    matcher.answer(queries[:1], 5)
    return round(1000 * statistics.median(seconds_of(lambda q=q: matcher.answer([q], 5))[0] for q in queries), 2)


def recall(city: City, searcher: Searcher, truth: np.ndarray) -> float:
    """Return the mean share of the true neighbours that a searcher finds."""
    rows = searcher.search(city.queries, NEIGHBOURS).rows
    return round(float(np.mean([np.isin(t, r).mean() for t, r in zip(truth, rows, strict=True)])), 4)


def approximate(city: City, target: float) -> dict[str, Any]:
    """Build, tune and measure approximate search; recall is on queries that the tuning does not use."""
    spent, searcher = seconds_of(lambda: open_ann(city.segment, city.encoder, target, log, _silent))
    truth = ExactSearcher(city.segment).search(city.queries, NEIGHBOURS).rows
    latencies = latency(city, searcher, len(city.query_texts)) | {
        "reranked_ms": reranked_latency_ms(city, searcher, len(city.query_texts))
    }
    family = json.loads((city.segment.path / "ann" / "ann.json").read_text(encoding="utf-8"))["family"]
    values = {"ann_family": family, "ann_build_minutes": round(spent / 60, 2)}
    values |= {f"ann_{name}": value for name, value in latencies.items()}
    values["ann_recall"] = recall(city, searcher, truth)
    return values | {"ann_setting": vars(searcher.setting)}


# Other indexes ------------------------------------------------------------------------------------------------------


class Faiss:
    """A faiss index in memory, of float32 vectors or quantised ones."""

    def __init__(self, index: Index, family: str) -> None:
        import faiss

        rows = index.vectors(np.arange(len(index)))
        self.index = faiss.index_factory(index.dim, family, faiss.METRIC_INNER_PRODUCT)
        self.index.train(rows[: 50 * 4096])
        self.index.add(rows)
        if family.startswith("IVF"):
            self.index.nprobe = 64

    def search(self, queries: Vectors, k: int) -> SearchResult:
        """Return the best k rows. Shape: (Q, D) -> (Q, k)."""
        scores, rows = self.index.search(queries, k)
        return SearchResult(rows, scores)


def others(city: City, names: list[str]) -> dict[str, Any]:
    """Measure faiss families and Milvus URIs on the same vectors: seconds to fill, milliseconds per search, recall."""
    from m3gal_cli.index.milvus import open_milvus

    truth = ExactSearcher(city.segment).search(city.queries, NEIGHBOURS).rows
    table: dict[str, Any] = {}
    for name in ["exact", *names]:
        log(f"others: {name}")
        if name == "exact":
            spent, searcher = seconds_of(lambda: ExactSearcher(city.segment))
        elif ":" in name or name.endswith(".db"):
            spent, searcher = seconds_of(lambda name=name: open_milvus(city.segment, name, _silent))
        else:
            spent, searcher = seconds_of(lambda name=name: Faiss(city.index, name))
        search_ms = latency(city, searcher, len(city.query_texts))["search_ms"]
        table[name] = {"fill_s": round(spent, 1), "search_ms": search_ms}
        table[name]["recall"] = recall(city, searcher, truth)
    return {"others": table}


# Memory --------------------------------------------------------------------------------------------------------------


def memory_of(path: Path, kind: str, query_file: Path) -> int:
    """Return the bytes that this process holds for searching, beyond its libraries; needs a new process."""
    import faiss

    from m3gal_cli.index.ann import FOLDER, SETTINGS_FILE

    torch.ones(8, 8) @ torch.ones(8, 8)
    faiss.IndexFlatIP(8).add(np.ones((8, 8), np.float32))
    before = _resident()
    segment, queries = Segment(path), np.load(query_file)
    if kind == "ann":
        known = json.loads((path / FOLDER / SETTINGS_FILE).read_text(encoding="utf-8"))["settings"]
        encoder = cast(QueryEncoder, None)  # unused, as the settings are stored
        searcher: Searcher = open_ann(segment, encoder, float(next(iter(known))), log, _silent)
    else:
        searcher = ExactSearcher(segment)
    for query in queries:
        searcher.search(query[None], NEIGHBOURS)
    searcher.search(queries, TOP_K)
    return _resident("VmHWM") - before


def _resident(name: str = "VmRSS") -> int:
    """Return the resident bytes of this process, current or peak; getrusage would include those of the parent."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def memory(city: City, folder: Path) -> dict[str, Any]:
    """Measure the memory of exact and approximate search, in a new process each."""
    query_file = folder / "queries.npy"
    np.save(query_file, city.queries)
    results = {}
    stored = sum(path.stat().st_size for path in (city.segment.path / SHARDS).iterdir())
    for kind in ("exact", "ann"):
        own = [sys.executable, __file__, "--memory", kind, str(city.segment.path), str(query_file)]
        used = int(subprocess.run(own, check=True, stdout=subprocess.PIPE, text=True).stdout)
        results[f"memory_ratio_{kind}"] = round(used / stored, 3)
    return results | {"memory_ratio": max(results.values()), "stored_bytes": stored}


# Cold start ----------------------------------------------------------------------------------------------------------


def cold_start(city: City, folder: Path, runtimes: list[str]) -> dict[str, Any]:
    """Return seconds from the start of ``m3gal predict`` on the built index to its first answer, best of three.

    Works only with vectors as wide as the encoder's (without --dim), as the model is saved and loaded unchanged.
    """
    checkpoint, manifest = folder / "model", city.index.path / MANIFEST
    if not checkpoint.exists():
        save_checkpoint(checkpoint, city.encoder.checkpoint)
    files, also = poi_sources(checkpoint)
    known = json.loads(manifest.read_text(encoding="utf-8"))
    known |= {"model": Fingerprint(tuple(files), also).record()}
    known |= {"table": Fingerprint((city.table,), {"datum": "wgs84"}).record()}
    manifest.write_text(json.dumps(known), encoding="utf-8")
    own = [sys.executable, "-m", "m3gal_cli", "predict", "-", "--checkpoint", str(checkpoint)]
    own += ["--poi-database-filepath", str(city.table), "--index-dir", str(city.index.path)]
    results = {}
    for runtime in runtimes:
        spent = []
        for _ in range(4):  # the first one exports the model
            start = time.perf_counter()
            command = [*own, "--encoder-runtime", runtime]
            done = subprocess.run(
                command, input=city.query_texts[0], capture_output=True, text=True, check=True, cwd=folder
            )
            spent.append(time.perf_counter() - start)
            assert len(json.loads(done.stdout)["matches"]) == 5, done.stderr
        results[f"cold_start_s_{runtime}"] = round(min(spent[1:]), 2)
    return results


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return all measured values."""
    city = build(folder, options, log)
    values: dict[str, Any] = {"pois": len(city.index), "dim": city.index.dim, "queries": len(city.query_texts)}
    values |= {"threads": torch.get_num_threads(), "encoder": options.text_encoder or "small, random"}
    wanted = options.only.split(",")
    if "encode" in wanted:
        log("encoding")
        values |= encoding(city, min(options.encode, len(city.index)), folder)
    if "ann" in wanted:
        log("approximate search")
        values |= approximate(city, options.recall)
    if "memory" in wanted and "ann" in wanted:
        log("memory")
        values |= memory(city, folder)
    if "cold" in wanted:
        log("cold start")
        values |= cold_start(city, folder, ["torch", "onnx-int8"])
    if options.others:
        values |= others(city, options.others.split(","))
    searcher = ExactSearcher(city.segment)
    exact = latency(city, searcher, 20) | {"reranked_ms": reranked_latency_ms(city, searcher, 20)}
    values |= {f"exact_{name}": value for name, value in exact.items()}
    if "search" in wanted:
        log("search")
        values |= search(city, options.repeat)
    return values


def main() -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--pois", type=int, default=1_000_000, help="rows of the POI table (%(default)s)")
    parser.add_argument("--dim", type=int, help="width of the vectors (default: that of the text encoder)")
    parser.add_argument("--text-encoder", help="transformers directory (default: a small random encoder)")
    parser.add_argument("--queries", type=int, default=200, help="queries (%(default)s)")
    parser.add_argument("--encode", type=int, default=2000, help="rows that both methods encode (%(default)s)")
    parser.add_argument("--recall", type=float, default=0.95, help="target recall of approximate search (%(default)s)")
    parser.add_argument(
        "--repeat", type=int, default=2, help="repetitions of both searches, of which the best counts (%(default)s)"
    )
    parser.add_argument(
        "--only",
        default="encode,ann,memory,search",
        help="parts to measure: encode, ann, memory, search, cold (%(default)s)",
    )
    parser.add_argument("--others", help="faiss families and Milvus URIs to compare with, e.g. Flat,HNSW32,pois.db")
    parser.add_argument("--folder", type=Path, help="folder that keeps the database for later runs")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.set_verbosity_error()
    if options.memory:
        kind, path, queries = options.memory
        print(memory_of(Path(path), kind, Path(queries)))
        return
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        values = measure(options, Path(folder))
    print_values(values, options.json)


if __name__ == "__main__":
    main()
