"""Milvus servers as the tests start them, on this machine alone."""

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

PARTS = ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")
TOKEN = "root:Milvus"  # what Milvus ships with


class NotStarted(Exception):
    """Why a server does not run here."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def standalone(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The standalone server of the package ``milvus``, which wants ``TOKEN``: its URI and its process.

    Raises:
        NotStarted: there is no such package, or its server does not start.
    """
    if importlib.util.find_spec("milvus") is None:
        raise NotStarted("the package milvus is not installed: make milvus does that")
    from milvus import MilvusServer, MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(folder))
    server = MilvusServer(config, wait_for_started=False)
    config.set("authorization_enabled", True)
    for part in PARTS:
        config.set(f"{part}.ip", "127.0.0.1")
    try:
        server.start()
        health = f"http://127.0.0.1:{server.webservice_port}/healthz"
        _await(lambda: _says_ok(health), server.server_proc, 120)
        time.sleep(1)  # healthy is said a little too early
        yield f"http://127.0.0.1:{server.listen_port}", server.server_proc
    except OSError as error:
        raise NotStarted(str(error)) from error
    finally:
        server.stop()


@contextmanager
def lite_server(folder: Path, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Milvus Lite as a server of its own: its URI and its process."""
    line = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder), "--host", "127.0.0.1"]
    with subprocess.Popen(
        [*line, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            _await(lambda: _listens(port), process, 30)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise NotStarted(f"the server left with exit code {process.returncode}")
        if time.monotonic() > end:
            raise NotStarted(f"the server is not ready after {seconds:g} s")
        time.sleep(0.1)


def _says_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return b"OK" in answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
