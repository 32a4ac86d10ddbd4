"""Updates that are killed at any moment, and readers beside a writer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.index import merging
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.factory import SegmentsSearcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import unused
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.index.writer import open_writer
from tests.helpers.cli import ENVIRONMENT
from tests.helpers.disk_events import killed_at_each_change
from tests.helpers.indexes import index_of, poi_table
from tests.helpers.toy_models import ToyEncoder

pytestmark = pytest.mark.integration
STEP = 13  # an update changes the disk several hundred times, and every 13th change is tried


def pois(first: int, count: int, turn: int = 0) -> pd.DataFrame:
    table = poi_table(count, seed=first)
    return table.assign(
        poi_id=range(first, first + count), address=[f"{turn} {i}" for i in range(first, first + count)]
    )


def contents(path: Path) -> dict[Any, str]:
    """Ids and addresses of the live POIs, after a look at everything that a reader uses."""
    index = Index(path)
    rows = np.flatnonzero(index.live)
    searcher = SegmentsSearcher(index, [ExactSearcher(segment) for segment in index.segments])
    found = searcher.search(ToyEncoder().encode_queries(["cafe"]), len(rows) + 3).rows[0]
    assert sorted(found[found >= 0].tolist()) == rows.tolist()
    sparse = SparseSearcher(index.segments, open_frequencies(index))
    assert sparse.frequencies.size == len(rows)
    asked = index.addresses_at(rows[:5])
    assert index.addresses_at(sparse.search(asked, 1).rows[:, 0]) == asked
    stored = {poi["poi_id"]: poi["address"] for poi in index.pois_at(rows)}
    vectors = ToyEncoder().encode_poi_texts(list(stored.values())) + ToyEncoder().encode_locations(
        index.lng[rows], index.lat[rows]
    )
    assert index.vectors(rows).tolist() == vectors.tolist()
    return stored


def update(path: Path) -> None:
    """Change, add and delete POIs in five snapshots, two of them by merging."""
    with open_writer(path, ToyEncoder, shard_rows=6) as writer:
        writer.upsert(pois(8, 12, turn=1))
        writer.delete([0, 1, 15])
        writer.compact()
        writer.upsert(pois(100, 3))


def test_an_update_that_is_killed_between_disk_changes_leaves_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(merging, "MAX_SEGMENTS", 1)
    start = index_of(tmp_path / "start", pois(0, 14), ToyEncoder(), 6).path
    shutil.copytree(start, tmp_path / "expected")
    snapshots = [contents(start)]
    with open_writer(tmp_path / "expected", ToyEncoder, shard_rows=6) as writer:
        for step in (lambda: writer.upsert(pois(8, 12, 1)), lambda: writer.delete([0, 1, 15])):
            step()
            snapshots.append(contents(tmp_path / "expected"))
    update(tmp_path / "expected")
    snapshots.append(contents(tmp_path / "expected"))
    changes, seen, path = 0, set[int](), tmp_path / "index"
    shutil.copytree(start, path)
    for changes in killed_at_each_change(lambda: update(path), STEP):
        found = contents(path)
        assert found in snapshots, changes
        seen.add(snapshots.index(found))
        update(path)
        assert contents(path) == snapshots[-1], changes
        assert unused(path, Index(path).manifest) == [], "the next writer removes what was left"
        assert not (path / "building").exists()
        shutil.rmtree(path)
        shutil.copytree(start, path)
    assert changes > 20 * STEP
    assert seen == {0, 1, 2, 3}


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from m3gal_cli.index import merging
from m3gal_cli.index.writer import open_writer
from tests.helpers.toy_models import ToyEncoder
from tests.index.test_writer_processes import pois

merging.MAX_SEGMENTS = 3
turn = int(sys.argv[2])
print("ready", flush=True)
while True:
    turn += 1
    with open_writer(Path(sys.argv[1]), ToyEncoder, shard_rows=6) as writer:
        writer.sync(pois(0, 40, turn))
        for part in range(3):
            writer.delete(range(40 + 10 * part, 50 + 10 * part))
            writer.upsert(pois(40 + 10 * part, 10, turn))
        if turn % 4 == 0:
            writer.compact()
"""


def check_turns(path: Path) -> int:
    """Check that a snapshot is one of those of WRITER, and return its turn."""
    stored = contents(path)
    turns = {key: int(address.split()[0]) for key, address in stored.items()}
    assert set(range(40)) <= set(turns), "the first POIs are replaced at once"
    assert len({turns[i] for i in range(40)}) == 1
    for part in range(3):
        own = {turns.get(40 + 10 * part + i) for i in range(10)}
        assert len(own) == 1, "each part is absent or of one turn"
    return turns[0]


def start_writer(path: Path, turn: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(turn)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_writer_that_is_killed_at_random_moments_leaves_whole_snapshots(tmp_path: Path) -> None:
    path, generator, turn = tmp_path / "index", np.random.default_rng(0), 0
    index_of(path, pois(0, 40), ToyEncoder(), 6)
    for _ in range(20):
        process = start_writer(path, turn)
        time.sleep(generator.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        turn = check_turns(path)
    assert turn > 5
    update(path)
    assert unused(path, Index(path).manifest) == []


def test_readers_see_whole_snapshots_beside_a_writer(tmp_path: Path) -> None:
    path, seen = tmp_path / "index", set[int]()
    index_of(path, pois(0, 40), ToyEncoder(), 6)
    process = start_writer(path, 0)
    end = time.monotonic() + 8
    while time.monotonic() < end:
        seen.add(check_turns(path))
        assert process.poll() is None
    process.kill()
    process.wait()
    assert len(seen) > 5
