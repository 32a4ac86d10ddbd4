"""``m3gal predict`` as a separate process: shared and killed builds, streams, interruptions and closed pipes."""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.index import builder
from tests.helpers.cli import ENVIRONMENT, done, m3gal
from tests.helpers.indexes import index_contents
from tests.helpers.sample_town import town_with_run, write_lines

pytestmark = pytest.mark.integration

PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return town_with_run(tmp_path_factory.mktemp("predict"))


def program(*args: object, shard_rows: int = 8192, pause: float = 0.0, **options: Any) -> subprocess.Popen[bytes]:
    """Start ``m3gal ARGS`` as a separate process, with small shards and a pause after each."""
    lines = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)",  # background jobs ignore it
        "import time; from functools import partial; from m3gal_cli.index import builder, segment_build",
        "from m3gal_cli.cli.app import main",
        f"builder.open_or_build = partial(builder.open_or_build, shard_rows={shard_rows})",
        "write = segment_build.write_shard",
        f"segment_build.write_shard = lambda *given: (time.sleep({pause}), write(*given))",
        "main()",
    )
    command = [sys.executable, "-c", "\n".join(lines), *map(str, args)]
    return subprocess.Popen(command, **{"env": ENVIRONMENT, **options})


def test_two_processes_build_the_same_index_as_one(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are started as torchrun does it, and print one answer."""
    started = []
    for rank in (0, 1):
        environment = ENVIRONMENT | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
        given = ("predict", "-", "--index-dir", tmp_path / "two")
        started.append(program(*given, shard_rows=5, env=environment, **PIPES))
    monkeypatch.setattr(builder, "open_or_build", partial(builder.open_or_build, shard_rows=5))
    alone = done(m3gal("predict", "-", "--index-dir", tmp_path / "one", stdin="cafe\n"))
    ended = [process.communicate(b"cafe\n", timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert [out.decode() for out, _ in ended] == [alone.out, ""]
    assert index_contents(tmp_path / "one") == index_contents(tmp_path / "two")
    assert len(list((tmp_path / "one").rglob("vectors/*"))) == 2 * 7


def test_a_killed_build_is_resumed(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shards = tmp_path / "killed", 0
    given = ("predict", "--build-only", "--index-dir", path)
    killed = program(*given, shard_rows=2, pause=0.05, stderr=subprocess.DEVNULL)
    while shards < 4:
        time.sleep(0.02)
        shards = len(list(path.glob("building/vectors/*[0-9].npy")))
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    assert not (path / "manifest.json").exists()
    monkeypatch.setattr(builder, "open_or_build", partial(builder.open_or_build, shard_rows=2))
    again = done(m3gal("predict", "--build-only", "--index-dir", path))
    (line,) = [line for line in again.err.splitlines() if "resuming after" in line]
    assert line.endswith(" of 32 POIs")
    assert 8 <= int(line.split("after ")[1].split(" ")[0]) < 32
    done(m3gal("predict", "--build-only", "--index-dir", tmp_path / "wanted"))
    assert index_contents(path) == index_contents(tmp_path / "wanted")


@pytest.fixture(scope="module")
def quick(base: Path) -> tuple[str, ...]:
    """Return the options of the fastest start; they do not change what is read and written."""
    given = ("--encoder-runtime", "onnx") if all(map(find_spec, ("onnx", "onnxruntime"))) else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        done(m3gal("predict", "-", *given, stdin="cafe\n"))
    return given


def waiting_bytes(process: subprocess.Popen[bytes]) -> int:
    """Return the number of unread bytes in the pipe of stdout."""
    assert process.stdout is not None
    count = array.array("i", [0])
    fcntl.ioctl(process.stdout, termios.FIONREAD, count)
    return count[0]


def test_each_query_is_answered_before_the_next_one_arrives(here: Path, quick: tuple[str, ...]) -> None:
    with program("predict", "-", "-k", 2, *quick, **PIPES) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for word in ("cafe", "hotel", "library"):
            process.stdin.write(f"{word}\n".encode())
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 60)[0], "no answer came"
            assert json.loads(os.read(process.stdout.fileno(), 1 << 16))["query"] == word
        process.stdin.close()
        assert process.wait(60) == 0


def test_an_interrupted_feature_collection_is_complete_json(here: Path, quick: tuple[str, ...]) -> None:
    with program("predict", "-", "--output-format", "geojson", *quick, **PIPES) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"cafe\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 60)[0]
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith(b"error: interrupted\n")
    assert len(json.loads(out)["features"]) == 5


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_interruption_at_a_full_pipe_leaves_complete_lines(here: Path, quick: tuple[str, ...], unbuffered: str) -> None:
    path = write_lines(here / "many.txt", [f"cafe {i}" for i in range(3000)])
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
    with program("predict", path, "-k", 20, *quick, env=environment, **PIPES) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0]
        while waiting_bytes(process) < 50_000:  # more than a batch of 16 answers
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = out.decode().split("\n")
    assert lines.pop() == ""
    assert 0 < len(lines) < 3000
    assert [json.loads(line)["query"] for line in lines] == [f"cafe {i}" for i in range(len(lines))]


@pytest.mark.parametrize("given", [("--help",), ("--version",), ("predict", "-")], ids=str)
def test_a_closed_stdout_is_no_error(here: Path, quick: tuple[str, ...], given: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # every write fails
    process = program(*given, *(quick if given == ("predict", "-") else ()), **PIPES | {"stdout": writer})
    os.close(writer)
    _, err = process.communicate(b"cafe\n" * 3, timeout=60)
    assert process.returncode == 0, err
    assert err.replace(b"checkpoint: runs/only/best (the newest run's best)\n", b"") == b""
