"""Retrieval at the size of a city: encoding, search, latency and memory, each against something in the same run.

    python benchmarks/retrieval.py --pois 1000000 --dim 768 --text-encoder DIRECTORY --json
    python benchmarks/retrieval.py --pois 3000000 --dim 768 --text-encoder DIRECTORY --only ann,memory
    python benchmarks/retrieval.py --pois 3000000 --text-encoder DIRECTORY --only ann,memory,cold
    python benchmarks/retrieval.py --pois 100000 --text-encoder DIRECTORY --only ann --others Flat,HNSW32,pois.db

The database is generated (see generated_city). The published side is written here after its description: float32,
batches of 100 in file order padded to the batch's longest, text and location apart; at search two products, their sum,
and a full argsort of each of the three. ``search_ratio`` is its time for the queries over that of exact search, and
``ranks_equal`` the share of the first 20 places at which both name the same POI (scores that differ by less than 1e-6
may change places). Times of a query are medians that include encoding it, by torch or by onnx-int8 (``ann_ms`` and
``exact_ms`` are the better of the two; ``ann_hybrid_ms`` and ``exact_hybrid_ms`` those of a whole answer by the hybrid
score, which needs a deeper search, with onnx-int8). ``memory_ratio`` is what a process of its own holds while it
searches, beyond its libraries, over the stored vectors: of exact search, or of approximate search if that is more.
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
from figures import parser_of, show
from generated_city import City, addresses, build, text_vectors
from transformers.utils import logging

from m3gal_cli.core.checkpoint import save_checkpoint
from m3gal_cli.core.checkpoint_layout import poi_sources
from m3gal_cli.data.queries import Query
from m3gal_cli.encoders.encoder import QueryEncoder, TorchEncoder, Vectors
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.index import builder as bulk
from m3gal_cli.index.ann import open_ann
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.index import MANIFEST, SHARDS, Index
from m3gal_cli.index.searcher import Found, Searcher
from m3gal_cli.matching.matcher import Matcher
from m3gal_cli.rerank.features import FEATURES
from m3gal_cli.rerank.linear import LinearReranker, RerankerWeights, open_document_frequencies

TOP, NEIGHBOURS, PUBLISHED_BATCH, AT_ONCE = 20, 10, 100, 50


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


# Encoding ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def published_encoding(encoder: TorchEncoder, texts: list[str], lng: Vectors, lat: Vectors) -> tuple[Vectors, Vectors]:
    """Text vectors and location vectors by the published way."""
    model, tokenizer = encoder.model, encoder.tokenize.tokenizer
    prefix = model.settings.passage_prefix
    text, place = [], []
    for first in range(0, len(texts), PUBLISHED_BATCH):
        part = [prefix + t for t in texts[first : first + PUBLISHED_BATCH]]
        found = tokenizer(part, padding=True, truncation=True, max_length=64, return_tensors="pt")
        text.append(model.embed_poi_text(found["input_ids"], found["attention_mask"]).numpy())
    z = torch.from_numpy(model.settings.normalizer(lng, lat))
    for first in range(0, len(texts), PUBLISHED_BATCH):
        place.append(model.embed_poi_location(z[first : first + PUBLISHED_BATCH]).numpy())
    return np.concatenate(text), np.concatenate(place)


def encoding(city: City, count: int, folder: Path) -> dict[str, Any]:
    """Rows a second of both ways, in turn over parts of the rows, so that what else the machine does meets both."""
    pois = addresses(count).sample(frac=1, random_state=0).reset_index(drop=True)
    encoder: TorchEncoder = TorchEncoder(city.encoder.checkpoint)
    spent: dict[str, float] = {"published": 0.0, "ours": 0.0}
    attention = encoder.model.encoder_k.text_encoder.set_attn_implementation
    step = -(-count // 4)
    for first in range(0, count, step):
        part = pois.iloc[first : first + step].reset_index(drop=True)
        columns = part["address"].tolist(), part["lng"].to_numpy(), part["lat"].to_numpy()
        attention("eager")
        own, reference = seconds_of(lambda columns=columns: published_encoding(encoder, *columns))
        spent["published"] += own
        attention("sdpa")
        path = Path(tempfile.mkdtemp(dir=folder))
        (path / SHARDS).mkdir()
        own, _ = seconds_of(lambda part=part, path=path: bulk.encode_shards(path, part, encoder, [0], _silent))
        spent["ours"] += own
        wrong = np.abs(np.load(path / "vectors" / "000000.npy") - (reference[0] + reference[1])).max()
        assert wrong < 5e-3, f"the two ways differ by {wrong}"
    rates = {name: round(count / value, 1) for name, value in spent.items()}
    return {"encode_rows_per_second": rates, "encode_ratio": round(spent["published"] / spent["ours"], 2)}


def _silent(done: int, total: int) -> None:
    """No progress."""


# Search --------------------------------------------------------------------------------------------------------------


def published_search(queries: torch.Tensor, text: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Order of all POIs for each query by the fused score; the two others are sorted too, as published."""
    orders = torch.empty((len(queries), TOP), dtype=torch.int64)
    for first in range(0, len(queries), AT_ONCE):
        part = queries[first : first + AT_ONCE]
        by_text, by_place = part @ text.T, part @ place.T
        fused = by_text + by_place
        sorted_ = [torch.argsort(scores, dim=1, descending=True) for scores in (by_text, by_place, fused)]
        orders[first : first + AT_ONCE] = sorted_[2][:, :TOP]
    return orders


