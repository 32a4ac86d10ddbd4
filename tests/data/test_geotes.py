"""GeoTES in, the published file tree out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data import geotes
from m3gal_cli.data.geotes import GeotesOptions, GeotesSummary, build_geotes
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.data.tables import VIEW_COLUMNS, read_frame, read_pois, read_views, write_table
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import wgs84_to_gcj02

TREE = {
    "train_dataset_use_gis.jsonl",
    "val_dataset_use_gis_1000.jsonl",
    "test_dataset_use_gis_1000.jsonl",
    "test_dataset_use_gis_20000.jsonl",
    "test_dataset.jsonl",
    "same_poi_views_mgeo.csv",
    "same_poi_views_mgeo.parquet",
    "mgeo_poi_database_train_use_negative.csv",
    "mgeo_poi_database_train_use_negative.parquet",
    "mgeo_poi_database_use_negative.csv",
    "mgeo_poi_database_use_negative.parquet",
}


def poi(number: int) -> Passage:
    return Passage(
        f"第{number}中学,学府路{number}号", round(120.0 + number / 1000, 6), round(30.0 + number / 1000, 6), str(number)
    )


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
    said: list[str] = []
    out = tmp_path / "a" / "out"
    summary = build_geotes(source(tmp_path, train=train, dev=dev, test=test), out, progress=said.append)
    assert set(os.listdir(out)) == TREE
    assert read_records(out / "train_dataset_use_gis.pth") == train, "the published name resolves to the twin"
    assert read_records(out / "val_dataset_use_gis_1000.jsonl") == dev
    for name in ("test_dataset_use_gis_1000.jsonl", "test_dataset_use_gis_20000.jsonl", "test_dataset.jsonl"):
        assert read_records(out / name) == test
    rows = {f.path.name: f.rows for f in summary.files}
    assert rows["same_poi_views_mgeo.csv"] == 5
    assert rows["mgeo_poi_database_train_use_negative.csv"] == 7
    assert json.loads(json.dumps(summary.to_json()))["files"][0]["rows"] == 5
    assert noted(summary, "test_dataset_use_gis_20000.jsonl holds all 4 queries")
    assert "reading train_dataset.jsonl" in said
    assert "writing test_dataset.jsonl" in said


def test_views_are_the_train_query_and_its_positives(tmp_path: Path) -> None:
    train = [*records("train", 2), Record("两个", [poi(5), poi(6)], [poi(1)], "train-9")]
    build_geotes(source(tmp_path, train=train), tmp_path / "out")
    views = read_views(tmp_path / "out" / "same_poi_views_mgeo.csv")
    assert views.columns.tolist() == VIEW_COLUMNS
    assert views["address1"].tolist() == ["train 0中", "train 1中", "两个", "两个"]
    assert views["address2"].tolist() == [poi(i).text for i in (0, 1, 5, 6)]
    assert views["lng"].tolist() == [poi(i).lng for i in (0, 1, 5, 6)]
    twin = pd.read_parquet(tmp_path / "out" / "same_poi_views_mgeo.parquet")
    assert twin["query_id"].tolist() == ["train-0", "train-1", "train-9", "train-9"]
    assert twin["docid"].tolist() == ["0", "1", "5", "6"]


def test_views_without_ids_have_no_id_columns(tmp_path: Path) -> None:
    plain = Passage("湖边路3号", 120.1, 30.1)
    build_geotes(source(tmp_path, train=[Record("湖边", [plain], [])]), tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out" / "same_poi_views_mgeo.parquet").columns.tolist() == VIEW_COLUMNS
    pois = pd.read_parquet(tmp_path / "out" / "mgeo_poi_database_train_use_negative.parquet")
    assert pois["poi_id"].tolist() == [0]


def test_the_poi_database_holds_each_place_once(tmp_path: Path) -> None:
    again = Passage(poi(0).text, poi(0).lng, poi(0).lat, "another id")
    elsewhere = Passage(poi(0).text, 121.0, 31.0, "44")
    train = [Record("a", [poi(0)], [poi(1), again, elsewhere]), Record("b", [poi(1)], [poi(0), poi(2)])]
    build_geotes(source(tmp_path, train=train), tmp_path / "out")
    path = tmp_path / "out" / "mgeo_poi_database_train_use_negative.csv"
    assert read_frame(path).columns.tolist() == ["address", "lng", "lat"]
    assert read_pois(path)["address"].tolist() == [poi(0).text, poi(1).text, poi(0).text, poi(2).text]
    assert read_pois(path.with_suffix(".parquet"))["poi_id"].tolist() == ["0", "1", "44", "2"]


def test_ids_that_name_two_places_give_way_to_row_numbers(tmp_path: Path) -> None:
    train = [Record("a", [Passage("东门", 120.0, 30.0, "1")], [Passage("北门", 120.0, 30.0, "1")])]
    build_geotes(source(tmp_path, train=train), tmp_path / "out")
    twin = tmp_path / "out" / "mgeo_poi_database_train_use_negative.parquet"
    assert read_pois(twin)["poi_id"].tolist() == [0, 1]


def test_the_gold_is_never_a_train_negative_and_evaluation_is_kept(tmp_path: Path) -> None:
    gold = poi(0)
    same = Passage(gold.text + " ", gold.lng, gold.lat, "other id")
    near = Passage(gold.text, gold.lng + 0.001, gold.lat)
    record = Record("q", [gold], [poi(1), same, near, same])
    summary = build_geotes(source(tmp_path, train=[record, *records("t", 2)], dev=[record]), tmp_path / "out")
    assert read_records(tmp_path / "out" / "train_dataset_use_gis.jsonl")[0].negatives == [poi(1), near]
    assert read_records(tmp_path / "out" / "val_dataset_use_gis_1000.jsonl") == [record]
    assert noted(summary, "2 negatives in 1 train records equal a positive")
    assert noted(summary, "2 negatives of the test records equal their gold; they are kept")


def test_cuts_take_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geotes, "SMALL_CUT", 2)
    monkeypatch.setattr(geotes, "LARGE_CUT", 3)
    dev, test = records("dev", 4), records("test", 3)
    summary = build_geotes(source(tmp_path, dev=dev, test=test), tmp_path / "out")
    assert read_records(tmp_path / "out" / "val_dataset_use_gis_1000.jsonl") == dev[:2]
    assert read_records(tmp_path / "out" / "test_dataset_use_gis_1000.jsonl") == test[:2]
    assert read_records(tmp_path / "out" / "test_dataset_use_gis_20000.jsonl") == test
    assert not noted(summary, "holds all")
    assert noted(summary, "No train_dataset.jsonl")


def test_without_a_test_file_dev_stands_in_and_the_summary_says_so(tmp_path: Path) -> None:
    dev = records("dev", 3)
    summary = build_geotes(source(tmp_path, train=records("train", 2), dev=dev), tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == TREE
    assert read_records(tmp_path / "out" / "test_dataset.jsonl") == dev
    assert noted(summary, "the 3 dev queries stand in for the test queries")
    assert noted(summary, "no held-out figure")


def test_train_alone_makes_the_train_files(tmp_path: Path) -> None:
    summary = build_geotes(source(tmp_path, train=records("train", 2)), tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == {n for n in TREE if "train" in n or "views" in n}
    assert noted(summary, "No dev_dataset.jsonl")
    assert noted(summary, "No test_dataset.jsonl in the source either")


def test_shared_queries_and_repeated_negatives_are_told(tmp_path: Path) -> None:
    train = [Record("湖边路", [poi(0)], [poi(1), poi(1), poi(2)])]
    summary = build_geotes(source(tmp_path, train=train, dev=[Record("湖边路 ", [poi(3)], [])]), tmp_path / "out")
    assert noted(summary, "1 dev queries read exactly like a train query")
    assert noted(summary, "1 train negatives repeat another negative")


def test_packed_sources_and_the_poi_database(tmp_path: Path) -> None:
    folder = source(tmp_path, train=records("train", 2))
    packed = folder / "dev_dataset.jsonl.gz"
    write_records(records("dev", 2), packed)
    write_records(records("wrong", 1), folder / "train_dataset.jsonl.gz")
    pois = pd.DataFrame({"address": ["东门", "东门"], "lng": [120.0, 120.0], "lat": [30.0, 30.0]})
    write_table(pois, folder / "poi_database.csv")
    summary = build_geotes(folder, tmp_path / "out")
    assert set(os.listdir(tmp_path / "out")) == TREE | {"poi_database.csv", "poi_database.parquet"}
    assert read_pois(tmp_path / "out" / "poi_database.csv")[["address", "lng", "lat"]].equals(pois)
    assert read_records(tmp_path / "out" / "train_dataset_use_gis.jsonl") == records("train", 2)
    assert noted(summary, "train_dataset.jsonl was read; train_dataset.jsonl.gz beside it was not")


def test_the_datum_is_converted_everywhere(tmp_path: Path) -> None:
    def there(p: Passage) -> Passage:
        lng, lat = wgs84_to_gcj02(p.lng, p.lat)
        return Passage(p.text, float(lng), float(lat), p.docid)

    folder = source(tmp_path, train=[Record("q", [there(poi(1))], [there(poi(2))])])
    write_table(pd.DataFrame([vars_of(there(poi(3)))]), folder / "poi_database.csv")
    build_geotes(folder, tmp_path / "out", GeotesOptions(datum="gcj02"))
    out = tmp_path / "out"
    got = [
        *[(p.lng, p.lat) for p in read_records(out / "train_dataset_use_gis.jsonl")[0].passages],
        *read_views(out / "same_poi_views_mgeo.csv")[["lng", "lat"]].to_numpy().tolist(),
        *read_pois(out / "mgeo_poi_database_train_use_negative.csv")[["lng", "lat"]].to_numpy().tolist(),
        *read_pois(out / "poi_database.parquet")[["lng", "lat"]].to_numpy().tolist(),
    ]
    np.testing.assert_allclose(got, [(poi(i).lng, poi(i).lat) for i in (1, 2, 1, 1, 2, 3)], atol=2e-7)


def vars_of(p: Passage) -> dict[str, Any]:
    return {"address": p.text, "lng": p.lng, "lat": p.lat}


@pytest.mark.parametrize("bad", ["train", "dev", "test", "poi_database"])
def test_nothing_is_written_when_any_file_is_bad(tmp_path: Path, bad: str) -> None:
    folder = source(tmp_path, train=records("train", 2), dev=records("dev", 2), test=records("test", 2))
    write_table(pd.DataFrame([vars_of(poi(1))]), folder / "poi_database.csv")
    path = folder / ("poi_database.csv" if bad == "poi_database" else f"{bad}_dataset.jsonl")
    with path.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(InputError) as caught:
        build_geotes(folder, tmp_path / "out")
    line = 3 if bad != "poi_database" else "3: lng"
    assert caught.value.where == f"{path}:{line}"
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_fails_before_the_work(tmp_path: Path) -> None:
    folder = source(tmp_path, train=records("train", 2))
    (tmp_path / "file").write_text("x")
    said: list[str] = []
    with pytest.raises(InputError, match="cannot write there"):
        build_geotes(folder, tmp_path / "file" / "out", progress=said.append)
    assert said == []


def test_the_source_is_never_overwritten(tmp_path: Path) -> None:
    folder = source(tmp_path, train=records("train", 2))
    for place in (folder, tmp_path / "source" / ".." / "source"):
        with pytest.raises(InputError, match="output folder is the source folder"):
            build_geotes(folder, place)
    with pytest.raises(InputError, match="would overwrite the source"):
        build_geotes(folder / "train_dataset.jsonl", folder)


def test_folders_without_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        build_geotes(tmp_path / "none", tmp_path / "out")
    empty = source(tmp_path)
    with pytest.raises(InputError, match="holds no GeoTES dataset") as caught:
        build_geotes(empty, tmp_path / "out")
    assert "train_dataset.jsonl" in str(caught.value.hint)
    (empty / "train_dataset_use_gis.pth").write_bytes(b"x")
    with pytest.raises(InputError, match=r"give the file itself: .*train_dataset_use_gis\.pth"):
        build_geotes(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="unknown datum"):
        build_geotes(empty, tmp_path / "out", GeotesOptions(datum="mars"))  # type: ignore[arg-type]


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
    (folder / "a.csv").write_text("x")
    with pytest.raises(InputError, match=r"cannot read candidate records from \.csv"):
        build_geotes(folder / "a.csv", tmp_path / "out")


def test_the_golden_pickle_is_imported(tmp_path: Path, shared: Path) -> None:
    golden = shared / "golden"
    summary = build_geotes(golden / "candidates_use_gis.pth", tmp_path)
    assert [f.path for f in summary.files] == [tmp_path / "candidates_use_gis.jsonl"]
    assert read_records(tmp_path / "candidates_use_gis.jsonl") == read_records(golden / "candidates.jsonl")


def test_the_real_part_of_geotes(tmp_path: Path, shared: Path) -> None:
    summary = build_geotes(shared / "data" / "geotes", tmp_path)
    assert set(os.listdir(tmp_path)) == TREE | {"poi_database.csv", "poi_database.parquet"}
    rows = {f.path.name: f.rows for f in summary.files}
    assert rows["train_dataset_use_gis.jsonl"] == rows["same_poi_views_mgeo.csv"] == 700
    assert rows["test_dataset.jsonl"] == 100
    assert rows["mgeo_poi_database_train_use_negative.csv"] == 4428
    assert rows["mgeo_poi_database_use_negative.csv"] == 2319
    assert rows["poi_database.csv"] == 5000
    twin = read_pois(tmp_path / "mgeo_poi_database_use_negative.parquet")
    database = read_pois(tmp_path / "poi_database.csv")
    named = database.set_index("poi_id").loc[twin["poi_id"].astype(int), "address"]
    assert named.tolist() == twin["address"].tolist(), "GeoTES docids are the row numbers of its POI table"
