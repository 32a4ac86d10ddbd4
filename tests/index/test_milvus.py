"""Milvus against sorting and against loops: by Milvus Lite, and by a real server where ``make milvus`` starts one."""

from __future__ import annotations

import json
import math
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M
from m3gal_cli.geo.filters import Area
from m3gal_cli.index import milvus, milvus_store
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.index import FORMAT, Index, rest_path, shard_path
from m3gal_cli.index.milvus import MilvusSearcher, expression, open_milvus
from m3gal_cli.index.milvus_store import Store, collection_name, shown
from tests.helpers.milvus_server import TOKEN, NotStarted, free_port, lite_server, standalone

MISSING = "NOT TESTED with Milvus: pip install 'm3gal[milvus]'"
pytest.importorskip("pymilvus", reason=MISSING)
pytest.importorskip("milvus_lite", reason=MISSING)

SIZE, DIM = 700, 8
ENGINES = ["lite", pytest.param("server", marks=pytest.mark.milvus_server)]


def made_index(folder: Path, vectors: np.ndarray, model: str = "a model", table: str = "a table") -> Index:
    """An index of these vectors; every third POI lies within 2° of the 180th meridian, the others anywhere."""
    draw = np.random.default_rng(len(vectors))
    lng, lat = draw.uniform(-180, 180, len(vectors)), draw.uniform(-90, 90, len(vectors))
    lng[::3] = (draw.uniform(178, 182, len(lng[::3])) + 180) % 360 - 180
    address = [f"北门 {row} \"'" for row in range(len(vectors))]
    pois = pd.DataFrame({"poi_id": range(len(vectors)), "address": address, "lng": lng, "lat": lat})
    shard_path(folder, 0).parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pandas(pois), folder / "pois.parquet")
    for number, first in enumerate(range(0, len(vectors), 256)):
        part = vectors[first : first + 256]
        np.save(shard_path(folder, number), part.astype(np.float16))
        np.save(rest_path(folder, number), (part - part.astype(np.float16)).astype(np.float16))
    rounded = vectors.astype(np.float16).astype(np.float64)
    norm, rest = (float(np.linalg.norm(rows, axis=1).max()) for rows in (rounded, vectors - rounded))
    manifest = {"format": FORMAT, "rows": len(vectors), "dim": vectors.shape[1], "shard_rows": 256}
    manifest |= {
        "largest_norm": norm,
        "largest_rest": 1.001 * rest,
        "model": {"sha256": model, "files": [[str(folder), 1, 2]], "also": {}},
    }
    manifest |= {"table": {"sha256": table, "files": [], "also": {"datum": "wgs84"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return Index(folder)


def drawn(seed: int, size: int = SIZE, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, dim)).astype(np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """A standalone server for the module."""
    context = standalone(tmp_path_factory.mktemp("milvus"))
    try:
        started = context.__enter__()
    except NotStarted as error:
        pytest.skip(f"NOT TESTED with a Milvus server: {error}")
    yield started
    context.__exit__(None, None, None)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A URI. Collections are known by their index: every test makes indexes of names of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "server":
            patch.setenv(milvus_store.TOKEN, TOKEN)
            yield request.getfixturevalue("server")[0]
        else:
            place = tmp_path_factory.mktemp("lite") / "pois.db"
            yield str(place)
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(str(place))


@pytest.fixture
def fresh(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Index]:
    """Makes indexes that no other test has."""
    made: list[Index] = []

    def make(vectors: np.ndarray, model: str = "a model", table: str = "a table") -> Index:
        made.append(made_index(tmp_path / str(len(made)), vectors, model, f"{table} of {request.node.name}"))
        return made[-1]

    return make


@pytest.fixture(scope="module")
def searcher(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusSearcher]:
    """Over vectors without ties."""
    found = open_milvus(made_index(tmp_path_factory.mktemp("index") / "index", drawn(0)), engine)
    yield found
    found.close()


@pytest.fixture
def asked(searcher: MilvusSearcher, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """Calls of the engine: queries, limit, condition."""
    calls: list[tuple[int, int, str]] = []
    hits = searcher.store.hits

    def noted(queries: np.ndarray, limit: int, condition: str) -> Any:
        calls.append((len(queries), limit, condition))
        return hits(queries, limit, condition)

    monkeypatch.setattr(searcher.store, "hits", noted)
    return calls


def sorted_rows(index: Index, query: np.ndarray, k: int, among: list[int] | None = None) -> list[int]:
    """The k best by float64 products, ties by number."""
    vectors = index.vectors(np.arange(len(index))).astype(np.float64)
    rows = range(len(index)) if among is None else among
    return sorted(rows, key=lambda row: (-float(vectors[row] @ query.astype(np.float64)), row))[:k]


def same(searcher: MilvusSearcher, queries: np.ndarray, k: int, areas: list[Area | None] | None = None) -> np.ndarray:
    """Rows that Milvus finds; they and their scores are those of exact search, to the bit."""
    found, wanted = searcher.search(queries, k, areas), ExactSearcher(searcher.index).search(queries, k, areas)
    assert found.rows.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert found.rows.tolist() == wanted.rows.tolist()
    assert found.scores.tobytes() == wanted.scores.tobytes()
    return found.rows


@pytest.mark.parametrize("k", [1, 10, 60])
def test_rows_and_scores_are_those_of_a_sort(searcher: MilvusSearcher, k: int) -> None:
    queries = drawn(1, 5)
    rows = same(searcher, queries, k)
    assert rows.tolist() == [sorted_rows(searcher.index, query, k) for query in queries]


def test_equal_scores_stand_in_the_order_of_the_index(engine: str, fresh: Callable[..., Index]) -> None:
    small = np.random.default_rng(2).integers(-1, 2, (SIZE, 3)).astype(np.float32)  # 27 vectors, each some 26 times
    searcher = open_milvus(fresh(small), engine)
    queries = np.random.default_rng(3).integers(-2, 3, (4, 3)).astype(np.float32)
    queries[3] = 0  # all are equal
    rows = same(searcher, queries, 10)
    assert rows.tolist() == [sorted_rows(searcher.index, query, 10) for query in queries]
    assert rows[3].tolist() == list(range(10))
    searcher.close()


@pytest.mark.parametrize("k", [40, SIZE + 5])
def test_more_than_milvus_gives(
    searcher: MilvusSearcher, monkeypatch: pytest.MonkeyPatch, asked: list[Any], k: int
) -> None:
    monkeypatch.setattr(milvus, "MOST_HITS", 30)
    rows = same(searcher, drawn(4, 2), k, [None, Area((-90.0, -80.0, 90.0, 80.0))])
    assert {limit for _, limit, _ in asked} == {30}
    assert (rows[0] >= 0).sum() == min(k, SIZE)


def angle(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    """Between two places as seen from the centre of the Earth, by vectors."""
    a, b = (
        np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])
        for x, y in ((math.radians(lng1), math.radians(lat1)), (math.radians(lng2), math.radians(lat2)))
    )
    return math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def by_loop(index: Index, area: Area) -> list[int]:
    """Rows in an area."""
    inside = []
    for row in range(len(index)):
        lng, lat = float(index.lng[row]), float(index.lat[row])
        if area.box is not None:
            west, south, east, north = area.box
            turn = (lng - west) % 360 <= (east - west) % 360 or lng in (west, east)
            if not (south <= lat <= north and turn):
                continue
        if area.centre is not None and angle(lng, lat, *area.centre) * EARTH_RADIUS_M > area.within_m:
            continue
        inside.append(row)
    return inside


AREAS = {
    "a box": Area((-60.5, -33.25, 77.75, 41.0)),
    "a box across the 180th meridian": Area((178.9, -60.0, -178.7, 60.0)),
    "a circle": Area(None, (10.0, 20.0), 4_000_000.0),
    "a circle across the 180th meridian": Area(None, (179.9, 5.0), 2_000_000.0),
    "a circle around a pole": Area(None, (33.0, 88.0), 1_500_000.0),
    "a circle and a box": Area((178.0, -90.0, -170.0, 0.0), (-179.0, 10.0), 4_500_000.0),
    "a corner of a circle's box": Area((178.0, -25.0, -178.0, 45.0), (-140.0, 10.0), 4_500_000.0),
    "nothing": Area((0.0, 0.0, 1e-12, 1e-12)),
}


@pytest.mark.parametrize("name", AREAS)
@pytest.mark.parametrize("k", [3, 1000])
def test_areas_against_a_loop(searcher: MilvusSearcher, asked: list[Any], name: str, k: int) -> None:
    index, area, queries = searcher.index, AREAS[name], drawn(5, 3)
    inside = by_loop(index, area)
    assert name == "nothing" or 3 < len(inside) < SIZE
    rows = same(searcher, queries, k, [area] * 3)
    wanted = [sorted_rows(index, query, k, inside) for query in queries]
    assert [line[line >= 0].tolist() for line in rows] == wanted
    assert {condition for _, _, condition in asked} == {expression(area)}, "the engine is told of the area"


def test_edges_belong_to_a_box(searcher: MilvusSearcher) -> None:
    index, row = searcher.index, 5
    lng, lat = float(index.lng[row]), float(index.lat[row])
    assert same(searcher, drawn(6, 1), 3, [Area((lng, lat, lng, lat))])[0].tolist() == [row, -1, -1]
    beside = Area((float(np.nextafter(lng, 181)), -90.0, 180.0, 90.0))
    assert row not in same(searcher, drawn(6, 1), SIZE, [beside])[0]


def test_more_is_asked_for_until_there_is_enough(
    searcher: MilvusSearcher, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    monkeypatch.setattr(milvus, "SPARE", 0)
    area = AREAS["a corner of a circle's box"]
    assert len(by_loop(searcher.index, area)) < len(by_loop(searcher.index, Area(area.box))) / 2
    same(searcher, drawn(7, 4), 2, [area] * 4)
    assert [limit for _, limit, _ in asked][:2] == [4, 16]


def test_each_query_has_its_own_area(
    searcher: MilvusSearcher, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    monkeypatch.setattr(milvus, "HITS_AT_ONCE", 40)
    areas = [AREAS["a box"], None, AREAS["a circle"], AREAS["a box"], None, None, AREAS["nothing"]]
    rows = same(searcher, drawn(8, 7), 4, areas)
    assert (rows[[1, 4, 5]] >= 0).all()
    assert (rows[6] == -1).all()
    assert sum(count for count, limit, _ in asked if limit in (20, 24)) >= 7
    assert max(count for count, _, _ in asked) == 2


def test_nothing_in_nothing_out(searcher: MilvusSearcher, asked: list[Any]) -> None:
    assert searcher.search(np.zeros((0, DIM), np.float32), 3).rows.shape == (0, 3)
    assert searcher.search(drawn(9, 2), 0).scores.shape == (2, 0)
    assert asked == []


def test_a_graph_proposes_most_of_the_best(
    engine: str, fresh: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_store, "FLAT_ROWS", 100)
    searcher, queries = open_milvus(fresh(drawn(10, 2000)), engine), drawn(11, 20)
    kind = searcher.store._client.describe_index(searcher.store.name, "vector")["index_type"]
    assert kind == ("FLAT" if searcher.store.lite else "HNSW")
    found, wanted = searcher.search(queries, 10), ExactSearcher(searcher.index).search(queries, 10)
    shares = [len(set(a) & set(b)) / 10 for a, b in zip(found.rows.tolist(), wanted.rows.tolist(), strict=True)]
    assert np.mean(shares) >= 0.95
    exact = np.einsum("qd,qkd->qk", queries, searcher.index.vectors(found.rows.reshape(-1)).reshape(20, 10, DIM))
    np.testing.assert_allclose(found.scores, exact, rtol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    searcher.close()


# What is in the collection.


def test_others_can_use_the_collection(searcher: MilvusSearcher) -> None:
    store, index = searcher.store, searcher.index
    fields = ["row", "vector", "lng", "lat", "address"]
    (line,) = store._query("row == 123", fields)
    assert line["address"] == index.poi(123)["address"]
    assert (line["lng"], line["lat"]) == (index.lng[123], index.lat[123])
    assert np.asarray(line["vector"], np.float32).tolist() == index.vectors(np.array([123]))[0].tolist()


def test_what_an_index_was_before_is_dropped(fresh: Callable[..., Index], engine: str, tmp_path: Path) -> None:
    """Of the same folder, once the new collection is whole; all else that lies in the engine stays."""
    from pymilvus import DataType

    index, beside = fresh(drawn(31, 40)), fresh(drawn(32, 40), "another model")
    searchers = [open_milvus(index, engine), open_milvus(beside, engine)]
    client, old = searchers[0].store._client, collection_name(index)
    same_owner = {"properties": {milvus_store.OWNER: milvus_store.owner(index)}}
    foreign = ["mine", f"{old}_x", "m3gal_0123456789abcdef_0123456789abcdef"]
    for name in foreign:
        schema = client.create_schema()
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        client.create_collection(name, schema=schema, **(same_owner if name != foreign[-1] else {}))
    before = set(client.list_collections())
    assert before >= {old, collection_name(beside), *foreign}
    manifest = json.loads((index.path / "manifest.json").read_text())
    manifest["model"]["sha256"] = "a later model"
    (index.path / "manifest.json").write_text(json.dumps(manifest))
    later = Index(index.path)
    half = Store(later, engine)
    assert set(client.list_collections()) == before | {collection_name(later)}, "not before the new one is whole"
    half.close()
    searchers.append(open_milvus(later, engine))
    assert set(client.list_collections()) == before - {old} | {collection_name(later)}
    same(searchers[-1], drawn(33, 3), 5)
    same(searchers[1], drawn(33, 3), 5)
    for name in foreign:
        client.drop_collection(name)
    for searcher in searchers:
        searcher.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from m3gal_cli.index import milvus_store
from m3gal_cli.index.index import Index
from m3gal_cli.index.milvus import open_milvus

milvus_store.BATCH_ROWS = 50

def progress(done, total):
    print(done, total, flush=True)
    if done >= 150:
        os.kill(os.getpid(), signal.SIGKILL)

open_milvus(Index(Path(sys.argv[1])), sys.argv[2], progress)
"""


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that are written from now on."""
    rows: list[int] = []
    write = Store._write

    def noted(self: Store, own: np.ndarray) -> None:
        rows.extend(own.tolist())
        write(self, own)

    monkeypatch.setattr(Store, "_write", noted)
    return rows


def test_a_killed_start_is_gone_on_with(
    tmp_path: Path, request: pytest.FixtureRequest, fresh: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = request.getfixturevalue("engine")
    engine = str(tmp_path / "pois.db") if engine.endswith(".db") else engine
    monkeypatch.setattr(milvus_store, "BATCH_ROWS", 50)
    index = fresh(drawn(12))
    line = [sys.executable, "-c", KILLED, str(index.path), engine]
    killed = subprocess.run(line, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.splitlines() == [f"{done} {SIZE}" for done in (0, 50, 100, 150)]
    told: list[tuple[int, int]] = []
    written = watched(monkeypatch)
    searcher = open_milvus(index, engine, lambda done, total: told.append((done, total)))
    assert told == [(done, SIZE) for done in range(150, SIZE + 1, 50)]
    assert written == list(range(150, SIZE)), "what was there is not written again"
    same(searcher, drawn(13, 3), 10)
    searcher.close()
    told.clear()
    written.clear()
    searcher = open_milvus(index, engine, lambda done, total: told.append((done, total)))
    assert (told, written) == ([(SIZE, SIZE)], [])
    same(searcher, drawn(13, 3), 10)
    searcher.close()


def test_rows_that_are_missing_anywhere_are_written(
    engine: str, fresh: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_store, "BATCH_ROWS", 50)
    monkeypatch.setattr(milvus_store, "RANGE_ROWS", 128)
    index = fresh(drawn(14))
    searcher = open_milvus(index, engine)
    lost = [3, 129, 130, 500]
    searcher.store._client.delete(searcher.store.name, ids=lost)
    searcher.close()
    written = watched(monkeypatch)
    searcher = open_milvus(index, engine)
    assert written == [*range(650, SIZE), *lost]
    same(searcher, drawn(15, 3), 10)
    searcher.close()


def test_another_model_or_table_has_another_collection(engine: str, fresh: Callable[..., Index]) -> None:
    indexes = [fresh(drawn(16, 60)), fresh(drawn(17, 60), model="b"), fresh(drawn(18, 60), table="c")]
    searchers = [open_milvus(index, engine) for index in indexes]
    assert len({s.store.name for s in searchers}) == 3
    for searcher in (*searchers, *searchers):
        same(searcher, drawn(19, 2), 5)
    for searcher in searchers:
        searcher.close()


def test_the_name_is_that_of_content_alone(tmp_path: Path) -> None:
    one, other = (made_index(tmp_path / name, drawn(20, 10)) for name in ("one", "other"))
    assert one.manifest["model"] != other.manifest["model"], "they lie in other files"
    assert collection_name(one) == collection_name(other)
    larger = made_index(tmp_path / "larger", drawn(20, 11))
    wider = made_index(tmp_path / "wider", drawn(20, 10, DIM + 1))
    assert len({collection_name(index) for index in (one, larger, wider)}) == 3


# What goes wrong.


@contextmanager
def refused(*words: str, within_s: float = 10.0) -> Iterator[None]:
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        yield
    assert time.monotonic() - start < within_s
    text = str(error.value)
    for word in (*words, "\n"):
        assert word in text
    assert error.value.hint
    assert "root:" not in text, "a token is not told"


def test_vectors_of_another_dimension(searcher: MilvusSearcher, engine: str, fresh: Callable[..., Index]) -> None:
    with refused("9 dimensions", "of 8", "model that made the index"):
        searcher.search(drawn(21, 1, DIM + 1), 3)
    index = fresh(drawn(22, 20))
    client = searcher.store._client
    client.create_collection(collection_name(index), dimension=5, primary_field_name="row")
    with refused(engine, "not m3gal's", "Drop the collection"):
        open_milvus(index, engine)
    client.drop_collection(collection_name(index))
    schema = searcher.store._schema()
    next(field for field in schema.fields if field.name == "vector").params["dim"] = 5
    client.create_collection(collection_name(index), schema=schema)
    with refused(engine, "5 dimensions", "of 8", "Drop the collection"):
        open_milvus(index, engine)


def test_rows_of_somebody_else(searcher: MilvusSearcher, engine: str, fresh: Callable[..., Index]) -> None:
    index = fresh(drawn(23, 20))
    own = open_milvus(index, engine)
    line = {"row": 99, "vector": [9.0] * DIM, "lng": 0.0, "lat": 0.0, "address": ""}
    own.store._client.upsert(own.store.name, [line])
    with refused(engine, "21 rows", "the index 20"):
        open_milvus(index, engine)
    same(own, np.ones((1, DIM), np.float32), 3)
    own.close()


def test_a_text_longer_than_milvus_takes(
    engine: str, fresh: Callable[..., Index], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milvus_store, "ADDRESS_BYTES", 11)  # "北门 " is 7 bytes, the quotes 3
    with refused("poi_id 10", "11 bytes"):
        open_milvus(fresh(drawn(24, 20)), engine)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return made_index(tmp_path / "index", drawn(25, 300))


@pytest.mark.parametrize("uri", ["pois.sqlite", "", "ftp://127.0.0.1:19530", "127.0.0.1:1", "http://", "http://a:b"])
def test_no_place_for_milvus(index: Index, uri: str) -> None:
    with refused(repr(uri), ".db", "http://host:19530"):
        open_milvus(index, uri)


def test_a_path_that_milvus_lite_cannot_use(index: Index, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with refused(str(tmp_path / "none"), "no such folder"):
        open_milvus(index, str(tmp_path / "none" / "pois.db"))
    (tmp_path / "pois.db").write_text("a file of something else")
    with refused(str(tmp_path / "pois.db"), "another process"):
        open_milvus(index, str(tmp_path / "pois.db"))
    assert "Traceback" not in "".join(capfd.readouterr())
    assert (tmp_path / "pois.db").read_text() == "a file of something else"


def test_without_the_extra(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, uri in (("milvus_lite", str(tmp_path / "pois.db")), ("pymilvus", "http://127.0.0.1:1")):
        monkeypatch.setitem(sys.modules, package, None)
        with refused(package, "pip install 'm3gal[milvus]'"):
            open_milvus(index, uri)


def test_no_server(index: Index, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    with refused(f"http://127.0.0.1:{(port := free_port())}", "no Milvus server answers"):
        open_milvus(index, f"http://somebody:secret@127.0.0.1:{port}")
    assert milvus_store.TIMEOUT_S < 10
    monkeypatch.setattr(milvus_store, "TIMEOUT_S", 0.5)
    with socket.socket() as silent_server:
        silent_server.bind(("127.0.0.1", 0))
        silent_server.listen()
        with refused("no Milvus server answers", "0.5 s", within_s=3):
            open_milvus(index, f"http://127.0.0.1:{silent_server.getsockname()[1]}")
    assert "Traceback" not in "".join(capfd.readouterr())


def test_passwords_in_a_uri_are_not_shown() -> None:
    assert shown("https://user:p@ss@host:19530/db") == "https://host:19530/db"
    assert shown("./pois@home.db") == "./pois@home.db"


def test_a_lost_connection(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(milvus_store, "BATCH_ROWS", 100)
    monkeypatch.setattr(milvus_store, "TIMEOUT_S", 2.0)
    with lite_server(tmp_path / "data", free_port()) as (uri, process):

        def kill(done: int, total: int) -> None:
            if done == 200:
                process.kill()
                process.wait()

        with refused(uri, "no Milvus server answers", "a next start goes on"):
            open_milvus(index, uri, kill)
    with lite_server(tmp_path / "data", free_port()) as (uri, process):
        written = watched(monkeypatch)
        searcher = open_milvus(index, uri)
        assert written == list(range(200, 300))
        same(searcher, drawn(26, 2), 5)
        process.send_signal(signal.SIGSTOP)
        with refused(uri, "no Milvus server answers"):
            searcher.search(drawn(26, 2), 5)
        process.send_signal(signal.SIGCONT)
        same(searcher, drawn(26, 2), 5)
        process.kill()
        process.wait()
        with refused(uri, "no Milvus server answers"):
            searcher.search(drawn(26, 2), 5)
        searcher.close()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.milvus_server
@pytest.mark.parametrize(("token", "said"), [("", "wants a token"), ("root:no", "not take the token"), ("key", "not")])
def test_a_wrong_token(
    server: tuple[str, Any], index: Index, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    monkeypatch.setenv(milvus_store.TOKEN, token)
    with refused(server[0], said, milvus_store.TOKEN):
        open_milvus(index, server[0])


@pytest.mark.milvus_server
def test_a_server_that_hangs(server: tuple[str, Any], index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(milvus_store.TOKEN, TOKEN)
    uri, process = server
    searcher = open_milvus(index, uri)
    process.send_signal(signal.SIGSTOP)
    try:
        with refused(uri, "no Milvus server answers", within_s=12):
            searcher.search(drawn(27, 1), 3)
        with refused(uri, "no Milvus server answers", within_s=12):
            open_milvus(index, uri)
    finally:
        process.send_signal(signal.SIGCONT)
    same(searcher, drawn(27, 1), 3)
    searcher.close()