def parts_of(city: City) -> tuple[torch.Tensor, torch.Tensor]:
    """Text and location vectors, float32, whose sums are the stored vectors."""
    index = city.index
    text, place = (torch.empty((len(index), index.dim)) for _ in range(2))
    real = city.encoder.poi_texts(addresses(min(len(index), 6000))["address"].tolist())
    for first, shard in index.shards():
        rows = np.arange(first, first + len(shard))
        text[rows] = torch.from_numpy(text_vectors(rows, real))
        place[rows] = torch.from_numpy(index.vectors(rows)) - text[rows]
    return text, place


def search(city: City, repeat: int) -> dict[str, Any]:
    """The published search against exact search, and whether they agree."""
    text, place = parts_of(city)
    asked = torch.from_numpy(city.queries)
    exact = ExactSearcher(city.index)
    exact.search(city.queries[:8], TOP)
    theirs, ours = [], []
    for _ in range(repeat):
        spent, order = seconds_of(lambda: published_search(asked, text, place))
        theirs.append(spent)
        spent, found = seconds_of(lambda: exact.search(city.queries, TOP))
        ours.append(spent)
    other = np.stack([city.index.vectors(rows) @ q for rows, q in zip(order.numpy(), city.queries, strict=True)])
    same = (order.numpy() == found.rows) | (np.abs(other - found.scores) < 1e-6)
    figures = {"search_seconds_published": round(min(theirs), 3), "search_seconds_exact": round(min(ours), 3)}
    figures |= {"search_ratio": round(min(theirs) / min(ours), 2), "ranks_equal": round(float(same.mean()), 6)}
    top = seconds_of(lambda: asked @ text.T)[0]
    return figures | {"search_seconds_one_product": round(top, 3)}


def latency(city: City, searcher: Searcher, count: int) -> dict[str, float]:
    """Milliseconds of one query: encoding by torch or by onnx-int8, the search, and the whole with either."""
    encode, search = {}, []
    for name, encoder in (("torch", city.encoder.queries), ("int8", city.quick)):  # threads of both would get in turns
        own = [seconds_of(lambda encoder=encoder, text=text: encoder([text])) for text in city.typed[:count]]
        encode[name] = 1000 * statistics.median(spent for spent, _ in own)
        search += [seconds_of(lambda vector=vector: searcher.search(vector, NEIGHBOURS))[0] for _, vector in own]
    found = 1000 * statistics.median(search)
    whole = {f"ms_{name}": round(own + found, 2) for name, own in encode.items()}
    return {"ms": min(whole.values()), "search_ms": round(found, 2)} | whole


class Quick:
    """A city's onnx-int8 encoder, as what answers queries asks it."""

    def __init__(self, city: City) -> None:
        self.queries = city.quick


