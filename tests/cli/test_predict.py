"""``m3gal predict`` as people use it: an index that stays, streams, formats, areas, broken lines, broken pipes."""

from __future__ import annotations

import array
import csv
import fcntl
import gzip
import io
import json
import os
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.cli import progress
from m3gal_cli.cli.console import undisturbed
from m3gal_cli.cli.progress import RowProgress, told
from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.data import tables
from m3gal_cli.geo.coordinates import haversine_m, wgs84_to_gcj02
from m3gal_cli.index import builder as bulk
from tests.helpers.cli import ENVIRONMENT, done, m3gal
from tests.helpers.sample_town import PLACES, place, write_csv, write_lines, write_town

PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
INDEX = "runs/only/index/poi_database_town"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data``, and a run of it."""
    folder = tmp_path_factory.mktemp("predict")
    profile = write_town(folder / "data")
    runs = ("--runs-dir", folder / "runs", "--output-name", "only", "--max-steps", 1)
    m3gal("pretrain", "--config", profile, *runs).run.resolve()
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def program(*args: object, shard_rows: int = 8192, pause: float = 0.0, **options: Any) -> subprocess.Popen[bytes]:
    """``m3gal ARGS`` as a program of its own, with small shards that take their time."""
    lines = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)",  # background jobs have none
        "import time; from m3gal_cli.index import builder as bulk; from m3gal_cli.cli.app import main",
        f"bulk.SHARD_ROWS = {shard_rows}; write = bulk._write",
        f"bulk._write = lambda *given: (time.sleep({pause}), write(*given))",
        "main()",
    )
    command = [sys.executable, "-c", "\n".join(lines), *map(str, args)]
    return subprocess.Popen(command, **{"env": ENVIRONMENT, **options})


# --- the index -----------------------------------------------------------------------------------------------------


def test_where_the_vectors_are_the_table_is_not_read(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = done(m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="cafe\n"))
    before = content(tmp_path)
    monkeypatch.setattr(tables, "_read", lambda *_: pytest.fail("read"))
    again = done(m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="cafe\n"))
    assert (again.out, again.err) == (first.out, first.err)
    assert content(tmp_path) == before
    assert m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="\n").code == 2


def test_where_the_index_lies(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the run; for a published file in the folder one stands in."""
    done(m3gal("predict", "-", stdin="cafe\n"))
    assert (here / INDEX / "manifest.json").is_file()
    path = tmp_path / "c.pth.tar"
    save_published(path, load_checkpoint(here / "runs/only/last"), {}, {})
    monkeypatch.chdir(tmp_path)
    encoder = here / "runs/only/last/query_encoder"
    given = ("--checkpoint", path, "-c", here / "data/tiny.yaml", "--text-encoder", encoder)
    done(m3gal("predict", "--build-only", *given))
    record = json.loads((tmp_path / "index/poi_database_town/manifest.json").read_text())["model"]
    assert [Path(name).name for name, _, _ in record["files"]][:2] == ["c.pth.tar", "config.json"]
    assert "model.safetensors" not in {Path(name).name for name, _, _ in record["files"]}
    other = m3gal("predict", "--build-only", *given, "--set", "model.max_length=9")
    assert "index index/poi_database_town: an index of another model; it is made anew" in done(other).err
    prefix = m3gal("predict", "--build-only", *given, "--set", "model.max_length=9", "--set", "model.query_prefix=q: ")
    assert "made anew" not in done(prefix).err, "what only queries get changes no POI"


def test_a_stale_index_is_named_and_made_anew(here: Path, tmp_path: Path) -> None:
    table = tmp_path / "some.pois.csv"
    write_csv(table, ["address", "lng", "lat"], [list(place(i)) for i in range(8)])
    given = ("predict", "-", "-k", PLACES, "--poi-database-filepath", table)
    index = here / "runs/only/index/some.pois"
    assert len(done(m3gal(*given, stdin="cafe\n")).lines()[0]["matches"]) == 8
    write_csv(table, ["address", "lng", "lat"], [list(place(i)) for i in range(9)])
    found = done(m3gal(*given, stdin="cafe\n"))
    assert len(found.lines()[0]["matches"]) == 9
    told_ = f"index {index.relative_to(here)}: an index of another table; it is made anew\n"
    assert told_ in found.err
    again = done(m3gal(*given, "--datum", "gcj02", stdin="cafe\n"))
    assert told_ in again.err
    assert "made anew" not in done(m3gal(*given, "--datum", "gcj02", stdin="cafe\n")).err
    table.unlink()
    assert "some.pois.csv: no such POI table" in m3gal(*given, stdin="cafe\n").err


