"""Which files a data section means."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.config.paths import find_pois, find_records, find_views, resolve_data
from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.mkdir()
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_the_only_view_table_is_meant(folder: Path) -> None:
    data = DataConfig(dir=str(folder))
    with pytest.raises(InputError, match="no view table") as caught:
        find_views(data)
    assert "m3gal data osm" in str(caught.value.hint)
    touch(folder, "same_poi_views_mgeo.csv", "same_poi_views_mgeo.parquet", "other.csv")
    assert find_views(data) == folder / "same_poi_views_mgeo.csv"
    touch(folder, "same_poi_views_town.csv")
    assert find_views(data) == folder / "same_poi_views_town.csv", "a city goes before the views of GeoTES"
    touch(folder, "same_poi_views_city.csv")
    with pytest.raises(InputError, match="more than one view table: city, town"):
        find_views(data)
    assert find_views(DataConfig(dir=str(folder), suffix="city")) == folder / "same_poi_views_city.csv"
    assert find_views(DataConfig(dir=str(folder), suffix="city", views="x/y.csv")) == Path("x/y.csv")


# Published names in the order in which they are tried, for the settings suffix and test_suffix.
RECORDS = [
    ("train", {}, ["train_dataset_use_gis", "train_dataset", "train_dataset_use_gis_20000"]),
    ("test", {}, ["test_dataset_use_gis", "test_dataset", "test_dataset_use_gis_20000", "test_dataset_use_gis_1000"]),
    ("val", {"suffix": "hz"}, ["val_dataset_use_gis_hz", "val_dataset_use_gis", "val_dataset"]),
    ("test", {"test_suffix": "1000"}, ["test_dataset_use_gis_1000", "test_dataset_use_gis", "test_dataset"]),
    ("train", {"test_suffix": "1000"}, ["train_dataset_use_gis", "train_dataset"]),
    (
        "val",
        {"suffix": "hz", "test_suffix": "1000"},
        ["val_dataset_use_gis_1000", "val_dataset_use_gis_hz", "val_dataset_use_gis", "val_dataset"],
    ),
]


@pytest.mark.parametrize(("split", "settings", "stems"), RECORDS)
def test_records_by_the_first_published_name(
    folder: Path, split: str, settings: dict[str, str], stems: list[str]
) -> None:
    data = DataConfig(dir=str(folder), **settings)
    assert find_records(data, split) is None
    others = {"train", "val", "test"} - {split}
    touch(folder, *(f"{other}_dataset_use_gis.jsonl" for other in others), f"{split}_dataset_use_gis_else.jsonl")
    assert find_records(data, split) is None
    names = [stem + end for stem in stems for end in (".jsonl", ".jsonl.gz", ".pth")]
    for name in reversed(names):
        touch(folder, name)
        assert find_records(data, split) == folder / name
    given = data.model_copy(update={split: "given.jsonl"})
    assert find_records(given, split) == Path("given.jsonl")


def test_with_a_test_suffix_no_other_cut_is_taken(folder: Path) -> None:
    touch(folder, "test_dataset_use_gis_20000.jsonl", "train_dataset_use_gis_1000.jsonl")
    data = DataConfig(dir=str(folder), test_suffix="1000")
    assert find_records(data, "test") is None
    assert find_records(data, "train") is None, "it names no cut of the training records"


def test_the_suffix_of_the_only_view_table_counts_for_the_other_files(folder: Path) -> None:
    touch(folder, "test_dataset_use_gis.jsonl", "test_dataset_use_gis_town.jsonl")
    touch(folder, "poi_database.csv", "poi_database_town.csv")
    data = DataConfig(dir=str(folder))
    assert find_records(data, "test") == folder / "test_dataset_use_gis.jsonl"
    assert find_pois(data) == folder / "poi_database.csv"
    touch(folder, "same_poi_views_town.csv")
    assert find_records(data, "test") == folder / "test_dataset_use_gis_town.jsonl"
    assert find_pois(data) == folder / "poi_database_town.csv"
    elsewhere = DataConfig(dir=str(folder), views=str(folder / "views.csv"))
    assert find_pois(elsewhere) == folder / "poi_database.csv", "views of another name give no suffix"


def test_poi_tables_by_the_first_published_name(folder: Path) -> None:
    data = DataConfig(dir=str(folder), suffix="hz")
    assert find_pois(data) is None
    for stem in ("mgeo_poi_database_use_negative", "poi_database", "poi_database_hz"):
        for name in (f"{stem}.csv", f"{stem}.parquet"):
            touch(folder, name)
            assert find_pois(data) == folder / name
    assert find_pois(data.model_copy(update={"poi": "my.csv"})) == Path("my.csv")


def test_resolved_paths_are_absolute_or_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    touch(folder, "same_poi_views_town.csv", "train_dataset_use_gis.jsonl", "poi_database_town.parquet")
    config = resolve_data(Config(data={"dir": "data", "val": "mine.jsonl"}))
    monkeypatch.chdir("/")
    data = config.data
    assert data.views == str(folder / "same_poi_views_town.csv")
    assert data.train == str(folder / "train_dataset_use_gis.jsonl")
    assert data.val == str(folder.parent / "mine.jsonl")
    assert data.poi == str(folder / "poi_database_town.parquet")
    assert data.test is None
    (folder / "same_poi_views_city.csv").touch()
    assert resolve_data(Config(data={"dir": str(folder)})).data.views is None, "two tables: none is meant"