def reranker(city: City, searcher: Searcher, count: int) -> float:
    """Milliseconds of an answer to one query by the hybrid score; all evidence counts the same."""
    score = LinearReranker(RerankerWeights((1.0,) * len(FEATURES), 0), open_document_frequencies(city.index))
    matcher = Matcher(city.index, cast(QueryEncoder, Quick(city)), searcher, score)
    lng, lat = city.index.lng[city.gold], city.index.lat[city.gold]
    typed = [Query(i, *where) for i, where in enumerate(zip(city.typed[:count], lng, lat, strict=False))]
    matcher.answer(typed[:1], 5)
    return round(1000 * statistics.median(seconds_of(lambda q=q: matcher.answer([q], 5))[0] for q in typed), 2)


def recall(city: City, searcher: Searcher, truth: np.ndarray) -> float:
    """Mean share of the true neighbours found."""
    rows = searcher.search(city.queries, NEIGHBOURS).rows
    return round(float(np.mean([np.isin(t, r).mean() for t, r in zip(truth, rows, strict=True)])), 4)


def approximate(city: City, target: float) -> dict[str, Any]:
    """Build, tune and measure approximate search; recall on the city's own queries, which the tuning never saw."""
    spent, searcher = seconds_of(lambda: open_ann(city.index, city.encoder, target, log, _silent))
    truth = ExactSearcher(city.index).search(city.queries, NEIGHBOURS).rows
    found = latency(city, searcher, len(city.typed)) | {"hybrid_ms": reranker(city, searcher, len(city.typed))}
    family = json.loads((city.index.path / "ann" / "ann.json").read_text(encoding="utf-8"))["family"]
    figures = {"ann_family": family, "ann_build_minutes": round(spent / 60, 2)}
    figures |= {f"ann_{name}": value for name, value in found.items()}
    figures["ann_recall"] = recall(city, searcher, truth)
    return figures | {"ann_setting": vars(searcher.setting)}


# Others --------------------------------------------------------------------------------------------------------------


class Faiss:
    """faiss alone, in float32 codes or quantised ones, all in memory."""

    def __init__(self, index: Index, family: str) -> None:
        import faiss

        rows = index.vectors(np.arange(len(index)))
        self.index = faiss.index_factory(index.dim, family, faiss.METRIC_INNER_PRODUCT)
        self.index.train(rows[: 50 * 4096])
        self.index.add(rows)
        if family.startswith("IVF"):
            self.index.nprobe = 64

    def search(self, queries: Vectors, k: int) -> Found:
        scores, rows = self.index.search(queries, k)
        return Found(rows, scores)


def others(city: City, names: list[str]) -> dict[str, Any]:
    """faiss families and Milvus by URI over the same vectors: seconds to fill, ms of a search alone, recall."""
    from m3gal_cli.index.milvus import open_milvus

    truth = ExactSearcher(city.index).search(city.queries, NEIGHBOURS).rows
    table: dict[str, Any] = {}
    for name in ["exact", *names]:
        log(f"others: {name}")
        if name == "exact":
            spent, searcher = seconds_of(lambda: ExactSearcher(city.index))
        elif ":" in name or name.endswith(".db"):
            spent, searcher = seconds_of(lambda name=name: open_milvus(city.index, name, _silent))
        else:
            spent, searcher = seconds_of(lambda name=name: Faiss(city.index, name))
        found = latency(city, searcher, len(city.typed))
        table[name] = {"fill_s": round(spent, 1), "search_ms": found["search_ms"]}
        table[name]["recall"] = recall(city, searcher, truth)
    return {"others": table}


# Memory --------------------------------------------------------------------------------------------------------------


def memory_of(path: Path, kind: str, queries: Path) -> int:
    """Bytes that a process holds beyond its libraries while it searches; run in a process of its own."""
    import faiss

    from m3gal_cli.index.ann import FOLDER, SETTINGS

    torch.ones(8, 8) @ torch.ones(8, 8)
    faiss.IndexFlatIP(8).add(np.ones((8, 8), np.float32))
    before = _resident()
    index, asked = Index(path), np.load(queries)
    if kind == "ann":
        known = json.loads((path / FOLDER / SETTINGS).read_text(encoding="utf-8"))["settings"]
        encoder = cast(QueryEncoder, None)  # nothing is to be encoded where the setting is known
        searcher: Searcher = open_ann(index, encoder, float(next(iter(known))), log, _silent)
    else:
        searcher = ExactSearcher(index)
    for query in asked:
        searcher.search(query[None], NEIGHBOURS)
    searcher.search(asked, TOP)
    return _resident("VmHWM") - before


