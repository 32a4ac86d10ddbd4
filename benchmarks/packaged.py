"""Measure the packaged model on one core: whole answers, and int8 against its float32 weights in PyTorch.

    python benchmarks/packaged.py [--pois FILE] [--json]

The texts are those of a POI table (default: the sample city). Values:
    load_s, torch_load_s       seconds to open the encoder
    query_ms, torch_query_ms   median of one query of about 14 tokens
    texts_s, torch_texts_s     POI texts encoded per second, in bulk
    bulk_ratio                 texts_s / torch_texts_s
    cosine_mean, cosine_min    cosine of both vectors of a text
    answer_ms                  median of one answer; the queries are names of the POIs with their districts
    candidates_ms, rerank_ms   its parts after the encoding: both searches; the reranking of the candidates
    answers_s                  answers per second, if all queries are given at once
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from command_line import create_parser, print_values

from m3gal_cli import Matcher
from m3gal_cli.config.schema import Config
from m3gal_cli.data.queries import Query
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.encoders.model_loading import open_checkpoint
from m3gal_cli.encoders.packaged_encoder import PackagedEncoder
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.poi_source import read_pois

QUERY_TOKENS = 14
QUERIES, TEXTS = 100, 1000


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result of a call and its seconds."""
    started = time.perf_counter()
    return call(), time.perf_counter() - started


def measure(texts: Sequence[str]) -> dict[str, float]:
    """Measure both encoders on texts."""
    values: dict[str, float] = {}
    int8, values["load_s"] = timed(lambda: PackagedEncoder(PACKAGED_MODEL))
    slow, values["torch_load_s"] = timed(lambda: TorchEncoder(open_checkpoint(PACKAGED_MODEL, Config())))
    lengths = int8.tokenize(list(texts), int8.settings.query_prefix).lengths
    queries = [texts[i] for i in np.argsort(np.abs(lengths - QUERY_TOKENS), kind="stable")[:QUERIES]]
    vectors = []
    for prefix, encoder in (("", int8), ("torch_", slow)):
        encoder.encode_queries(queries[:5])
        times = [timed(partial(encoder.encode_queries, [text]))[1] for text in queries]
        values[f"{prefix}query_ms"] = 1000.0 * float(np.median(times))
        encoded, seconds = timed(partial(encoder.encode_poi_texts, texts))
        values[f"{prefix}texts_s"] = len(texts) / seconds
        vectors.append(encoded)
    cosine = (vectors[0] * vectors[1]).sum(axis=1)
    values["bulk_ratio"] = values["texts_s"] / values["torch_texts_s"]
    values |= {"cosine_mean": float(cosine.mean()), "cosine_min": float(cosine.min())}
    return {name: round(value, 4) for name, value in values.items()}


def measure_answers(pois: Path, names: Sequence[str]) -> dict[str, float]:
    """Measure whole answers from the index of a table, and their parts."""
    with TemporaryDirectory() as folder:
        matcher = Matcher.load("packaged", pois, index_dir=Path(folder) / "index")._matcher
        queries = [Query(i, name) for i, name in enumerate(names)]
        vectors = matcher.encoder.encode_queries(names)
        candidates, table, reranker = matcher._candidates, matcher._table, matcher._reranker
        assert candidates is not None
        assert reranker is not None
        times: dict[str, list[float]] = {"answer": [], "candidates": [], "rerank": []}
        for query, vector in zip(queries, vectors, strict=True):
            times["answer"].append(timed(partial(matcher.answer, [query], 5))[1])
            found, seconds = timed(partial(candidates.search, [query.text], vector[None], None, 5))
            times["candidates"].append(seconds)
            times["rerank"].append(timed(partial(table.rerank, reranker, query, found[0]))[1])
        _, seconds = timed(partial(matcher.answer, queries, 5))
    medians = {f"{name}_ms": round(1000.0 * float(np.median(own)), 2) for name, own in times.items()}
    return medians | {"answers_s": round(len(queries) / seconds, 1)}


def query_of(address: str) -> str:
    """Return the first and the last part of an address text: the name and the district or city."""
    parts = address.replace("，", ",").split(",")
    return " ".join(dict.fromkeys([parts[0].strip(), parts[-1].strip()]))


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--pois", type=Path, help="POI table (default: the sample city)")
    parser.add_argument("--texts", type=int, default=TEXTS, help=f"number of texts (default: {TEXTS})")
    given = parser.parse_args(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        source = given.pois or copy_sample(Path(folder))
        pois = read_pois(source)
        names = [query_of(address) for address in pois["address"].sample(min(QUERIES * 2, len(pois)), random_state=0)]
        answers = measure_answers(source, names)
    texts = list(dict.fromkeys(pois["address"].tolist()))
    order = np.random.default_rng(0).permutation(len(texts))[: given.texts]
    print_values(measure([texts[i] for i in order]) | answers, given.json)


if __name__ == "__main__":
    main()
