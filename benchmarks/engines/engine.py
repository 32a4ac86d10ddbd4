"""The type of an engine, and what the engines share: processes, ports, memory, HTTP."""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import psutil
from quality.interface import short_hash
from quality.sets import LabelledSet

from m3gal_cli.data.queries import Query

DEPTH = 50  # number of answers that are asked for
START_SECONDS, STOP_SECONDS = 60, 20
LOOPBACK = "127.0.0.1"
PEERS = Path(__file__).resolve().parents[2] / "build" / "peers"  # virtual environment of the engines (make peers)
Answers = list[tuple[int, float]]  # rows of the POI table with their scores, best first


class EngineError(Exception):
    """An engine cannot be installed, started or used; the message says why."""


@dataclass
class OpenEngine:
    """An engine that has indexed a POI table.

    Attributes:
        version: Version of the engine.
        search: Returns up to ``DEPTH`` answers of a query.
        memory_mb: Returns the memory of the engine in MB.
    """

    version: str
    search: Callable[[Query], Answers]
    memory_mb: Callable[[], float]


@dataclass(frozen=True)
class Engine:
    """A search engine.

    Attributes:
        name: Name in the table.
        settings: The settings that differ from the defaults, for the table.
        open: Starts the engine and indexes a POI table (poi_id, address, lng, lat, further columns); the second
            argument is an empty folder. Leaving the context stops the engine. Raises EngineError.
        has: Whether the engine can index the table of the set with this name.
        rank_candidates: Returns the metrics of a set by its candidates; None: the engine cannot restrict a
            search to candidates.
        further: Returns further measurements of a set whose whole table is searched; None: there are none.
        fingerprint: Hash of the model, if the engine has one.
    """

    name: str
    settings: str
    open: Callable[[pd.DataFrame, Path], AbstractContextManager[OpenEngine]]
    has: Callable[[str], bool] = lambda name: True
    rank_candidates: Callable[[LabelledSet, Path], dict[str, float]] | None = None
    further: Callable[[LabelledSet, Path], dict[str, float]] | None = None
    fingerprint: str = ""

    @property
    def identity(self) -> str:
        """A hash of everything that the answers depend on besides POIs and queries."""
        return short_hash([self.name, self.settings, self.fingerprint])


def program(name: str) -> Path:
    """Return the path of a program in the environment of the engines. Raises EngineError if it is not installed."""
    path = PEERS / "bin" / name
    if not path.is_file():
        raise EngineError(f"{name} is not installed (make peers)")
    return path


def installed_version(package: str) -> str:
    """Return the version of a package in the environment of the engines. Raises EngineError if it is not installed."""
    folders = [str(path) for path in PEERS.glob("lib/python*/site-packages")]
    for found in importlib.metadata.distributions(name=package, path=folders):
        return found.version
    raise EngineError(f"the PyPI package {package} is not installed (make peers)")


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def command(words: Sequence[Any], log: Path, **options: Any) -> None:
    """Run a program to its end; its output goes to ``log``. Raises EngineError."""
    with log.open("ab") as file:
        try:
            done = subprocess.run([str(w) for w in words], stdout=file, stderr=file, check=False, **options)
        except OSError as error:
            raise EngineError(f"{words[0]} cannot be started: {error.strerror}") from error
    if done.returncode:
        raise EngineError(f"{Path(str(words[0])).name} ended with exit code {done.returncode}: {tail(log)}")


def tail(log: Path) -> str:
    """Return the last lines of a log on one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return " / ".join(line.strip() for line in lines)[-300:]


@contextlib.contextmanager
def server(
    words: Sequence[Any], ready: Callable[[], bool], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Run a server while the context is open; it is stopped afterwards, with its child processes.

    Args:
        words: The command.
        ready: Returns whether the server answers; exceptions mean no.
        log: File for the output.
        environment: Further environment variables.

    Raises:
        EngineError: The server cannot be started, or is not ready after ``START_SECONDS``.
    """
    with log.open("ab") as file:
        try:
            process = psutil.Popen(
                [str(w) for w in words], stdout=file, stderr=file, env=os.environ | dict(environment or {})
            )
        except OSError as error:
            raise EngineError(f"{words[0]} cannot be started: {error.strerror}") from error
    try:
        wait_until(ready, process, log)
        yield process
    finally:
        processes = [process, *process.children(recursive=True)] if process.is_running() else [process]
        process.terminate()
        _, alive = psutil.wait_procs(processes, STOP_SECONDS)
        for other in alive:
            other.kill()


def wait_until(ready: Callable[[], bool], process: psutil.Process, log: Path) -> None:
    """Wait until a server is ready. Raises EngineError if it ended or takes too long."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise EngineError(f"the server ended: {tail(log)}")
        with contextlib.suppress(Exception):
            if ready():
                return
        time.sleep(0.1)
    raise EngineError(f"the server is not ready after {START_SECONDS} s: {tail(log)}")


def memory_mb(*processes: psutil.Process) -> float:
    """Return the memory of processes and their children, shared pages counted once (PSS), in MB."""
    family = {p.pid: p for process in processes for p in (process, *process.children(recursive=True))}
    return sum(p.memory_full_info().pss for p in family.values()) / 1e6


class Http:
    """Requests to a server on loopback over one connection that is kept open."""

    def __init__(self, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
        self._headers = dict(headers or {})

    def get(self, path: str, values: Mapping[str, Any] | None = None) -> Any:
        """Return the JSON answer of a GET request. Raises EngineError unless its status is 200."""
        return json.loads(self._request("GET", path + ("?" + urlencode(values) if values else "")))

    def post(self, path: str, body: str) -> str:
        """Return the answer of a POST request. Raises EngineError unless its status is 200 or 201."""
        return self._request("POST", path, body.encode())

    def _request(self, method: str, path: str, body: bytes | None = None) -> str:
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            text = answer.read().decode()
        except (http.client.HTTPException, OSError):
            self._connection.close()  # the next request opens a new connection
            raise
        if answer.status not in (200, 201):
            raise EngineError(f"{method} {path[:80]}: status {answer.status}: {text[:200]}")
        return text