def _resident(name: str = "VmRSS") -> int:
    """Bytes of this process in memory, now or at the most; getrusage would tell of the parent's too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def memory(city: City, folder: Path) -> dict[str, Any]:
    """memory_of both ways, in processes of their own."""
    asked = folder / "queries.npy"
    np.save(asked, city.queries)
    found = {}
    stored = sum(path.stat().st_size for path in (city.index.path / SHARDS).iterdir())
    for kind in ("exact", "ann"):
        own = [sys.executable, __file__, "--memory", kind, str(city.index.path), str(asked)]
        held = int(subprocess.run(own, check=True, capture_output=True, text=True).stdout)
        found[f"memory_ratio_{kind}"] = round(held / stored, 3)
    return found | {"memory_ratio": max(found.values()), "stored_bytes": stored}


# Cold start ----------------------------------------------------------------------------------------------------------


def cold_start(city: City, folder: Path, runtimes: list[str]) -> dict[str, Any]:
    """Seconds from the start of ``m3gal predict`` on the built index to its first answer, best of three.

    Of the encoder's own width only, as the model is saved and opened as any other.
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
    found = {}
    for runtime in runtimes:
        spent = []
        for _ in range(4):  # the first exports what the runtime needs
            began = time.perf_counter()
            command = [*own, "--encoder-runtime", runtime]
            done = subprocess.run(command, input=city.typed[0], capture_output=True, text=True, check=True, cwd=folder)
            spent.append(time.perf_counter() - began)
            assert len(json.loads(done.stdout)["matches"]) == 5, done.stderr
        found[f"cold_start_s_{runtime}"] = round(min(spent[1:]), 2)
    return found


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures."""
    city = build(folder, options, log)
    figures: dict[str, Any] = {"pois": len(city.index), "dim": city.index.dim, "queries": len(city.typed)}
    figures |= {"threads": torch.get_num_threads(), "encoder": options.text_encoder or "small, random"}
    wanted = options.only.split(",")
    if "encode" in wanted:
        log("encoding")
        figures |= encoding(city, min(options.encode, len(city.index)), folder)
    if "ann" in wanted:
        log("approximate search")
        figures |= approximate(city, options.recall)
    if "memory" in wanted and "ann" in wanted:
        log("memory")
        figures |= memory(city, folder)
    if "cold" in wanted:
        log("cold start")
        figures |= cold_start(city, folder, ["torch", "onnx-int8"])
    if options.others:
        figures |= others(city, options.others.split(","))
    searcher = ExactSearcher(city.index)
    exact = latency(city, searcher, 20) | {"hybrid_ms": reranker(city, searcher, 20)}
    figures |= {f"exact_{name}": value for name, value in exact.items()}
    if "search" in wanted:
        log("search")
        figures |= search(city, options.repeat)
    return figures


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--pois", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, help="width of the vectors (the text encoder's)")
    parser.add_argument("--text-encoder", help="transformers directory instead of a small random one")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--encode", type=int, default=2000, help="rows that both ways encode")
    parser.add_argument("--recall", type=float, default=0.95, help="target of approximate search")
    parser.add_argument("--repeat", type=int, default=2, help="times that both searches run, in turn; the best counts")
    parser.add_argument("--only", default="encode,ann,memory,search", help="parts to measure")
    parser.add_argument("--others", help="faiss families and Milvus URIs to set beside, e.g. Flat,HNSW32,pois.db")
    parser.add_argument("--folder", type=Path, help="where the database stays for the next time (else a temporary one)")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.set_verbosity_error()
    if options.memory:
        kind, path, queries = options.memory
        print(memory_of(Path(path), kind, Path(queries)))
        return
    with nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    show(figures, options.json)


if __name__ == "__main__":
    main()
