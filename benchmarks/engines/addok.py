"""addok over redis: the search engine of the French national address service."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from engines.engine import (
    DEPTH,
    LOOPBACK,
    Answers,
    Engine,
    Http,
    OpenEngine,
    command,
    free_port,
    installed_version,
    memory_mb,
    program,
    server,
)
from m3gal_cli.data.queries import Query


def documents(pois: pd.DataFrame) -> Iterator[str]:
    """Yield a POI table as JSON documents of addok, with the address as the name."""
    for row, (text, lng, lat) in enumerate(zip(pois["address"], pois["lng"], pois["lat"], strict=True)):
        poi = {"_id": str(row), "id": str(row), "type": "poi", "name": text, "lat": lat, "lon": lng, "importance": 0.5}
        yield json.dumps(poi)


@contextmanager
def open_addok(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
    addok, port, redis = program("addok"), free_port(), free_port()
    settings, log, table = folder / "addok.conf", folder / "log.txt", folder / "pois.ndjson"
    settings.write_text("BATCH_WORKERS = 1\nQUERY_MAX_LENGTH = 1000\n")
    table.write_text("\n".join(documents(pois)), encoding="utf-8")
    environment = {"REDIS_HOST": LOOPBACK, "REDIS_PORT": str(redis), "ADDOK_LOG_DIR": str(folder)}
    environment["ADDOK_CONFIG_MODULE"] = str(settings)
    words = ["redis-server", "--port", redis, "--bind", LOOPBACK, "--save", "", "--dir", folder]
    with server(words, lambda: listening(redis), log) as store:
        for words in (["batch", table], ["ngrams"]):
            command([addok, *words], log, env=os.environ | environment)
        http = Http(port)
        words = [addok, "serve", "--host", LOOPBACK, "--port", port]
        with server(words, lambda: "features" in http.get("/search/", {"q": "a"}), log, environment) as process:

            def search(query: Query) -> Answers:
                where = {"lat": query.lat, "lon": query.lng} if query.lat is not None else {}
                found = http.get("/search/", {"q": query.text, "limit": DEPTH} | where)
                return [(int(f["properties"]["id"]), f["properties"]["score"]) for f in found["features"]]

            yield OpenEngine(installed_version("addok"), search, lambda: memory_mb(process, store))


def listening(port: int) -> bool:
    """Return whether a server listens on a port."""
    with socket.create_connection((LOOPBACK, port), 1):
        return True


ENGINES = [Engine("addok", "the address is the name; with the query location; QUERY_MAX_LENGTH 1000", open_addok)]
