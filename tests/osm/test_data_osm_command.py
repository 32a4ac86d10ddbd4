"""The command ``m3gal data osm``: selection, kinds of views, output, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import shapely

from tests.helpers.cli import Answer, m3gal
from tests.osm.conftest import ExtractPath

BOX = (24.935, 60.165, 24.95, 60.172)
IN_BOX = ("--bbox", ",".join(map(str, BOX)))
FEW = ("--train-queries", 50, "--val-queries", 10, "--test-queries", 20, "--negatives", 5, "--suffix", "h")


@pytest.fixture(scope="module")
def extract(extract_path: ExtractPath) -> Path:
    return extract_path("helsinki")


def build(extract: Path, out: Path, *more: object) -> Answer:
    return m3gal("data", "osm", extract, "-o", out, *FEW, *more)


@pytest.fixture(scope="module")
def whole_box(extract: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the box and return the folder."""
    out = tmp_path_factory.mktemp("box") / "out"
    assert build(extract, out, *IN_BOX).code == 0
    return out


def kinds(out: Path) -> set[str]:
    views = pd.read_parquet(out / "same_poi_views_h.parquet")
    records = [json.loads(x) for f in out.glob("*_dataset_*.jsonl") for x in f.read_text(encoding="utf-8").splitlines()]
    return set(views["kind1"]) | set(views["kind2"]) | {row["kind"] for row in records}


def test_box_and_limit_select_places_and_json_counts_them(extract: Path, tmp_path: Path) -> None:
    made = build(extract, tmp_path / "all", *IN_BOX, "--json").json()
    pois = pd.read_parquet(tmp_path / "all" / "poi_database_h.parquet")
    assert made["places"] == len(pois) > 200
    west, south, east, north = BOX
    assert pois["lng"].between(west, east).all()
    assert pois["lat"].between(south, north).all()
    fewer = build(extract, tmp_path / "few", *IN_BOX, "--limit", "0.1k", "--json").json()
    assert fewer["places"] == 100
    assert set(pd.read_parquet(tmp_path / "few" / "poi_database_h.parquet")["poi_id"]) < set(pois["poi_id"])
    views = pd.read_parquet(tmp_path / "all" / "same_poi_views_h.parquet")
    assert made["kinds"] == views["kind1"].value_counts().to_dict()
    assert made["pairs"] == len(views) == sum(made["kinds"].values())
    assert sorted(Path(f).name for f in made["files"]) == sorted(f.name for f in (tmp_path / "all").iterdir())
    assert str(tmp_path / "all" / "facts_h.parquet") in made["files"]


def test_a_polygon_and_a_boundary_select_places(extract: Path, whole_box: Path, tmp_path: Path) -> None:
    (tmp_path / "box.geojson").write_text(shapely.to_geojson(shapely.box(*BOX)), encoding="utf-8")
    store = tmp_path / "nodes.bin"
    assert build(extract, tmp_path / "o", "--polygon", tmp_path / "box.geojson", "--node-store", store).code == 0
    assert not store.exists()
    pd.testing.assert_frame_equal(*(pd.read_parquet(f / "poi_database_h.parquet") for f in (tmp_path / "o", whole_box)))
    assert build(extract, tmp_path / "p", "--place", "Stockmann").code == 0
    inside = set(pd.read_parquet(tmp_path / "p" / "poi_database_h.parquet")["name"])
    assert len(inside) > 30
    assert inside >= {"Food Market Herkku", "Stockmann Roof", "Tiketti"}
    assert not inside & {"Alepa Eliel", "Senaatintori", "Kluuvi"}


def test_objects_outside_the_box_still_give_facts(extract: Path, tmp_path: Path) -> None:
    box = "24.94,60.167,24.945,60.17"
    assert build(extract, tmp_path / "all").code == 0
    assert build(extract, tmp_path / "box", "--bbox", box).code == 0
    for table in ("poi_database_h", "facts_h"):
        every, some = (pd.read_parquet(tmp_path / f / f"{table}.parquet").set_index("poi_id") for f in ("all", "box"))
        columns = [c for c in every.columns if c != "group"]
        pd.testing.assert_frame_equal(every.loc[some.index, columns], some[columns])
    landmarks = some["landmark_id"].dropna()
    assert (~landmarks.isin(some.index)).sum() > 20
    assert landmarks.isin(every.index).all()


def test_kinds_are_left_out_by_name_and_pattern(extract: Path, whole_box: Path, tmp_path: Path) -> None:
    out = tmp_path / "less"
    answer = build(extract, out, *IN_BOX, "--without", "door_*,name_street,sub_*", "--without", "*@sv", "--json")
    (note,) = answer.json()["notes"]
    assert "'sub_*' has no effect" in note
    assert "only zh has one" in note
    every, less = kinds(whole_box), kinds(out)
    gone = {k for k in every if k.startswith("door_") or k == "name_street" or k.endswith("@sv")}
    assert len(gone) > 10
    assert less == every - gone
    pd.testing.assert_frame_equal(*(pd.read_parquet(f / "poi_database_h.parquet") for f in (whole_box, out)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bbox", "1,2,3"), "'1,2,3' is not a bounding box"),
        (("--bbox", "60.16,24.93,60.17,24.95"), "Check that it is the right extract, and the order of --bbox"),
        (("--polygon", "nowhere.geojson"), "nowhere.geojson: no such GeoJSON file"),
        (("--without", "name,colour"), "name_street, name_street@sv,"),
        (("--without", "*"), "no place has two views"),
        (("--pairs", "0"), "--pairs must be at least 1, got 0"),
        (("--noise", "2"), "--noise 2.0 is not between 0 and 1"),
        (("--suffix", "a/b"), "cannot be part of a file name"),
        (("--locale", "nowhere.yaml"), "nowhere.yaml: no such locale file"),
    ],
)
def test_invalid_options_are_refused(extract: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    answer = build(extract, tmp_path / "o", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") <= 2
    assert not (tmp_path / "o").is_dir() or not list((tmp_path / "o").iterdir())
