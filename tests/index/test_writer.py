"""Updates of an index, against a dictionary of the POIs and an index built anew from it."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.ann import AnnSearcher, SearchSetting, train_ivf
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.exact_numpy import NumpySearcher
from m3gal_cli.index.factory import SegmentsSearcher
from m3gal_cli.index.folder_lock import FolderLock
from m3gal_cli.index.index import Index
from m3gal_cli.index.merging import MAX_SEGMENTS, segments_to_merge
from m3gal_cli.index.pca_pruning import PruningSettings
from m3gal_cli.index.poi_rows import PoiRows, column_hashes, hashes_of
from m3gal_cli.index.segment import Segment
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.index.writer import IndexWriter, Update, open_writer
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Terms
from tests.helpers.indexes import index_of, only_segment, unit_rows
from tests.helpers.toy_models import ToyEncoder
from tests.index.test_milvus import stand_in

Row = dict[str, Any]
WIDTH = 12
SMALL = PruningSettings(min_pois=1, dims=5, sample_rows=20, expected_candidates=20, block_rows=16)


class SmoothEncoder(ToyEncoder):
    """Encoder of random unit vectors, whose float32 sums round."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.texts: list[str] = []

    def vector(self, key: str) -> np.ndarray:
        return unit_rows(np.random.default_rng(zlib.crc32(key.encode())).standard_normal((1, WIDTH)))[0]

    def encode_poi_texts(self, texts: Any, progress: Any = None) -> np.ndarray:
        self.texts += texts
        return super().encode_poi_texts(texts)


def random_row(generator: np.random.Generator, poi_id: Any) -> Row:
    """A POI of few texts and places, so that duplicates and moved texts are frequent."""
    text = f"{generator.choice(['cafe', 'bank', '花园', 'school'])} {generator.integers(6)}"
    place = {"lng": float(generator.integers(3)), "lat": float(generator.integers(3))}
    return {"poi_id": poi_id, "address": text, **place, "phone": str(generator.integers(3)), "floor": None}


