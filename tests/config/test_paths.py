"""Paths of the data files and of the files that a run keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.config.load import config_from_file, dump_config
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


def test_a_run_names_its_data_relative_to_itself_so_that_the_project_can_move(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files inside the project become relative, others absolute, missing ones None."""
    project, other = folder.parent, tmp_path_factory.mktemp("elsewhere")
    touch(folder, "same_poi_views_town.csv", "train_dataset_use_gis.jsonl")
    touch(other, "pois.parquet")
    run = project / "runs" / "a"
    run.mkdir(parents=True)
    monkeypatch.chdir(project)
    given = Config(data={"dir": "data", "val": "mine.jsonl", "poi": str(other / "pois.parquet")})
    text = dump_config(resolve_data(given, Path("runs/a")))
    assert str(project) not in text
    (run / "config.yaml").write_text(text, encoding="utf-8")
    moved = project.rename(project.with_name("moved"))
    monkeypatch.chdir("/")
    data = config_from_file(moved / "runs" / "a" / "config.yaml").data
    assert data.dir == str(moved / folder.name)
    assert data.views == str(moved / folder.name / "same_poi_views_town.csv")
    assert data.train == str(moved / folder.name / "train_dataset_use_gis.jsonl")
    assert data.val == str(moved / "mine.jsonl")
    assert data.poi == str(other / "pois.parquet")
    assert data.test is None


def test_no_view_table_is_chosen_among_two(folder: Path) -> None:
    touch(folder, "same_poi_views_town.csv", "same_poi_views_city.csv")
    assert resolve_data(Config(data={"dir": str(folder)}), folder.parent / "runs" / "a").data.views is None
