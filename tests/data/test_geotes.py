"""The conversion of GeoTES to the published file tree."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.geotes import GeotesOptions, GeotesSummary, build_geotes, pois_of, views_of
from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.data.tables import read_views, write_table
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import wgs84_to_gcj02

TABLES = ("same_poi_views_mgeo", "mgeo_poi_database_train_use_negative", "mgeo_poi_database_use_negative")
TRAIN, VAL = "train_dataset_use_gis.jsonl", "val_dataset_use_gis_1000.jsonl"
TESTS = ("test_dataset_use_gis_1000.jsonl", "test_dataset_use_gis_20000.jsonl", "test_dataset.jsonl")
TREE = {TRAIN, VAL, *TESTS, *(f"{name}{suffix}" for name in TABLES for suffix in (".csv", ".parquet"))}


def poi(number: int) -> Passage:
    step = number / 1000
    return Passage(f"第{number}中学,学府路{number}号", round(120.0 + step, 6), round(30.0 + step, 6), str(number))


def records(name: str, count: int) -> list[Record]:
    return [
        Record(f"{name} {i}中", [poi(i % 7)], [poi((i + j) % 7) for j in (1, 2)], f"{name}-{i}", 120.0, 30.0)
        for i in range(count)
    ]


def source(tmp_path: Path, **splits: list[Record]) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for name, content in splits.items():
        write_records(content, folder / f"{name}_dataset.jsonl")
    return folder


def noted(summary: GeotesSummary, words: str) -> bool:
    return any(words in note for note in summary.notes)


def test_every_file_of_the_published_tree(tmp_path: Path) -> None:
    train, dev, test = records("train", 5), records("dev", 3), records("test", 4)
    messages: list[str] = []
    out = tmp_path / "a" / "out"
    summary = build_geotes(source(tmp_path, train=train, dev=dev, test=test), out, progress=messages.append)
    assert set(os.listdir(out)) == TREE
    assert read_records(out / "train_dataset_use_gis.pth") == train, "the published name resolves to the twin"
    assert read_records(out / VAL) == dev
    assert [read_records(out / name) for name in TESTS] == [test] * 3
    rows = {f.path.name: f.rows for f in summary.files}
    assert rows["same_poi_views_mgeo.csv"] == 5
    assert rows["mgeo_poi_database_train_use_negative.csv"] == 7
    assert json.loads(json.dumps(summary.to_json()))["files"][0]["rows"] == 5
    assert noted(summary, "test_dataset_use_gis_20000.jsonl contains all 4 queries")
    assert {"reading train_dataset.jsonl", "writing test_dataset.jsonl"} <= set(messages)


def test_views_are_the_query_and_its_positives() -> None:
    views = views_of([*records("train", 2), Record("两个", [poi(5), poi(6)], [poi(1)], "train-9")])
    assert views["address1"].tolist() == ["train 0中", "train 1中", "两个", "两个"]
    assert views["address2"].tolist() == [poi(i).text for i in (0, 1, 5, 6)]
    assert views["lng"].tolist() == [poi(i).lng for i in (0, 1, 5, 6)]
    assert views["query_id"].tolist() == ["train-0", "train-1", "train-9", "train-9"]
    assert views["docid"].tolist() == ["0", "1", "5", "6"]
    without_ids = views_of([Record("湖边", [Passage("湖边路3号", 120.1, 30.1)], [])])
    assert without_ids.columns.tolist() == ["address1", "address2", "lng", "lat"]


def test_the_poi_table_contains_each_place_once() -> None:
    again = Passage(poi(0).text, poi(0).lng, poi(0).lat, "another id")
    elsewhere = Passage(poi(0).text, 121.0, 31.0, "44")
    pois = pois_of([Record("a", [poi(0)], [poi(1), again, elsewhere]), Record("b", [poi(1)], [poi(0), poi(2)])])
    assert pois["address"].tolist() == [poi(0).text, poi(1).text, poi(0).text, poi(2).text]
    assert pois["poi_id"].tolist() == ["0", "1", "44", "2"]
    for docid in (None, "1"):  # missing or repeated
        assert pois_of([Record("a", [poi(1)], [Passage("北门", 1.0, 2.0, docid)])])["poi_id"].tolist() == [0, 1]


def test_the_gold_is_never_a_train_negative_and_evaluation_is_kept(tmp_path: Path) -> None:
    gold = poi(0)
    same = Passage(gold.text + " ", gold.lng, gold.lat, "other id")
    near = Passage(gold.text, gold.lng + 0.001, gold.lat)
    record = Record("q", [gold], [poi(1), same, near, same])
    summary = build_geotes(source(tmp_path, train=[record, *records("t", 2)], dev=[record]), tmp_path / "out")
    assert read_records(tmp_path / "out" / TRAIN)[0].negatives == [poi(1), near]
    assert read_records(tmp_path / "out" / VAL) == [record]
    assert noted(summary, "2 negatives in 1 train records equal a positive")
    assert noted(summary, "2 test negatives equal the gold of their record; they are kept")


def test_cuts_take_the_first_records(tmp_path: Path) -> None:
    dev, test = records("dev", 1001), records("test", 1002)
    summary = build_geotes(source(tmp_path, dev=dev, test=test), tmp_path / "out")
    assert read_records(tmp_path / "out" / VAL) == dev[:1000]
    assert [read_records(tmp_path / "out" / name) for name in TESTS] == [test[:1000], test, test]
    assert noted(summary, "test_dataset_use_gis_20000.jsonl contains all 1002 queries")
    assert not noted(summary, "test_dataset_use_gis_1000.jsonl contains all")
    assert noted(summary, "The source has no train_dataset.jsonl")


def test_without_a_test_file_the_dev_queries_are_the_test_queries(tmp_path: Path) -> None:
    """Shared queries and repeated negatives are noted."""
    train, dev = [Record("湖边路", [poi(0)], [poi(1), poi(1), poi(2)])], [Record("湖边路 ", [poi(3)], [])]
    summary = build_geotes(source(tmp_path, train=train, dev=dev), tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == TREE
    assert read_records(tmp_path / "out" / "test_dataset.jsonl") == dev
    assert noted(summary, "the 1 dev queries are validation and test queries")
    assert noted(summary, "1 dev queries have the text of a train query")
    assert noted(summary, "1 train negatives repeat a negative")


def test_gzipped_sources_and_the_poi_database_are_converted(tmp_path: Path) -> None:
    folder = source(tmp_path, train=records("train", 2))
    packed = folder / "dev_dataset.jsonl.gz"
    write_records(records("dev", 2), packed)
    write_records(records("wrong", 1), folder / "train_dataset.jsonl.gz")
    pois = pd.DataFrame({"address": ["东门", "东门"], "lng": [120.0, 120.0], "lat": [30.0, 30.0]})
    write_table(pois, folder / "poi_database.csv")
    summary = build_geotes(folder, tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == TREE | {"poi_database.csv", "poi_database.parquet"}
    assert read_pois(tmp_path / "out" / "poi_database.csv")[["address", "lng", "lat"]].equals(pois)
    assert read_records(tmp_path / "out" / TRAIN) == records("train", 2)
    assert noted(summary, "train_dataset.jsonl was read; train_dataset.jsonl.gz was not")


def test_the_datum_is_converted_everywhere(tmp_path: Path) -> None:
    def there(p: Passage) -> Passage:
        lng, lat = wgs84_to_gcj02(p.lng, p.lat)
        return Passage(p.text, float(lng), float(lat), p.docid)

    folder = source(tmp_path, train=[Record("q", [there(poi(1))], [there(poi(2))])])
    write_table(pois_of([Record("q", [there(poi(3))], [])]), folder / "poi_database.csv")
    build_geotes(folder, tmp_path / "out", GeotesOptions(datum="gcj02"))
    out = tmp_path / "out"
    got = [
        *[(p.lng, p.lat) for p in read_records(out / TRAIN)[0].passages],
        *read_views(out / "same_poi_views_mgeo.csv")[["lng", "lat"]].to_numpy().tolist(),
        *read_pois(out / "mgeo_poi_database_train_use_negative.csv")[["lng", "lat"]].to_numpy().tolist(),
        *read_pois(out / "poi_database.parquet")[["lng", "lat"]].to_numpy().tolist(),
    ]
    np.testing.assert_allclose(got, [(poi(i).lng, poi(i).lat) for i in (1, 2, 1, 1, 2, 3)], atol=2e-7)


@pytest.mark.parametrize("name", ["train_dataset.jsonl", "test_dataset.jsonl", "poi_database.csv"])
def test_nothing_is_written_when_any_file_is_bad(tmp_path: Path, name: str) -> None:
    folder = source(tmp_path, train=records("train", 2), dev=records("dev", 2), test=records("test", 2))
    (folder / "poi_database.csv").write_text("address,lng,lat\na,1,2\n")
    with (folder / name).open("a") as file:
        file.write("{broken\n")
    with pytest.raises(InputError) as caught:
        build_geotes(folder, tmp_path / "out")
    assert str(caught.value.where).startswith(f"{folder / name}:3")
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_or_overwrites_the_source_is_refused_before_the_work(tmp_path: Path) -> None:
    folder = source(tmp_path, train=records("train", 2))
    (tmp_path / "file").write_text("x")
    messages: list[str] = []
    with pytest.raises(InputError, match="cannot write there"):
        build_geotes(folder, tmp_path / "file" / "out", progress=messages.append)
    assert messages == []
    with pytest.raises(InputError, match="output folder is the source folder"):
        build_geotes(folder, tmp_path / "source" / ".." / "source")
    with pytest.raises(InputError, match="would overwrite the source"):
        build_geotes(folder / "train_dataset.jsonl", folder)


def test_a_source_without_a_dataset_is_an_input_error(tmp_path: Path) -> None:
    empty = source(tmp_path)
    with pytest.raises(InputError, match="contains no GeoTES dataset"):
        build_geotes(empty, tmp_path / "out")
    (empty / "train_dataset_use_gis.pth").write_bytes(b"x")
    with pytest.raises(InputError, match=r"give the file: .*train_dataset_use_gis\.pth"):
        build_geotes(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_file_is_imported_alone(tmp_path: Path) -> None:
    bad = Record("q", [poi(0)], [poi(0), poi(1)])
    folder = source(tmp_path)
    for name in ("train_a.jsonl", "val_a.jsonl.gz"):
        write_records([bad], folder / name)
    summary = build_geotes(folder / "train_a.jsonl", tmp_path / "out")
    assert noted(summary, "1 negatives in 1 train records")
    assert read_records(tmp_path / "out" / "train_a.jsonl")[0].negatives == [poi(1)]
    summary = build_geotes(folder / "val_a.jsonl.gz", tmp_path / "out")
    assert noted(summary, "1 negatives equal the gold of their record; they are kept")
    assert read_records(tmp_path / "out" / "val_a.jsonl") == [bad]


def test_the_golden_pickle_and_the_sample_of_geotes_are_converted(tmp_path: Path, shared: Path) -> None:
    build_geotes(shared / "golden" / "candidates_use_gis.pth", tmp_path / "golden")
    golden = read_records(tmp_path / "golden" / "candidates_use_gis.jsonl")
    assert golden == read_records(shared / "golden" / "candidates.jsonl")
    summary = build_geotes(shared / "data" / "geotes", tmp_path / "sample")
    assert set(os.listdir(tmp_path / "sample")) == TREE | {"poi_database.csv", "poi_database.parquet"}
    rows = {f.path.stem: f.rows for f in summary.files}
    assert [rows[name] for name in TABLES] == [700, 4428, 2319]
    assert (rows["train_dataset_use_gis"], rows["test_dataset"], rows["poi_database"]) == (700, 100, 5000)
    twin = read_pois(tmp_path / "sample" / "mgeo_poi_database_use_negative.parquet")
    database = read_pois(tmp_path / "sample" / "poi_database.csv")
    named = database.set_index("poi_id").loc[twin["poi_id"].astype(int), "address"]
    assert named.tolist() == twin["address"].tolist(), "GeoTES docids are the row numbers of its POI table"
