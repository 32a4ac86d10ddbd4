"""A PostgreSQL server on loopback, with its data in a temporary folder."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engines.engine import LOOPBACK, EngineError, command, free_port, server

USER = "postgres"  # a server does not run as root


def programs() -> Path:
    """Return the folder of the newest installed server. Raises EngineError."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise EngineError("PostgreSQL is not installed (Debian: postgresql)")
    return found[-1].parent


def as_owner(folder: Path) -> list[str]:
    """Give a folder to the user who may run the server; return the words that precede a command to run as this user."""
    if os.geteuid():
        return []
    try:
        user = pwd.getpwnam(USER)
    except KeyError as error:
        raise EngineError(f"there is no user {USER} to run the server") from error
    try:
        os.chown(folder, user.pw_uid, user.pw_gid)
    except OSError as error:  # a user namespace without this user
        raise EngineError(f"PostgreSQL cannot be started as the user {USER}: {error.strerror}") from error
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@dataclass(frozen=True)
class Server:
    """A running server: its port, the name of its superuser, its first process."""

    port: int
    user: str
    process: psutil.Process


@contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """Run a server while the context is open. Raises EngineError."""
    own, bin_, port = as_owner(folder), programs(), free_port()
    data, log = folder / "data", folder / "log.txt"
    user = pwd.getpwuid(os.geteuid()).pw_name if os.geteuid() else USER
    command([*own, bin_ / "initdb", "-D", data, "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "-U", user], log)
    words = [*own, bin_ / "postgres", "-D", data, "-p", port, "-h", LOOPBACK, "-k", folder]

    def ready() -> bool:
        connect(Server(port, user, psutil.Process())).close()
        return True

    with server(words, ready, log) as process:
        yield Server(port, user, process)


def connect(to: Server) -> Any:
    """Return a connection of psycopg to the database postgres. Raises EngineError if psycopg is missing."""
    try:
        import psycopg
    except ImportError as error:
        raise EngineError("the PyPI package psycopg is not installed") from error
    return psycopg.connect(host=LOOPBACK, port=to.port, user=to.user, dbname="postgres", autocommit=True)
