"""Building an index: by several processes, killed at any moment, on a full disk, and in folders of other content."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli import files as files_module
from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.index.builder import IndexSources
from m3gal_cli.index.index import Index
from m3gal_cli.index.segment_build import Worker
from m3gal_cli.index.writer import open_writer
from tests.helpers.cli import file_contents
from tests.helpers.disk_events import code_of, in_child, killed_at_each_change
from tests.helpers.indexes import (
    GivenVectors,
    build,
    index_contents,
    index_of,
    index_sources,
    interrupt,
    only_segment,
    poi_table,
)
from tests.helpers.toy_models import ToyEncoder

POIS = poi_table(30)


def not_needed() -> Any:
    raise AssertionError("neither the table nor the model is needed")


def file_sources(folder: Path, pois: pd.DataFrame) -> IndexSources:
    """Sources with the fingerprints of a table and a model in a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "pois.csv").write_text(pois.to_csv())
    (folder / "model.bin").write_text("weights")
    table, model = (Fingerprint((folder / name,)) for name in ("pois.csv", "model.bin"))
    return IndexSources(model, table, lambda: (pois, None), ToyEncoder, table_name=table.files[0].name)


def test_a_complete_index_is_used_if_its_table_is_missing(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    sources = file_sources(tmp_path / "data", POIS)
    build(path, sources)
    without_table = replace(sources, table=None, read_pois=not_needed, load_encoder=not_needed)
    assert build(path, without_table, messages=messages) is not None
    assert messages == [f"index {path}: used without its POI table (pois.csv), which is missing"]
    other_model = replace(without_table, model=Fingerprint((), {"name": "other"}))
    with pytest.raises(AssertionError):  # read_pois is called, which reports the missing table
        build(path, other_model)
    assert len(Index(path)) == 30, "the old index is kept"


def test_an_index_that_was_moved_with_its_sources_is_not_built_again(tmp_path: Path) -> None:
    build(tmp_path / "here" / "index", file_sources(tmp_path / "here", POIS), 8)
    (tmp_path / "here").rename(tmp_path / "there")
    assert not [name for name, content in index_contents(tmp_path / "there/index").items() if b"here" in content]
    sources = file_sources(tmp_path / "there", POIS)
    assert build(tmp_path / "there/index", replace(sources, read_pois=not_needed)) is not None


def test_pois_of_equal_address_and_coordinates_are_indexed_once(tmp_path: Path) -> None:
    pois = pd.concat([POIS, POIS.assign(poi_id=POIS["poi_id"] + 100), POIS[:3].assign(lng=1.0)], ignore_index=True)
    index = index_of(tmp_path / "index", pois, ToyEncoder(), 8)
    assert [poi["poi_id"] for poi in index.pois_at(np.flatnonzero(index.live))] == [*range(30), 0, 1, 2]
    assert (len(index), index.row_count) == (33, 63)
    vectors = index.vectors(np.arange(63))
    assert vectors[33:].tolist() == vectors[:30].tolist(), "duplicates are stored with the vectors of the first rows"


def test_the_shard_size_changes_no_vector_and_is_not_mixed(tmp_path: Path) -> None:
    vectors = []
    for size in (7, 1, 29, 30, 31):
        index = index_of(tmp_path / "index", POIS, ToyEncoder(), size)
        assert only_segment(index).shard_rows == size
        vectors.append(index.vectors(np.arange(30)).tolist())
        interrupt(index.path)
    assert vectors == [vectors[0]] * 5


@pytest.mark.parametrize(
    ("model", "table", "words"),
    [
        ("other", "other", "with another model and from another POI table"),
        ("model", "table", "by another version of m3gal"),
    ],
)
@pytest.mark.parametrize("incomplete", [False, True])
def test_an_outdated_index_is_replaced(tmp_path: Path, model: str, table: str, words: str, incomplete: bool) -> None:
    path, messages = tmp_path / "index", list[str]()
    index_of(path, POIS, ToyEncoder(), 8)
    if incomplete:
        interrupt(path, 2)
    if words == "by another version of m3gal":
        manifest = {"format": 1, "model": {}, "table": {}}
        (path / ("building.json" if incomplete else "manifest.json")).write_text(json.dumps(manifest))
        shutil.rmtree(path / "building", ignore_errors=True)
        (path / "vectors").mkdir()
        (path / "pois.parquet").write_text("")
    index = build(path, index_sources(POIS[:9], ToyEncoder(4), model, table), 8, messages)
    assert messages == [f"index {path} was built {words}: building it again"]
    assert index is not None
    assert (len(index), index.dim) == (9, 4)
    assert sorted(os.listdir(path)) == ["manifest.json", "segments"]
    assert len(os.listdir(path / "segments")) == 1
    assert os.listdir(tmp_path) == ["index"]


def test_an_index_with_a_damaged_manifest_is_not_replaced(tmp_path: Path) -> None:
    path = index_of(tmp_path / "index", POIS, ToyEncoder(), 8).path
    (path / "manifest.json").write_text("{")
    before = file_contents(path)
    with pytest.raises(InputError, match=r"damaged index: manifest\.json is not readable"):
        build(path, index_sources(POIS, ToyEncoder()), 8)
    assert file_contents(path) == before


@pytest.mark.parametrize("name", ["index", "index/manifest.json", "index/letter.txt"])
def test_other_files_are_never_removed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "index"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    before = file_contents(tmp_path)
    with pytest.raises(InputError, match="not an index: the folder holds other files"):
        build(path, index_sources(POIS, ToyEncoder()), 8)
    assert file_contents(tmp_path) == before


@pytest.mark.integration
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing another index"])
def test_a_build_that_is_killed_at_any_disk_change_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing: bool
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    sources, path, changes, resumed = index_sources(POIS, ToyEncoder()), tmp_path / "index", 0, 0

    def start() -> None:
        shutil.rmtree(path, ignore_errors=True)
        if replacing:
            build(path, index_sources(POIS[:20], ToyEncoder(), "other", "other"), 15)

    start()
    build(path, sources, 15)
    expected = index_contents(path)
    start()
    for changes in killed_at_each_change(lambda: build(path, sources, 15)):
        messages: list[str] = []
        build(path, sources, 15, messages)
        assert index_contents(path) == expected, changes
        resumed += any("resuming after" in line for line in messages)
        start()
    assert changes > 30
    assert resumed > 15, "most kills leave something to resume"


def test_an_index_is_brought_up_to_date_with_a_changed_table(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    build(path, file_sources(tmp_path / "data", POIS))
    changed = pd.concat([POIS[3:], poi_table(2, seed=5).assign(poi_id=["a", "b"])], ignore_index=True)
    changed.loc[changed["poi_id"] == 7, "address"] = "new text"
    sources = file_sources(tmp_path / "data", changed)
    index = build(path, sources, messages=messages)
    assert index is not None
    assert messages == [
        f"index {path}: brought up to date with pois.csv: 2 added, 3 removed, 1 changed; 1 text encoded"
    ], "the texts of the added POIs are known from others"
    assert {poi["poi_id"] for poi in index.pois_at(np.flatnonzero(index.live))} == set(changed["poi_id"])
    assert build(path, replace(sources, read_pois=not_needed, load_encoder=not_needed)) is not None
    assert len(messages) == 1


def test_an_edited_index_keeps_its_pois_unless_the_table_is_given(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    sources = file_sources(tmp_path / "data", POIS)
    build(path, sources)
    with open_writer(path, ToyEncoder) as writer:
        writer.delete([5, 6])
    unread = replace(sources, read_pois=not_needed, load_encoder=not_needed)
    assert len(build(path, unread, messages=messages) or []) == 28
    changed = replace(file_sources(tmp_path / "data", POIS[:20]), read_pois=not_needed)
    assert len(build(path, changed, messages=messages) or []) == 28
    reason = "POIs were added or deleted by hand; --pois applies them"
    assert messages == [f"index {path}: used without the changes of pois.csv, because {reason}"]
    given = replace(file_sources(tmp_path / "data", POIS), table_given=True)
    assert len(build(path, given, messages=messages) or []) == 30
    assert messages[1:] == [f"index {path}: brought up to date with pois.csv: 2 added; 0 texts encoded"]


def test_the_old_snapshot_stays_readable_while_the_index_is_built_for_another_model(tmp_path: Path) -> None:
    path, seen = tmp_path / "index", list[int]()
    build(path, index_sources(POIS, ToyEncoder(3)), 8)

    class ReadingEncoder(ToyEncoder):
        def encode_poi_texts(self, texts: Any, progress: Any = None) -> Any:
            seen.append(Index(path).dim)
            return super().encode_poi_texts(texts)

    index = build(path, index_sources(POIS, ReadingEncoder(4), "other"), 8)
    assert index is not None
    assert (seen, index.dim, index.manifest["generation"]) == ([3] * 4, 4, 2)
    assert os.listdir(path / "segments") == [only_segment(index).path.name]


def test_only_missing_shards_are_encoded(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    index_of(path, POIS, ToyEncoder(), 8)
    interrupt(path, 1, 3)
    encoded: list[str] = []

    class RecordingEncoder(ToyEncoder):
        def encode_poi_texts(self, texts: Any, progress: Any = None) -> Any:
            encoded.extend(texts)
            return super().encode_poi_texts(texts)

    build(path, index_sources(POIS, RecordingEncoder()), 8, messages)
    assert messages == [f"index {path}: resuming after 16 of 30 POIs"]
    assert encoded == [str(i) for i in (*range(8, 16), *range(24, 30))]


def test_several_processes_build_the_same_index_as_one(tmp_path: Path) -> None:
    sources, path = index_sources(POIS, ToyEncoder()), tmp_path / "index"
    expected = index_contents(index_of(tmp_path / "expected", POIS, ToyEncoder(), 4).path)

    def take_part(rank: int) -> None:
        assert build(path, sources, 4, worker=Worker(rank, 5)) is None

    children = [in_child(partial(take_part, rank)) for rank in range(1, 5)]
    assert build(path, sources, 4, worker=Worker(0, 5)) is not None
    assert [code_of(pid) for pid in children] == [0] * 4
    assert index_contents(path) == expected


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "file system without locks"])
def test_of_two_builds_of_different_tables_one_fails_with_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    """With locks, the first build completes; without, the second one. The index that is left is complete."""
    if not locks:
        monkeypatch.setattr("m3gal_cli.index.folder_lock.fcntl", None)
    path, errors = tmp_path / "index", list[str]()
    first, second = (file_sources(tmp_path / name, POIS[:rows]) for name, rows in (("first", 30), ("second", 20)))

    def run(sources: IndexSources) -> Index | None:
        try:
            return build(path, sources, 8)
        except InputError as error:
            errors.append(str(error))
            return None

    class PausingEncoder(ToyEncoder):
        def encode_poi_texts(self, texts: Any, progress: Any = None) -> Any:
            if not errors and not (path / "manifest.json").exists():
                thread = threading.Thread(target=run, args=[second])
                thread.start()
                thread.join()
            return super().encode_poi_texts(texts)

    run(replace(first, load_encoder=PausingEncoder))
    assert len(errors) == 1
    assert f"{path}: another process is building an index from another POI table (pois.csv) in this folder" in errors[0]
    assert "--index-dir" in errors[0]
    assert len(Index(path)) == (30 if locks else 20)


def test_builds_of_the_same_index_do_not_hinder_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sources = tmp_path / "index", index_sources(POIS, ToyEncoder())
    fsync, calls = files_module.os.fsync, [0]

    def build_too(handle: int) -> None:
        calls[0] += 1
        if calls[0] == 6:  # while a shard is written
            build(path, sources, 8)
        fsync(handle)

    monkeypatch.setattr(files_module.os, "fsync", build_too)
    index = build(path, sources, 8)
    assert index is not None
    assert index_contents(path) == index_contents(index_of(tmp_path / "expected", POIS, ToyEncoder(), 8).path)


@pytest.mark.parametrize("limit", [0, 200, 3000])
def test_a_build_on_a_full_disk_is_resumed_later(tmp_path: Path, limit: int) -> None:
    """The system limits the size of files, in bytes."""
    pois = poi_table(200)
    expected = index_contents(index_of(tmp_path / "expected", pois, ToyEncoder(), 60).path)
    path, sources = tmp_path / "index", index_sources(pois, ToyEncoder())

    def build_with_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with pytest.raises(InputError, match=r"cannot write \(File too large\)|cannot write \(.*27.*\)"):
            build(path, sources, 60)
        assert not [p for p in path.rglob("*") if p.name.endswith(".tmp")]

    assert code_of(in_child(build_with_limit)) == 0
    assert not (path / "manifest.json").exists()
    build(path, sources, 60)
    assert index_contents(path) == expected


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e6])
def test_vectors_that_are_not_finite_in_float16_are_refused(tmp_path: Path, wrong: float) -> None:
    vectors = np.ones((30, 4), np.float32)
    vectors[17, 2] = wrong
    with pytest.raises(InputError, match="a vector that is not finite for '17'"):
        build(tmp_path / "index", index_sources(POIS, GivenVectors(vectors)), 8)
    with pytest.raises(InputError, match="no index"):
        Index(tmp_path / "index")