def test_build_only(here: Path, tmp_path: Path) -> None:
    built = done(m3gal("predict", "--build-only", "--index-dir", tmp_path / "i"))
    assert built.out == ""
    assert len(list((tmp_path / "i/vectors").iterdir())) == 2
    without = m3gal("predict", "--index-dir", tmp_path / "i")
    assert (without.code, without.out) == (2, "")
    assert "--build-only" in without.err


def test_weights_that_cannot_be_read_are_told_before_the_places_are_encoded(here: Path, tmp_path: Path) -> None:
    """Those of an earlier version of the score, too."""
    path = here / "runs/only/best/hybrid.json"
    path.write_text(json.dumps({"format": 1, "weights": {"dense": 1.0, "around": 1.0}, "queries": 30}))
    try:
        answer = m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="cafe\n")
        assert (answer.code, answer.out) == (2, "")
        assert "hybrid.json: cannot be read (of another version)\nDelete the file" in answer.err
        assert not (tmp_path / "i").exists()
        done(m3gal("predict", "-", "--index-dir", tmp_path / "i", "--no-hybrid", stdin="cafe\n"))
    finally:
        path.unlink()


def test_a_folder_of_something_else(here: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    answer = m3gal("predict", "-", "--index-dir", tmp_path, stdin="cafe\n")
    assert (answer.code, answer.out) == (2, "")
    assert f"{tmp_path}: holds something else than an index\nChoose another folder with --index-dir." in answer.err
    assert os.listdir(tmp_path) == ["mine"]


def test_two_processes_share_the_work(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts them: the same index to the bit, one answer on stdout."""
    started = []
    for rank in (0, 1):
        environment = ENVIRONMENT | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
        given = ("predict", "-", "--index-dir", tmp_path / "two")
        started.append(program(*given, shard_rows=5, env=environment, **PIPES))
    monkeypatch.setattr(bulk, "SHARD_ROWS", 5)
    alone = done(m3gal("predict", "-", "--index-dir", tmp_path / "one", stdin="cafe\n"))
    ended = [process.communicate(b"cafe\n", timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ended
    assert [out.decode() for out, _ in ended] == [alone.out, ""]
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert len(content(tmp_path / "one")) == 2 * 7 + 2


def test_killed_in_the_middle_and_started_again(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, shards = tmp_path / "killed", 0
    killed = program(
        "predict", "--build-only", "--index-dir", path, shard_rows=2, pause=0.05, stderr=subprocess.DEVNULL
    )
    while shards < 4:
        time.sleep(0.02)
        shards = len(list(path.glob("vectors/*[0-9].npy")))
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    assert not (path / "manifest.json").exists()
    monkeypatch.setattr(bulk, "SHARD_ROWS", 2)
    again = done(m3gal("predict", "--build-only", "--index-dir", path))
    (line,) = [line for line in again.err.splitlines() if "goes on after" in line]
    assert line.endswith(" of 32 POIs")
    assert 8 <= int(line.split("after ")[1].split(" ")[0]) < 32
    done(m3gal("predict", "--build-only", "--index-dir", tmp_path / "wanted"))
    assert content(path) == content(tmp_path / "wanted")


# --- areas ---------------------------------------------------------------------------------------------------------


def test_areas_against_brute_force(here: Path) -> None:
    here_lng, here_lat = place(9)[1:]
    asked = "".join(
        json.dumps({"query": f"cafe {i}", "id": i} | ({"lng": here_lng, "lat": here_lat} if i % 3 else {})) + "\n"
        for i in range(6)
    )
    everything = done(m3gal("predict", "-", "-k", PLACES, stdin=asked)).lines()
    box = (24.91, 60.0, 24.94, 60.14)
    for within, bbox in ((1.3, None), (None, box), (1.3, box), (0.001, None)):
        given = (*(("--within-km", within) if within else ()), *(("--bbox", ",".join(map(str, box))) if bbox else ()))
        found = done(m3gal("predict", "-", "-k", PLACES, *given, stdin=asked))
        for answer, whole in zip(found.lines(), everything, strict=True):
            wanted = []
            for match in whole["matches"]:
                near = within is None or match.get("distance_m", 0) <= 1000 * within
                inside = bbox is None or (box[0] <= match["lng"] <= box[2] and box[1] <= match["lat"] <= box[3])
                if near and inside:
                    wanted.append(match | {"rank": len(wanted) + 1})
            assert answer["matches"] == wanted
        words = f"2 of 6 queries say no place: answered without --within-km {within:g}\n" if within else ""
        assert found.err.endswith(words or "(the newest run's best)\n")


def test_the_datum_is_the_tables(here: Path, tmp_path: Path) -> None:
    """Places of a table in GCJ-02 come out in WGS-84, in which queries are."""
    lng, lat = 120.15, 30.27
    shifted = [float(v) for v in wgs84_to_gcj02(lng, lat)]
    table = write_csv(tmp_path / "t.csv", ["address", "lng", "lat"], [["cafe", *shifted]])
    asked = json.dumps({"query": "cafe", "lng": lng, "lat": lat + 0.001}) + "\n"
    given = ("predict", "-", "--poi-database-filepath", table, "--datum", "gcj02", "--index-dir", tmp_path / "i")
    (match,) = done(m3gal(*given, stdin=asked)).lines()[0]["matches"]
    assert (match["lng"], match["lat"]) == pytest.approx((lng, lat), abs=1e-8)
    assert match["distance_m"] == pytest.approx(float(haversine_m(lng, lat, lng, lat + 0.001)), abs=0.06)
    assert done(m3gal(*given, "--within-km", 0.12, stdin=asked)).lines()[0]["matches"] == [match]
    assert done(m3gal(*given, "--within-km", 0.1, stdin=asked)).lines()[0]["matches"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--within-km", 0), "--within-km 0 is no distance"),
        (("--within-km", "nan"), "--within-km nan is no distance"),
        (("--within-km", "inf"), "--within-km inf is no distance"),
        (("--bbox", "1,2,3"), "'1,2,3' is no box"),
        (("--bbox", "0,9,1,8"), "is no box on the Earth"),
        (("--index", "annoy"), "eval.index: "),
        (("--recall", 1.5), "eval.recall: "),
        (("--table", "--output-format", "csv"), "--table and --output-format exclude each other"),
    ],
)
def test_wrong_options(here: Path, given: tuple[object, ...], words: str) -> None:
    answer = m3gal("predict", "-", *given, stdin="cafe\n")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert "Traceback" not in answer.err


# --- formats -------------------------------------------------------------------------------------------------------

ASKED: list[dict[str, Any]] = [
    {"id": "a", "query": "cafe, mill lane"},
    {"id": "b", "query": "hotel", "lng": 24.92, "lat": 60.11},
    {"id": "c", "query": "北门"},
]


def query_file(folder: Path, form: str) -> Path:
    if form == "csv.gz":
        path = folder / "q.csv.gz"
        with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, ["lat", "lng", "id", "query"])
            table.writeheader()
            table.writerows(ASKED)
        return path
    if form == "jsonl":
        return write_lines(folder / "q.jsonl", ASKED)
    geopandas = pytest.importorskip("geopandas")
    columns = {name: [row[name] for row in ASKED] for name in ("query", "id")}
    places = geopandas.points_from_xy(
        [row.get("lng", np.nan) for row in ASKED], [row.get("lat", np.nan) for row in ASKED]
    )
    frame = geopandas.GeoDataFrame(
        columns, geometry=[p if "lng" in r else None for p, r in zip(places, ASKED, strict=True)], crs=4326
    )
    frame.to_file(folder / "q.geojson")
    return folder / "q.geojson"


@pytest.mark.parametrize("form", ["jsonl", "csv.gz", "geojson"])
@pytest.mark.parametrize("out", ["answers.jsonl", "answers.csv", "answers.geojson.gz"])
def test_formats_in_and_out(here: Path, tmp_path: Path, form: str, out: str) -> None:
    """By suffix; the answers are the same whatever the format."""
    wanted = done(m3gal("predict", "-", "-k", 2, stdin="".join(json.dumps(r) + "\n" for r in ASKED))).lines()
    target = tmp_path / "o" / out
    assert done(m3gal("predict", query_file(tmp_path, form), "-k", 2, "-o", target)).out == ""
    rows = [{"id": a["id"], "query": a["query"]} | m for a in wanted for m in a["matches"]]
    if out == "answers.jsonl":
        assert [json.loads(line) for line in target.open(encoding="utf-8")] == wanted
    elif out == "answers.csv":
        found = list(csv.DictReader(target.open(encoding="utf-8", newline="")))
        assert [{k: v for k, v in row.items() if v} for row in found] == [
            {k: str(v) for k, v in r.items()} for r in rows
        ]
    else:
        geopandas = pytest.importorskip("geopandas")
        plain = tmp_path / "plain.geojson"
        plain.write_bytes(gzip.decompress(target.read_bytes()))
        frame = geopandas.read_file(plain)
        assert [(p.x, p.y) for p in frame.geometry] == [(r["lng"], r["lat"]) for r in rows]
        for name in ("id", "query", "rank", "poi_id", "address", "score"):
            assert frame[name].tolist() == [r[name] for r in rows]


def test_formats_of_streams(here: Path) -> None:
    given = ("predict", "-", "-k", 1)
    plain = done(m3gal(*given, stdin="cafe\nhotel\n"))
    table = done(m3gal(*given, "--format", "csv", "--output-format", "csv", stdin="query\ncafe\nhotel\n")).out
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(r["id"], r["query"], r["poi_id"]) for r in rows] == [
        (str(a["id"]), a["query"], str(a["matches"][0]["poi_id"])) for a in plain.lines()
    ]
    features = [{"type": "Feature", "geometry": None, "properties": {"query": word}} for word in ("cafe", "hotel")]
    lines = "\n".join(map(json.dumps, features))
    assert done(m3gal(*given, "--format", "geojson", stdin=lines)).out == plain.out
    found = done(m3gal(*given, "--output-format", "geojson", stdin="cafe\nhotel\n")).json()
    assert [f["properties"]["query"] for f in found["features"]] == ["cafe", "hotel"]


# --- broken lines --------------------------------------------------------------------------------------------------

BROKEN = 'cafe\n{"query": "hotel", "id": "h", "lng": "east", "lat": 1}\n\nlibrary\n'


@pytest.mark.parametrize("form", ["jsonl", "csv", "geojson"])
def test_what_comes_before_a_broken_line_is_written_whole(here: Path, tmp_path: Path, form: str) -> None:
    answer = m3gal("predict", "-", "--output-format", form, stdin=BROKEN)
    assert answer.code == 2
    where = (
        "error: <stdin>:2: lng, lat: expected \"lng,lat\", got 'east,1'\nWrite longitude, comma, latitude in degrees.\n"
    )
    assert answer.err.endswith(where)
    assert answer.out == done(m3gal("predict", "-", "--output-format", form, stdin="cafe\n")).out
    assert m3gal("predict", "-", "--output-format", form, "-o", tmp_path / "o", stdin=BROKEN).code == 2
    assert os.listdir(tmp_path) == []


def test_the_beginning_of_a_file_is_looked_at_before_the_work(here: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text(BROKEN)
    answer = m3gal("predict", path, "--index-dir", tmp_path / "i")
    assert (answer.code, answer.out) == (2, "")
    assert f"{path}:2: lng, lat: " in answer.err
    assert os.listdir(tmp_path) == ["q.txt"]


def test_skip_bad(here: Path, tmp_path: Path) -> None:
    plain = done(m3gal("predict", "-", stdin="cafe\nlibrary\n")).lines()
    path = tmp_path / "q.txt"
    path.write_text(BROKEN)
    found = done(m3gal("predict", path, "--skip-bad"))
    wanted = [
        plain[0],
        {"id": "h", "line": 2, "error": "lng, lat: expected \"lng,lat\", got 'east,1'"},
        {"id": 3, "line": 3, "error": "empty query"},
        plain[1] | {"id": 4},
    ]
    assert found.lines() == wanted
    assert "2 of 4 queries are broken: each has an error in the place of its matches\n" in found.err
    rows = list(csv.DictReader(io.StringIO(done(m3gal("predict", path, "--skip-bad", "--output-format", "csv")).out)))
    assert [(r["id"], r["line"], r["error"]) for r in rows if r["error"]] == [
        (str(w["id"]), str(w["line"]), w["error"]) for w in wanted[1:3]
    ]
    assert "line 3" in done(m3gal("predict", path, "--skip-bad", "--table")).out
    only = done(m3gal("predict", "-", "--skip-bad", stdin="\n"))
    assert only.lines() == [{"id": 1, "line": 1, "error": "empty query"}]


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(base: Path) -> tuple[str, ...]:
    """Options with which a program starts quickest; what it reads and writes, and when, is the same with any others."""
    given = ("--encoder-runtime", "onnx") if all(map(find_spec, ("onnx", "onnxruntime"))) else ()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        done(m3gal("predict", "-", *given, stdin="cafe\n"))
    return given


@pytest.fixture
def typed(here: Path, quick: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
    """A program whose stdin and stdout are pipes."""
    with program("predict", "-", "-k", 2, *quick, **PIPES) as process:
        yield process
        process.kill()


def read_line(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """The next line of stdout, which must come by itself."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 60)[0], "no answer came"
    value: dict[str, Any] = json.loads(os.read(process.stdout.fileno(), 1 << 16))
    return value


def waiting_bytes(process: subprocess.Popen[bytes]) -> int:
    """How much of stdout waits in the pipe to be read."""
    assert process.stdout is not None
    count = array.array("i", [0])
    fcntl.ioctl(process.stdout, termios.FIONREAD, count)
    return count[0]


def test_an_answer_comes_before_the_next_question(typed: subprocess.Popen[bytes]) -> None:
    assert typed.stdin is not None
    for word in ("cafe", "hotel", "library"):
        typed.stdin.write(f"{word}\n".encode())
        typed.stdin.flush()
        assert read_line(typed)["query"] == word
    typed.stdin.close()
    assert typed.wait(60) == 0


def test_an_interruption_leaves_whole_lines(here: Path, quick: tuple[str, ...]) -> None:
    """What there is of a FeatureCollection is ended, so that it can be read."""
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
def test_an_interruption_while_a_slow_reader_is_waited_for(here: Path, quick: tuple[str, ...], unbuffered: str) -> None:
    """The pipe is full and a line is half through it: it still comes out whole."""
    path = write_lines(here / "many.txt", [f"cafe {i}" for i in range(3000)])
    environment = ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered}
    with program("predict", path, "-k", 20, *quick, env=environment, **PIPES) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0]
        while waiting_bytes(process) < 50_000:  # 16 answers, and what the pipe takes of the next ones
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = out.decode().split("\n")
    assert lines.pop() == ""
    assert 0 < len(lines) < 3000
    assert [json.loads(line)["query"] for line in lines] == [f"cafe {i}" for i in range(len(lines))]


