"""Building an index: by one process or several, killed at any moment, on a full disk, stale, or in a foreign folder."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli import files as data_files
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.index import builder as bulk
from m3gal_cli.index.builder import Share, Sources
from m3gal_cli.index.index import Index
from tests.helpers.disk_events import code_of, in_child, listening
from tests.helpers.indexes import Given, build, index_of, sources_of, table_of
from tests.helpers.toy_models import ToyEncoder

POIS = table_of(30)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refuse() -> Any:
    raise AssertionError("asked for without need")


def test_a_whole_index_needs_neither_table_nor_model(tmp_path: Path) -> None:
    sources = sources_of(POIS, ToyEncoder())
    build(tmp_path / "index", sources, 8)
    before = content(tmp_path)
    assert set(before) == {
        *("index/manifest.json", "index/pois.parquet"),
        *(f"index/vectors/00000{i}{end}.npy" for i in range(4) for end in ("", ".rest")),
    }
    said: list[str] = []
    again = build(tmp_path / "index", Sources(sources.model, sources.table, refuse, refuse), 8, said)
    assert again is not None
    assert (len(again), said) == (30, [])
    assert content(tmp_path) == before


def test_rows_equal_in_text_and_place_are_one(tmp_path: Path) -> None:
    pois = pd.concat([POIS, POIS.assign(poi_id=POIS["poi_id"] + 100), POIS[:3].assign(lng=1.0)], ignore_index=True)
    index = index_of(tmp_path / "index", pois, ToyEncoder(), 8)
    assert index.pois["poi_id"].to_pylist() == [*range(30), 0, 1, 2]


@pytest.mark.parametrize("shard_rows", [1, 29, 30, 31])
def test_the_size_of_shards_changes_no_vector(tmp_path: Path, shard_rows: int) -> None:
    index = index_of(tmp_path / "index", POIS, ToyEncoder(), shard_rows)
    wanted = index_of(tmp_path / "other", POIS, ToyEncoder(), 7)
    assert index.vectors(np.arange(30)).tolist() == wanted.vectors(np.arange(30)).tolist()


@pytest.mark.parametrize(
    ("model", "table", "words"),
    [
        ("other", "table", "an index of another model"),
        ("model", "other", "an index of another table"),
        ("other", "other", "an index of another model and another table"),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_a_stale_index_is_named_and_made_anew(tmp_path: Path, model: str, table: str, words: str, half: bool) -> None:
    path, said = tmp_path / "index", list[str]()
    index_of(path, POIS, ToyEncoder(), 8)
    if half:
        (path / "manifest.json").rename(path / "building.json")
        (path / "vectors" / "000002.npy").unlink()
    index = build(path, sources_of(POIS[:9], ToyEncoder(4), model, table), 8, said)
    assert said == [f"index {path}: {words}; it is made anew"]
    assert index is not None
    assert (len(index), index.dim) == (9, 4)
    assert os.listdir(tmp_path) == ["index"]


def test_an_index_of_another_format(tmp_path: Path) -> None:
    path, said = tmp_path / "index", list[str]()
    index_of(path, POIS, ToyEncoder(), 8)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 0}))
    build(path, sources_of(POIS, ToyEncoder()), 8, said)
    assert said == [f"index {path}: an index of another version of m3gal; it is made anew"]
    assert json.loads((path / "manifest.json").read_text()) == manifest


@pytest.mark.parametrize("kind", ["files", "a file", "json"])
def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "index"
    if kind == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        (path / ("manifest.json" if kind == "json" else "letter.txt")).write_text("{}")
    before = content(tmp_path)
    with pytest.raises(InputError, match="holds something else than an index"):
        build(path, sources_of(POIS, ToyEncoder()), 8)
    assert content(tmp_path) == before


def test_shards_of_other_measures_are_not_taken(tmp_path: Path) -> None:
    """Of the same model and table, but begun with shards of another size."""
    path, wanted = tmp_path / "index", index_of(tmp_path / "wanted", POIS, ToyEncoder(), 8)
    index_of(path, POIS, ToyEncoder(), 5)
    (path / "manifest.json").rename(path / "building.json")
    index_of(path, POIS, ToyEncoder(), 8)
    assert content(path) == content(wanted.path)


def test_killed_at_every_single_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever it dies, the next start makes the very index, and nothing else is left."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    wanted = content(index_of(tmp_path / "wanted", POIS, ToyEncoder(), 15).path)
    sources, changes = sources_of(POIS, ToyEncoder()), 0
    goes_on = 0
    while True:
        path, said = tmp_path / f"index {changes}", list[str]()
        left = [changes]

        def die(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)

        def work(path: Path = path, die: Callable[[], None] = die) -> None:
            listening(die, lambda: build(path, sources, 15))

        code = code_of(in_child(work))
        build(path, sources, 15, said)
        assert content(path) == wanted, changes
        goes_on += any("goes on after" in line for line in said)
        shutil.rmtree(path)
        if code == 0:
            break
        assert code == 9
        changes += 1
    assert changes > 30
    assert goes_on > 20, "most deaths leave something to go on with"


def test_what_is_gone_on_with(tmp_path: Path) -> None:
    path, said = tmp_path / "index", list[str]()
    index_of(path, POIS, ToyEncoder(), 8)
    (path / "manifest.json").rename(path / "building.json")
    for number in (1, 3):
        (path / "vectors" / f"00000{number}.npy").unlink()
    told: list[tuple[int, int]] = []

    class Telling(ToyEncoder):
        def poi_texts(self, texts: Any, progress: Any = None) -> Any:
            for done in range(1, len(texts) + 1):
                progress(done, len(texts))
            return super().poi_texts(texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "SHARD_ROWS", 8)
        bulk.open_or_build(path, sources_of(POIS, Telling()), said.append, lambda *rows: told.append(rows))
    assert said == [f"index {path}: goes on after 16 of 30 POIs"]
    assert told == [(done, 14) for done in range(1, 15)], "the missing rows alone are encoded"


@pytest.mark.parametrize("world", [2, 3, 5])
def test_several_processes_make_the_index_of_one(tmp_path: Path, world: int) -> None:
    """Real processes, which meet in the folder alone; one has died before."""
    sources, path = sources_of(POIS, ToyEncoder()), tmp_path / "index"
    wanted = content(index_of(tmp_path / "wanted", POIS, ToyEncoder(), 4).path)

    def take_part(rank: int) -> None:
        assert build(path, sources, 4, share=Share(rank, world)) is None

    children = [in_child(partial(take_part, rank)) for rank in range(1, world)]
    index = build(path, sources, 4, share=Share(0, world))
    assert index is not None
    assert [code_of(pid) for pid in children] == [0] * (world - 1)
    assert content(path) == wanted


def test_a_process_waits_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    sources, path = sources_of(POIS, ToyEncoder()), tmp_path / "index"

    def help_out(_: float) -> None:
        build(path, sources, 8, share=Share(1, 2))

    monkeypatch.setattr(bulk.time, "sleep", help_out)
    assert build(path, sources, 8, said, Share(0, 2)) is not None
    assert said == [f"index {path}: waits for the shards of the other processes"]


def test_the_first_process_discards_what_another_takes_for_its_own(tmp_path: Path) -> None:
    """Same files, another datum: the second process must not count the old shards as done."""
    old = Sources(Fingerprint((), {}), Fingerprint((), {"datum": "gcj02"}), lambda: POIS, ToyEncoder)
    path = tmp_path / "index"
    build(path, old, 8)
    new = {"format": 1, "rows": 30, "dim": 3, "shard_rows": 8}
    new |= {"model": old.model.record(), "table": Fingerprint((), {"datum": "wgs84"}).record()}
    assert not bulk._same(path, new)
    assert bulk._same(path, new | {"table": old.table.record()})


@pytest.mark.parametrize("room", [0, 50, 200, 3000])
def test_a_full_disk(tmp_path: Path, room: int) -> None:
    """A limit that the system sets. What fits stays, and with room the build goes on to the very index."""
    pois = table_of(200)
    wanted = content(index_of(tmp_path / "wanted", pois, ToyEncoder(), 60).path)
    path, sources = tmp_path / "index", sources_of(pois, ToyEncoder())

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(InputError, match=r"cannot write \(File too large\)|cannot write \(.*27.*\)"):
            build(path, sources, 60)
        assert not [p for p in path.rglob("*") if p.name.endswith(".tmp")]

    assert code_of(in_child(limited)) == 0
    assert not (path / "manifest.json").exists()
    build(path, sources, 60)
    assert content(path) == wanted


def test_a_folder_where_one_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        build(tmp_path / "file" / "index", sources_of(POIS, ToyEncoder()), 8)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e6])
def test_vectors_that_are_not_finite(tmp_path: Path, wrong: float) -> None:
    vectors = np.ones((30, 4), np.float32)
    vectors[17, 2] = wrong
    with pytest.raises(InputError, match="gives no finite vector for '17'"):
        build(tmp_path / "index", sources_of(POIS, Given(vectors)), 8)
    with pytest.raises(InputError, match="is no index"):
        Index(tmp_path / "index")


def test_another_process_made_the_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that build the same at the same time do not hinder each other."""
    path, sources = tmp_path / "index", sources_of(POIS, ToyEncoder())
    real, calls = data_files.os.fsync, [0]

    def build_too(handle: int) -> None:
        calls[0] += 1
        if calls[0] == 6:  # in the middle of a shard
            build(path, sources, 8)
        real(handle)

    monkeypatch.setattr(data_files.os, "fsync", build_too)
    index = build(path, sources, 8)
    assert index is not None
    assert content(path) == content(index_of(tmp_path / "wanted", POIS, ToyEncoder(), 8).path)
