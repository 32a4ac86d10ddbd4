"""Collections of Milvus Lite, and of a server if the package milvus is installed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index import milvus_store
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.factory import SearchOptions, make_searcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.milvus import MilvusSearcher, open_milvus
from m3gal_cli.index.milvus_store import MilvusSettings, MilvusStore, collection_name
from m3gal_cli.index.segment import Segment
from m3gal_cli.index.writer import open_writer
from tests.helpers import milvus
from tests.helpers.indexes import (
    GivenVectors,
    Matrix,
    assert_same_as_sorting,
    build,
    index_of,
    index_sources,
    only_segment,
    poi_table,
)
from tests.helpers.milvus import DIM, FILTERS, SIZE, free_port, lite_server, make_index, random_vectors, refused
from tests.helpers.toy_models import ToyEncoder

MISSING = "NOT TESTED with Milvus: pip install 'm3gal[milvus]'"
pytest.importorskip("pymilvus", reason=MISSING)
pytest.importorskip("milvus_lite", reason=MISSING)
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    return make_index(tmp_path_factory.mktemp("index") / "index", random_vectors(0))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """URI and process of a standalone server."""
    try:
        with milvus.standalone(tmp_path_factory.mktemp("milvus")) as started:
            yield started
    except milvus.NotStarted as error:
        pytest.skip(f"NOT TESTED with a Milvus server: {error}")


@pytest.fixture(scope="module", params=["lite", "server"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of an engine. Each test names its collections by indexes of its own."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "server":
            patch.setenv(milvus_store.TOKEN, milvus.TOKEN)
            yield request.getfixturevalue("server")[0]
        else:
            path = tmp_path_factory.mktemp("lite") / "pois.db"
            yield str(path)
            from milvus_lite.server_manager import server_manager_instance

            server_manager_instance.release_server(str(path))


@pytest.fixture
def new_index(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Segment]:
    """Function that makes an index that no other test uses."""
    count = iter(range(100))

    def make(vectors: Matrix, model: str = "model") -> Segment:
        number = next(count)
        return make_index(tmp_path / str(number), vectors, model, f"table {number} of {request.node.name}")

    return make


def assert_exact(searcher: MilvusSearcher, seed: int, filters: list[GeoFilter | None] | None = None) -> None:
    queries = random_vectors(seed, len(filters or [0] * 3))
    assert_same_as_sorting(searcher.search(queries, 10, filters), searcher.segment, queries, 10, filters)


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the first rows of the writes from now on."""
    starts: list[int] = []
    write = MilvusStore._write

    def recording(self: MilvusStore, start: int, progress: Any) -> None:
        starts.append(start)
        write(self, start, progress)

    monkeypatch.setattr(MilvusStore, "_write", recording)
    return starts


def test_results_equal_exact_search_and_entities_hold_the_pois(engine: str, segment: Segment) -> None:
    searcher = open_milvus(segment, engine)
    assert_exact(searcher, 1)
    assert_exact(searcher, 2, [*FILTERS.values(), None])
    fields = ["row", "vector", "lng", "lat", "address"]
    (entity,) = searcher.store.client.query(searcher.store.name, "row == 123", fields, consistency_level="Strong")
    poi = segment.pois.slice(123, 1).to_pylist()[0]
    assert {name: entity[name] for name in ("address", "lng", "lat")} == {k: poi[k] for k in ("address", "lng", "lat")}
    assert np.asarray(entity["vector"], np.float32).tolist() == segment.vectors(np.array([123]))[0].tolist()
    searcher.close()


def test_a_graph_proposes_most_of_the_best(engine: str, new_index: Callable[..., Segment]) -> None:
    """Milvus Lite scans all vectors at any size."""
    segment, queries = new_index(random_vectors(10, 2000)), random_vectors(11, 20)
    searcher = open_milvus(segment, engine, settings=MilvusSettings(max_flat_rows=100))
    kind = searcher.store.client.describe_index(searcher.store.name, "vector")["index_type"]
    assert kind == ("FLAT" if searcher.store.lite else "HNSW")
    found, expected = searcher.search(queries, 10), ExactSearcher(segment).search(queries, 10)
    recalls = [np.isin(a, b).mean() for a, b in zip(expected.rows, found.rows, strict=True)]
    assert np.mean(recalls) >= 0.95
    assert (np.diff(found.scores) <= 0).all()
    searcher.close()