def frame(rows: list[Row]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat", "phone", "floor"])
    return table.astype({"poi_id": object, "lng": float, "lat": float})


def distinct(rows: dict[Any, Row]) -> int:
    return len({(row["address"], row["lng"], row["lat"]) for row in rows.values()})


def writing(path: Path, work: Callable[[IndexWriter], Update], encoder: ToyEncoder | None = None) -> Update:
    with open_writer(path, lambda: encoder or SmoothEncoder(), shard_rows=7) as writer:
        return work(writer)


def not_loaded() -> Any:
    raise AssertionError("the model is not needed")


def ann(segment: Segment) -> AnnSearcher:
    """Approximate search that reads all lists and rescores all rows."""
    ivf = train_ivf(segment, f"IVF{min(4, len(segment))},Flat", lambda text: None)
    ivf.add(segment.vectors(np.arange(len(segment))))
    return AnnSearcher(segment, ivf, SearchSetting(4, len(segment), 1.0, 0.0), max_exact_rows=0)


SEARCHERS: dict[str, Callable[[Segment], Any]] = {
    "scan": ExactSearcher,
    "pruned": lambda segment: ExactSearcher(segment, pruning=SMALL),
    "numpy": NumpySearcher,
    "ann": ann,
    "milvus": lambda segment: stand_in(segment, extra_hits=1)[0],
}
FILTERS = [None, GeoFilter((0.0, 0.0, 1.0, 2.0)), GeoFilter(None, (1.0, 1.0), 130_000.0), None, None]


def answers(index: Index, kind: str, k: int, filters: list[GeoFilter | None] | None) -> list[list[tuple[Any, float]]]:
    """Return place and score of the best POIs of some queries; the order of equal scores may differ."""
    queries = SmoothEncoder().encode_queries(["cafe 1", "bank 3", "花园 5", "school", "cafe"])
    searcher = SegmentsSearcher(index, [SEARCHERS[kind](segment) for segment in index.segments])
    result = searcher.search(queries, k, filters)
    found = []
    for rows, scores in zip(result.rows, result.scores, strict=True):
        assert index.live[rows[rows >= 0]].all()
        assert len(set(rows[rows >= 0])) == (rows >= 0).sum()
        pois = index.pois_at(rows[rows >= 0])
        found.append([((p["address"], p["lng"], p["lat"]), s) for p, s in zip(pois, scores.tolist(), strict=False)])
    return found


def sparse_answers(index: Index, k: int, filters: list[GeoFilter | None] | None) -> list[list[tuple[float, Any]]]:
    """Return score and place of the best POIs of some queries by the sparse search; equal scores ordered by place."""
    searcher = SparseSearcher(index.segments, open_frequencies(index))
    result, found = searcher.search(["cafe 1", "bank 3", "花园 5", "school", "cafee"], k, filters), []
    for rows, scores in zip(result.rows, result.scores.tolist(), strict=True):
        assert index.live[rows[rows >= 0]].all()
        places = index.places_at(rows[rows >= 0])
        found.append(sorted(zip(scores, places, strict=False), key=lambda answer: (-answer[0], answer[1])))
    return found


def assert_equal_to_new(index: Index, rows: dict[Any, Row], path: Path) -> None:
    """Compare an index with one that is built anew, and with the dictionary of its POIs."""
    stored = {p["poi_id"]: p for p in index.pois_at(np.flatnonzero(index.live), ["phone", "floor"])}
    assert len(index) == len(stored) == distinct(rows)
    assert all(stored[key] == rows[key] for key in stored), "live POIs have the values of the dictionary"
    assert {(p["address"], p["lng"], p["lat"]) for p in stored.values()} == {
        (p["address"], p["lng"], p["lat"]) for p in rows.values()
    }
    counted, expected = (
        open_frequencies(index),
        NgramFrequencies.of(Terms.of([p["address"] for p in stored.values()]).ngrams),
    )
    assert counted.ids.tolist() == expected.ids.tolist()
    assert (counted.counts.tolist(), counted.size) == (expected.counts.tolist(), expected.size)
    if not rows:
        assert [answer for kind in SEARCHERS for answer in answers(index, kind, 3, None)] == [[]] * 5 * len(SEARCHERS)
        assert sparse_answers(index, 3, None) == [[]] * 5
        return
    shutil.rmtree(path, ignore_errors=True)
    new = index_of(path, frame(list(rows.values())), SmoothEncoder(), 7)
    for filters in (None, FILTERS):
        for k in (1, 7, 200):
            wanted = answers(new, "scan", k, filters)
            for kind in SEARCHERS:
                for own, best in zip(answers(index, kind, k, filters), wanted, strict=True):
                    assert dict(own).keys() == dict(best).keys()
                    np.testing.assert_allclose([s for _, s in own], [s for _, s in best], atol=2e-6)
        assert sparse_answers(index, 200, filters) == sparse_answers(new, 200, filters)
        for own, best in zip(*(sparse_answers(either, 4, filters) for either in (index, new)), strict=True):
            assert [score for score, _ in own] == [score for score, _ in best], "equal scores may be of other POIs"


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_updates_equals_a_new_index(tmp_path: Path, seed: int) -> None:
    generator, path = np.random.default_rng(seed), tmp_path / "index"
    rows: dict[Any, Row] = {key: random_row(generator, key) for key in [*range(20), *map(str, range(20))]}
    index_of(path, frame(list(rows.values())), SmoothEncoder(), 7)
    for step in range(14):
        action = generator.choice(["upsert", "upsert", "delete", "delete", "compact", "sync"])
        keys = list(rows)
        some = [keys[i] for i in generator.permutation(len(keys))[: generator.integers(0, 9)]]
        if action == "upsert":
            fresh = [f"{step} {i}" for i in range(generator.integers(0, 9))]
            changed = [random_row(generator, key) for key in [*fresh, *some]]
            update = writing(path, lambda writer, given=changed: writer.upsert(frame(given)))
            same = sum(rows.get(row["poi_id"]) == row for row in changed)
            assert (update.added, update.changed, update.unchanged) == (len(fresh), len(some) - same, same)
            rows |= {row["poi_id"]: row for row in changed}
        elif action == "delete":
            update = writing(path, lambda writer, given=some: writer.delete([*given, "unknown"]))
            assert (update.removed, update.not_found) == (len(some), ["unknown"])
            rows = {key: row for key, row in rows.items() if key not in some}
        elif action == "compact":
            writing(path, lambda writer: writer.compact())
            assert len(Index(path).segments) <= 1
            assert Index(path).row_count == len(rows), "deleted rows are gone, duplicates are kept"
        else:
            table = {key: random_row(generator, key) if generator.random() < 0.2 else row for key, row in rows.items()}
            table = {key: row for key, row in table.items() if key not in some}
            table |= {f"{step} new": random_row(generator, f"{step} new")}
            before = rows
            update = writing(path, lambda writer, given=table: writer.sync(frame(list(given.values()))))
            changed_keys = [key for key in table if key in before and table[key] != before[key]]
            assert (update.added, update.changed, update.removed) == (1, len(changed_keys), len(some))
            rows = table
        assert len(Index(path).segments) <= MAX_SEGMENTS
        if step % 3 == 2 or step == 13:
            assert_equal_to_new(Index(path), rows, tmp_path / "new")


def test_only_new_texts_are_encoded_and_the_model_is_loaded_only_for_them(tmp_path: Path) -> None:
    path = tmp_path / "index"
    rows = [
        {"poi_id": i, "address": f"text {i}", "lng": float(i), "lat": 1.0, "phone": "1", "floor": None}
        for i in range(9)
    ]
    index_of(path, frame(rows), SmoothEncoder(), 7)
    old = Index(path).vectors(np.arange(9))
    rows[3]["phone"] = "2"
    with open_writer(path, not_loaded) as writer:
        assert writer.upsert(frame(rows)) == Update(changed=1, unchanged=8)
        assert writer.delete([4]) == Update(removed=1)
        assert writer.upsert(frame([rows[4]])) == Update(added=1), "the vector of a deleted POI is known"
    index, encoder = Index(path), SmoothEncoder()
    moved, new = rows[5] | {"lng": 55.0}, rows[6] | {"address": "a new text"}
    with open_writer(path, lambda: encoder) as writer:
        assert writer.upsert(frame([moved, new, rows[7]])) == Update(changed=2, unchanged=1, encoded=1)
    assert encoder.texts == ["a new text"]
    index = Index(path)
    position = {p["poi_id"]: row for row, p in enumerate(index.pois_at(np.arange(index.row_count))) if index.live[row]}
    assert index.vectors(np.array([position[i] for i in (3, 4, 7)])).tolist() == old[[3, 4, 7]].tolist()
    expected = encoder.encode_poi_texts(["text 5"]) + encoder.encode_locations([55.0], [1.0])
    np.testing.assert_allclose(index.vectors(np.array([position[5]])), expected, atol=5e-7)


def test_of_two_equal_pois_the_second_comes_to_light_when_the_first_is_deleted(tmp_path: Path) -> None:
    path, place = tmp_path / "index", {"address": "a", "lng": 1.0, "lat": 2.0, "phone": "1", "floor": None}
    index_of(path, frame([{"poi_id": i, **place} for i in "abc"]), SmoothEncoder())

    def live() -> list[Any]:
        index = Index(path)
        return [poi["poi_id"] for poi in index.pois_at(np.flatnonzero(index.live))]

    assert live() == ["a"]
    writing(path, lambda writer: writer.upsert(frame([{"poi_id": "d", **place}])))
    for deleted, left in [("c", "a"), ("a", "b"), ("b", "d")]:
        writing(path, lambda writer, given=deleted: writer.delete([given]))
        assert live() == [left]
    assert open_frequencies(Index(path)).size == 1
    writing(path, lambda writer: writer.delete(["d"]))
    assert (len(Index(path)), Index(path).segments) == (0, [])


def test_ids_are_found_by_type_and_value_or_by_the_text_that_shows_them(tmp_path: Path) -> None:
    rows = [
        random_row(np.random.default_rng(i), key) | {"lat": i / 10} for i, key in enumerate([1, "1", "007", 7, 2**60])
    ]
    index_of(tmp_path / "index", frame(rows), SmoothEncoder())
    with open_writer(tmp_path / "index", SmoothEncoder) as writer:

        def left() -> list[Any]:
            return [p["poi_id"] for p in writer.index.pois_at(np.flatnonzero(writer.index.live))]

        assert writer.delete(["true"]).not_found == ["true"], "Python's True equals 1"
        writer.delete(["1"])
        assert left() == [1, "007", 7, 2**60], "the text first"
        assert writer.delete(["1", "7", 8, "nan", "x" * 9]).not_found == ["8", "nan", "xxxxxxxxx"]
        assert left() == ["007", 2**60]
        writer.delete([2**60])
        assert left() == ["007"]


@pytest.mark.parametrize(("stored", "given"), [(17, "17"), ("17", 17), (17, np.int64(17)), ("17", np.float64(17))])
def test_a_number_and_its_text_are_one_id_unless_both_are_in_the_index(tmp_path: Path, stored: Any, given: Any) -> None:
    generator = np.random.default_rng(0)
    index_of(tmp_path / "index", frame([random_row(generator, stored), random_row(generator, "017")]), SmoothEncoder())
    update = writing(tmp_path / "index", lambda writer: writer.upsert(frame([random_row(generator, given)])))
    assert (update.added, update.changed) == (0, 1)
    index = Index(tmp_path / "index")
    ids = [poi["poi_id"] for poi in index.pois_at(np.flatnonzero(index.live))]
    assert sorted(map(str, ids)) == ["017", str(given)]
    assert writing(tmp_path / "index", lambda writer: writer.delete([stored, float("inf")])).removed == 1


def test_columns_of_other_types_and_names_come_back_after_a_merge(tmp_path: Path) -> None:
    path, place = tmp_path / "index", {"lng": 1.0, "lat": 2.0}
    first = pd.DataFrame([{"poi_id": 1, "address": "a", **place, "floor": 12, "tags": {"a": 1}, "only": True}])
    second = pd.DataFrame([{"poi_id": "x", "address": "b", **place, "floor": 1.5, "tags": [1, None], "name": "B"}])
    third = pd.DataFrame([{"poi_id": 2, "address": "c", **place, "floor": "ground", "tags": None}])
    index_of(path, first, SmoothEncoder())
    with open_writer(path, SmoothEncoder) as writer:
        for table in (second, third):
            writer.upsert(table)
        for _ in range(2):
            index = writer.index
            assert index.columns == ["floor", "tags", "only", "name"]
            pois = index.pois_at(np.array([2, 0, 1]), ["tags", "floor", "only", "absent"])
            assert [list(poi) for poi in pois] == [
                ["poi_id", "name", "address", "lng", "lat", "tags", "floor", "only", "absent"]
            ] * 3
            assert [[poi[c] for c in ("poi_id", "name", "tags", "floor", "only")] for poi in pois] == [
                [2, None, None, "ground", None],
                [1, None, {"a": 1}, 12, True],
                ["x", "B", [1, None], 1.5, None],
            ]
            assert [type(poi["floor"]) for poi in pois] == [str, int, float]
            writer.compact()
        assert len(writer.index.segments) == 1
        same = writer.sync(pd.concat([first, second, third]))
        assert (same.unchanged, same.changed) == (3, 0), "types and absent values make no difference"


def test_damaged_document_frequencies_are_counted_again(tmp_path: Path) -> None:
    path, rows = tmp_path / "index", [random_row(np.random.default_rng(i), i) | {"lat": i / 10} for i in range(20)]
    index_of(path, frame(rows), SmoothEncoder())
    writing(path, lambda writer: writer.delete(range(5)))
    file = only_segment(Index(path)).path / "lexicon.2.npz"
    whole, expected = file.read_bytes(), NgramFrequencies.of(Terms.of([row["address"] for row in rows[5:]]).ngrams)
    for content in (whole, b"no archive", whole[:-30], b""):
        file.write_bytes(content)
        counted = open_frequencies(Index(path))
        assert (counted.ids.tolist(), counted.counts.tolist()) == (expected.ids.tolist(), expected.counts.tolist())
    NgramFrequencies.of(Terms.of(["another", "table"]).ngrams).save(file)
    assert open_frequencies(Index(path)).size == 15


def test_equal_values_of_other_types_have_equal_hashes() -> None:
    place = {"address": "a", "lng": 1.0, "lat": -0.0}
    kinds: list[list[Any]] = [[3, 3.0], [None, float("nan")], ["3"] * 2, [2**53 + 1] * 2, [[1, "x"]] * 2, [True] * 2]
    rows = [{"poi_id": 1, **place, "own": value} for kind in kinds for value in kind]
    beside = [pd.DataFrame([row, {"poi_id": "2", **place, "own": {}}]) for row in rows]
    alone, beside = (
        [int(PoiRows.of(table).hashes["row"][0]) for table in tables]
        for tables in ([pd.DataFrame([row]) for row in rows], beside)
    )
    assert alone[::2] == alone[1::2] == beside[::2] == beside[1::2]
    assert len(set(alone)) == 6, "values that differ have other hashes"
    absent = pd.DataFrame([{"lat": 0, "address": "a", "lng": 1, "poi_id": 1.0}])
    assert int(PoiRows.of(absent).hashes["row"][0]) == alone[2], "absent columns are as empty ones, in any order"


@pytest.mark.parametrize(
    ("kind", "examples"),
    [
        (
            pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
            [{"a": 1, "b": ["x", None]}, {"a": None, "b": ["x"]}, {"a": None, "b": None}, {"a": 2, "b": []}],
        ),
        (pa.list_(pa.int32()), [[1, 2], [2, 1], [1], [], [1, None], [None]]),
        (pa.large_list(pa.struct([("c", pa.float64())])), [[{"c": 1.5}], [{"c": None}], [{"c": 1.5}] * 2, []]),
        (pa.list_(pa.int64(), 2), [[1, 2], [2, 1], [1, None]]),
        (pa.map_(pa.string(), pa.string()), [[("a", "b")], [("b", "a")], []]),
        (pa.timestamp("s"), [datetime(2024, 1, 2), datetime(2024, 1, 3)]),
        (pa.binary(), [b"\xff", b"", b"a"]),
    ],
    ids=str,
)
def test_nested_columns_are_hashed_by_their_content(kind: pa.DataType, examples: list[Any]) -> None:
    """Values of a column in chunks and slices have the hashes of the same Python values; null is 0."""
    values = [None, *examples, None]
    array = pa.array(values * 3, kind)
    chunks = pa.chunked_array([array[:1], array[1 : len(values) + 1], array[len(values) + 1 :]])
    hashes = column_hashes(pa.table({"own": chunks}), "own")
    assert hashes.tolist() == 3 * hashes[: len(values)].tolist()
    assert (hashes[0], hashes[len(values) - 1]) == (0, 0)
    assert len(set(hashes.tolist())) == len(values) - 1, "other values have other hashes"
    if pa.types.is_struct(kind) or pa.types.is_list(kind):
        assert hashes_of(values).tolist() == hashes[: len(values)].tolist()


def test_a_key_that_no_row_of_a_table_has_changes_no_hash() -> None:
    """A row that is added to a JSON file may add keys to the type of all rows."""
    before, after = (
        column_hashes(pa.table({"own": pa.array(rows)}), "own")
        for rows in ([{"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}, {"a": 3, "b": "x"}])
    )
    assert after[:2].tolist() == before.tolist() == hashes_of([{"a": 1}, {"b": None, "a": 2}]).tolist()


def test_a_snapshot_stays_readable_while_the_index_is_changed(tmp_path: Path) -> None:
    path, generator = tmp_path / "index", np.random.default_rng(3)
    rows = [random_row(generator, i) for i in range(30)]
    old = index_of(path, frame(rows), SmoothEncoder(), 7)
    expected = answers(old, "scan", 9, None)
    with open_writer(path, SmoothEncoder, shard_rows=7) as writer:
        writer.delete(range(10))
        writer.upsert(frame([random_row(generator, i) for i in range(20, 40)]))
        writer.compact()
    assert answers(old, "scan", 9, None) == expected
    assert len(old) == len({(r["address"], r["lng"], r["lat"]) for r in rows})


def test_a_second_writer_waits_and_then_gives_up(tmp_path: Path) -> None:
    path, messages = tmp_path / "index", list[str]()
    index_of(path, frame([random_row(np.random.default_rng(0), 1)]), SmoothEncoder())
    other = FolderLock(path)
    assert other.try_exclusive()
    with (
        pytest.raises(InputError, match="another process is changing the index"),
        open_writer(path, not_loaded, messages.append, wait_s=0.2),
    ):
        pass
    assert messages == [f"index {path}: waiting for another process that changes it"]
    other.close()
    with open_writer(path, not_loaded, wait_s=0):
        pass


@pytest.mark.parametrize(
    ("sizes", "deleted", "merged"),
    [
        ([1000] + [1] * 7, 0, 0),
        ([1000] + [1] * 8, 0, 8),
        ([1000, 8, 1, 1, 1, 1, 1, 1, 1], 0, 8),
        ([1000, 100, 1, 1, 1, 1, 1, 1, 1], 0, 7),
        ([1000, 100, 90, 80, 70, 60, 50, 40, 10, 10], 0, 2),
        ([5] * 9, 0, 9),
        ([10, 10], 20, 0),
        ([10, 10], 21, 2),
    ],
)
def test_the_shortest_run_of_young_segments_is_merged(sizes: list[int], deleted: int, merged: int) -> None:
    assert segments_to_merge(sizes, deleted) == merged