def test_a_second_interruption_is_not_held_back() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's signals may be ignored
    seen = []
    with pytest.raises(KeyboardInterrupt), undisturbed():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("goes on")
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("not reached")
    assert seen == ["goes on"]
    with pytest.raises(KeyboardInterrupt), undisturbed():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("whole")
    assert seen == ["goes on", "whole"]
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_many_queries_in_order(here: Path) -> None:
    asked = "".join(f"cafe {i % 7}\n" for i in range(5000))
    found = done(m3gal("predict", "-", "-k", 1, stdin=asked)).lines()
    assert [a["id"] for a in found] == list(range(1, 5001))
    best = {a["query"]: a["matches"] for a in found[:7]}
    assert all(a["matches"] == best[a["query"]] for a in found)


@pytest.mark.parametrize(
    "given", [("--help",), ("--version",), ("predict", "--help"), ("data", "osm", "--help"), ("predict", "-")], ids=str
)
def test_a_reader_that_is_gone_is_no_error(here: Path, quick: tuple[str, ...], given: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # every write fails, whatever the size of the pipe
    process = program(*given, *(quick if given == ("predict", "-") else ()), **PIPES | {"stdout": writer})
    os.close(writer)
    _, err = process.communicate(b"cafe\n" * 3, timeout=60)
    assert process.returncode == 0, err
    assert err.replace(b"checkpoint: runs/only/best (the newest run's best)\n", b"") == b""


# --- progress ------------------------------------------------------------------------------------------------------


def test_progress_in_words() -> None:
    assert told(1234, 100_000, 50.0) == "1,234 of 100,000, 50 a second, 0:32:55 left"
    assert told(7, 0, 2.4) == "7, 2 a second"
    assert told(0, 9, 0.0) == "0 of 9, 0 a second"


def test_a_line_now_and_then_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([100.0, 104.0, 111.0, 112.0, 121.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with RowProgress("encoding POIs") as rows:
        for done_ in (10, 50, 120, 130, 220):
            rows(done_, 430)
    assert capsys.readouterr().err == (
        "encoding POIs: 120 of 430, 10 a second, 0:00:31 left\nencoding POIs: 220 of 430, 10 a second, 0:00:21 left\n"
    )


def test_the_build_tells_how_far_it_is(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setattr(bulk, "SHARD_ROWS", 8)
    err = done(m3gal("predict", "--build-only", "--index-dir", tmp_path / "i")).err
    lines = [line for line in err.splitlines() if line.startswith("encoding POIs: ")]
    assert lines[-1].startswith("encoding POIs: 32 of 32, ")
    assert lines[-1].endswith(" a second, 0:00:00 left")