def test_former_collections_of_the_same_index_are_dropped(engine: str, new_index: Callable[..., Segment]) -> None:
    """They are dropped once the new collection is filled; all other collections stay."""
    from pymilvus import DataType

    segment, beside = new_index(random_vectors(31, 40)), new_index(random_vectors(32, 40), "another model")
    searchers = [open_milvus(segment, engine), open_milvus(beside, engine)]
    client, old = searchers[0].store.client, collection_name(segment)
    same_owner = {"properties": {milvus_store.OWNER: milvus_store.owner_of(segment)}}
    foreign = {"mine": same_owner, f"{old}_x": same_owner, "m3gal_0123456789abcdef_0123456789abcdef": {}}
    for name, properties in foreign.items():
        schema = client.create_schema()
        schema.add_field("row", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        client.create_collection(name, schema=schema, **properties)
    before = set(client.list_collections())
    record = json.loads((segment.path / "segment.json").read_text())
    record["model"]["sha256"] = "a later model"
    (segment.path / "segment.json").write_text(json.dumps(record))
    later = Segment(segment.path)
    MilvusStore(later, engine, MilvusSettings()).close()
    assert set(client.list_collections()) == before | {collection_name(later)}
    searchers.append(open_milvus(later, engine))
    assert set(client.list_collections()) == before - {old} | {collection_name(later)}
    for searcher in searchers[1:]:
        assert_exact(searcher, 33)
    for name in foreign:
        client.drop_collection(name)
    for searcher in searchers:
        searcher.close()


def test_an_updated_index_has_a_collection_for_each_segment(engine: str, tmp_path: Path) -> None:
    """Deleted POIs and duplicates are not found; collections of merged segments are dropped."""
    path, encoder = tmp_path / "index", ToyEncoder(8)
    pois = poi_table(400, seed=77).assign(address=[f"milvus {i % 90}" for i in range(400)])
    index_of(path, pois, encoder, 64)
    queries = encoder.encode_queries(["a", "b", "c"])
    kept: set[str] = set()
    for step in (
        lambda writer: writer.delete(range(0, 400, 2)),
        lambda writer: writer.upsert(pois[:90].assign(poi_id=range(1000, 1090))),
        lambda writer: writer.delete(range(1, 80)),
        lambda writer: writer.compact(),
    ):
        with open_writer(path, lambda: encoder, shard_rows=64) as writer:
            step(writer)
        index = Index(path)
        searcher: Any = make_searcher(
            SearchOptions("milvus", uri=engine), index, encoder, lambda: torch.device("cpu"), print, lambda *_: None
        )
        for filters in (None, [None, *list(FILTERS.values())[:2]]):
            assert_same_as_sorting(searcher.search(queries, 150, filters), index, queries, 150, filters)
        opened = getattr(searcher, "searchers", [searcher])
        names = {collection_name(segment) for segment in index.segments}
        assert names <= set(opened[0].store.client.list_collections())
        assert not (kept - names) & set(opened[0].store.client.list_collections())
        kept |= names
        for own in opened:
            own.close()
    assert len(kept) == 3


KILLED = """
import os, signal, sys
from pathlib import Path
from m3gal_cli.index.segment import Segment
from m3gal_cli.index.milvus import open_milvus
from m3gal_cli.index.milvus_store import MilvusSettings

def progress(done, total):
    print(done, flush=True)
    if done >= 150:
        os.kill(os.getpid(), signal.SIGKILL)

open_milvus(Segment(Path(sys.argv[1])), sys.argv[2], progress, MilvusSettings(batch_rows=50))
"""


def test_a_killed_fill_is_resumed(
    engine: str, tmp_path: Path, new_index: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = str(tmp_path / "pois.db") if engine.endswith(".db") else engine
    segment, settings = new_index(random_vectors(12)), MilvusSettings(batch_rows=50)
    command = [sys.executable, "-c", KILLED, str(segment.path), uri]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (killed.returncode, killed.stdout.split()) == (-signal.SIGKILL, ["0", "50", "100", "150"])
    reported: list[int] = []
    for expected in ([*range(150, SIZE + 1, 50)], [SIZE]):
        reported.clear()
        searcher = open_milvus(segment, uri, lambda done, total: reported.append(done), settings)
        assert reported == expected
        assert_exact(searcher, 13)
        searcher.close()


def test_missing_rows_are_written_again_and_rows_of_another_program_are_reported(
    engine: str, new_index: Callable[..., Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, settings = new_index(random_vectors(14)), MilvusSettings(batch_rows=50)
    searcher = open_milvus(segment, engine, settings=settings)
    searcher.store.client.delete(searcher.store.name, ids=[3, 129, 130, 500])
    searcher.close()
    starts = record_writes(monkeypatch)
    searcher = open_milvus(segment, engine, settings=settings)
    assert starts == [650, 0]
    assert_exact(searcher, 15)
    entity = {"row": SIZE + 9, "vector": [9.0] * DIM, "lng": 0.0, "lat": 0.0, "address": ""}
    searcher.store.client.upsert(searcher.store.name, [entity])
    with refused(engine, f"{SIZE + 1} rows", f"the segment {SIZE}"):
        open_milvus(segment, engine)
    assert_exact(searcher, 24)
    searcher.close()


def test_an_address_longer_than_milvus_stores_is_reported(tmp_path: Path) -> None:
    pois = poi_table(3).assign(address=["0", "1", "2" * 70_000])
    sources = index_sources(pois, GivenVectors(random_vectors(0, 3)))
    sources.load_encoder().encode_poi_texts = lambda texts, progress: random_vectors(0, 3)  # type: ignore[method-assign]
    index = build(tmp_path / "index", sources)
    assert index is not None
    segment = only_segment(index)
    with refused("poi_id 2", "65,535 bytes"):
        open_milvus(segment, str(tmp_path / "pois.db"))


def test_unusable_paths_are_reported(segment: Segment, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with refused(str(tmp_path / "none"), "no such folder"):
        open_milvus(segment, str(tmp_path / "none" / "pois.db"))
    (tmp_path / "pois.db").write_text("a file of another program")
    with refused(str(tmp_path / "pois.db"), "Another process"):
        open_milvus(segment, str(tmp_path / "pois.db"))
    assert "Traceback" not in "".join(capfd.readouterr())
    assert (tmp_path / "pois.db").read_text() == "a file of another program"


def test_a_missing_or_silent_server_is_reported_in_time(segment: Segment, capfd: pytest.CaptureFixture[str]) -> None:
    with refused(f"http://127.0.0.1:{(port := free_port())}", "no Milvus server answers"):
        open_milvus(segment, f"http://somebody:secret@127.0.0.1:{port}")
    with socket.socket() as silent_server:
        silent_server.bind(("127.0.0.1", 0))
        silent_server.listen()
        with refused("no Milvus server answers", "0.5 s", within_s=3):
            uri = f"http://127.0.0.1:{silent_server.getsockname()[1]}"
            open_milvus(segment, uri, settings=MilvusSettings(timeout_s=0.5))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_lost_connection_is_reported_and_the_fill_is_resumed(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = MilvusSettings(timeout_s=2.0, batch_rows=100)
    with lite_server(tmp_path / "data", free_port()) as (uri, process):

        def kill(done: int, total: int) -> None:
            if done == 200:
                process.kill()
                process.wait()

        with refused(uri, "no Milvus server answers", "the next start continues"):
            open_milvus(segment, uri, kill, settings)
    with lite_server(tmp_path / "data", free_port()) as (uri, process):
        starts = record_writes(monkeypatch)
        searcher = open_milvus(segment, uri, settings=settings)
        assert starts == [200]
        assert_exact(searcher, 26)
        process.send_signal(signal.SIGSTOP)
        with refused(uri, "no Milvus server answers"):
            assert_exact(searcher, 26)
        process.send_signal(signal.SIGCONT)
        assert_exact(searcher, 26)
        process.kill()
        process.wait()
        with refused(uri, "no Milvus server answers"):
            assert_exact(searcher, 26)
        searcher.close()
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("token", "words"), [("", "requires a token"), ("root:no", "refuses the token")])
def test_a_wrong_token_is_reported(
    server: tuple[str, Any], segment: Segment, monkeypatch: pytest.MonkeyPatch, token: str, words: str
) -> None:
    monkeypatch.setenv(milvus_store.TOKEN, token)
    with refused(server[0], words, milvus_store.TOKEN):
        open_milvus(segment, server[0])
