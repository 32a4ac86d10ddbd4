"""Indexes, filters and servers for the tests of Milvus; servers run on this machine only."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.segment import Segment
from tests.helpers.indexes import GivenVectors, Matrix, build, index_sources, only_segment, poi_table

SIZE, DIM = 700, 8
FILTERS = {
    "box": GeoFilter((-60.5, -33.25, 77.75, 41.0)),
    "box across the 180th meridian": GeoFilter((178.9, -60.0, -178.7, 60.0)),
    "circle": GeoFilter(None, (10.0, 20.0), 4_000_000.0),
    "circle across the 180th meridian": GeoFilter(None, (179.9, 5.0), 2_000_000.0),
    "circle around a pole": GeoFilter(None, (33.0, 88.0), 1_500_000.0),
    "circle and box": GeoFilter((178.0, -25.0, -178.0, 45.0), (-140.0, 10.0), 4_500_000.0),
    "empty": GeoFilter((0.0, 0.0, 1e-12, 1e-12)),
}


def make_index(folder: Path, vectors: Matrix, model: str = "model", table: str = "table") -> Segment:
    """An index of given vectors; every third POI lies within 2° of the 180th meridian, the others anywhere."""
    pois = poi_table(len(vectors), seed=len(vectors))
    lng = np.random.default_rng(0).uniform(178, 182, len(pois))
    pois.loc[::3, "lng"] = ((lng + 180) % 360 - 180)[::3]
    pois["table"] = table  # an own column, so that each table has its collection
    index = build(folder, index_sources(pois, GivenVectors(vectors), model, table), 256)
    assert index is not None
    return only_segment(index)


def random_vectors(seed: int, size: int = SIZE, dim: int = DIM) -> Matrix:
    return np.random.default_rng(seed).normal(size=(size, dim)).astype(np.float32)


@contextmanager
def refused(*words: str, within_s: float = 10.0) -> Iterator[None]:
    """Expect an InputError with these words and a hint in time; it never shows a token."""
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        yield
    assert time.monotonic() - start < within_s
    text = str(error.value)
    for word in (*words, "\n"):
        assert word in text
    assert error.value.hint
    assert "root:" not in text


PARTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
TOKEN = "root:Milvus"  # default user and password of Milvus


class NotStarted(Exception):
    """A server cannot be started here."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def standalone(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the standalone server of the package ``milvus``, which requires ``TOKEN``; yield its URI and process.

    Raises:
        NotStarted: The package is not installed, or its server does not start.
    """
    if importlib.util.find_spec("milvus") is None:
        raise NotStarted("the package milvus is not installed")
    from milvus import MilvusServer, MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(folder))
    server = MilvusServer(config, wait_for_started=False)
    config.set("authorization_enabled", True)
    for part in PARTS:
        config.set(f"{part}.ip", "127.0.0.1")
    try:
        server.start()
        health = f"http://127.0.0.1:{server.webservice_port}/healthz"
        _await(lambda: _is_healthy(health), server.server_proc, 120)
        time.sleep(1)  # the server reports to be healthy slightly too early
        yield f"http://127.0.0.1:{server.listen_port}", server.server_proc
    except OSError as error:
        raise NotStarted(str(error)) from error
    finally:
        server.stop()


@contextmanager
def lite_server(folder: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run Milvus Lite as a separate server; yield its URI and process."""
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--host", "127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, "--port", str(port)], **quiet) as process:
        try:
            _await(lambda: _is_listening(port), process, 30)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise NotStarted(f"the server ended with exit code {process.returncode}")
        if time.monotonic() > end:
            raise NotStarted(f"the server is not ready after {seconds:g} s")
        time.sleep(0.1)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return b"OK" in answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
