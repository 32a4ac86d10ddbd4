"""``m3gal data osm`` as it is typed: which places and kinds it takes, what it prints, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.data.sample import copy_sample
from tests.helpers.cli import Answer, m3gal

BOX = (24.935, 60.165, 24.95, 60.172)
FEW = ("--train-queries", 50, "--val-queries", 10, "--test-queries", 20, "--negatives", 5, "--suffix", "h")


@pytest.fixture(scope="module")
def extract(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_sample(tmp_path_factory.mktemp("extract"))


def build(extract: Path, out: Path, *more: object) -> Answer:
    return m3gal("data", "osm", extract, "-o", out, *FEW, *more)


def kinds(out: Path) -> set[str]:
    views = pd.read_parquet(out / "same_poi_views_h.parquet")
    records = [json.loads(x) for f in out.glob("*_dataset_*.jsonl") for x in f.read_text(encoding="utf-8").splitlines()]
    return set(views["kind1"]) | set(views["kind2"]) | {row["kind"] for row in records}


def test_box_and_limit_choose_places_and_json_tells_what_was_made(extract: Path, tmp_path: Path) -> None:
    box = ",".join(map(str, BOX))
    made = build(extract, tmp_path / "all", "--bbox", box, "--json").json()
    pois = pd.read_parquet(tmp_path / "all" / "poi_database_h.parquet")
    assert made["places"] == len(pois) > 200
    west, south, east, north = BOX
    assert pois["lng"].between(west, east).all()
    assert pois["lat"].between(south, north).all()
    fewer = build(extract, tmp_path / "few", "--bbox", box, "--limit", "0.1k", "--json").json()
    assert fewer["places"] == 100
    assert set(pd.read_parquet(tmp_path / "few" / "poi_database_h.parquet")["poi_id"]) < set(pois["poi_id"])
    views = pd.read_parquet(tmp_path / "all" / "same_poi_views_h.parquet")
    assert made["kinds"] == views["kind1"].value_counts().to_dict()
    assert made["pairs"] == len(views) == sum(made["kinds"].values())
    assert sorted(Path(f).name for f in made["files"]) == sorted(f.name for f in (tmp_path / "all").iterdir())
    assert str(tmp_path / "all" / "facts_h.parquet") in made["files"]


def test_a_polygon_and_a_boundary_choose_places(extract: Path, tmp_path: Path) -> None:
    west, south, east, north = BOX
    corner = {"type": "Polygon", "coordinates": [[[west, south], [east, south], [west, north], [west, south]]]}
    (tmp_path / "corner.geojson").write_text(json.dumps(corner), encoding="utf-8")
    assert build(extract, tmp_path / "o", "--polygon", tmp_path / "corner.geojson").code == 0
    pois = pd.read_parquet(tmp_path / "o" / "poi_database_h.parquet")
    assert len(pois) > 100
    assert ((pois["lng"] - west) / (east - west) + (pois["lat"] - south) / (north - south)).max() <= 1.0
    assert build(extract, tmp_path / "p", "--place", "Stockmann").code == 0
    inside = set(pd.read_parquet(tmp_path / "p" / "poi_database_h.parquet")["name"])
    assert len(inside) > 30
    assert inside >= {"Food Market Herkku", "Stockmann Roof", "Tiketti"}
    assert not inside & {"Alepa Eliel", "Senaatintori", "Kluuvi"}


def test_what_lies_outside_still_tells_where_a_place_is(extract: Path, tmp_path: Path) -> None:
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


def test_kinds_are_left_out_by_name_and_pattern(extract: Path, tmp_path: Path) -> None:
    box = ("--bbox", ",".join(map(str, BOX)))
    assert build(extract, tmp_path / "all", *box).code == 0
    assert build(extract, tmp_path / "less", *box, "--without", "door_*,name_street", "--without", "*@sv").code == 0
    every, less = kinds(tmp_path / "all"), kinds(tmp_path / "less")
    gone = {k for k in every if k.startswith("door_") or k == "name_street" or k.endswith("@sv")}
    assert len(gone) > 10
    assert less == every - gone
    one = [pd.read_parquet(tmp_path / f / "poi_database_h.parquet") for f in ("all", "less")]
    pd.testing.assert_frame_equal(*one)


def test_the_table_shows_the_commonest_kinds(extract: Path, tmp_path: Path) -> None:
    shown = build(extract, tmp_path / "o", "--bbox", ",".join(map(str, BOX)))
    made = pd.read_parquet(tmp_path / "o" / "same_poi_views_h.parquet")["kind1"].value_counts()
    words = " ".join(shown.out.split())
    assert f"{made.index[0]} {made.iloc[0]:,}" in words
    assert "others (--json has" in words
    assert "view pairs" in words


def test_a_node_store_changes_nothing(extract: Path, tmp_path: Path) -> None:
    box = ("--bbox", ",".join(map(str, BOX)))
    assert build(extract, tmp_path / "a", *box).code == 0
    assert build(extract, tmp_path / "b", *box, "--node-store", tmp_path / "nodes.bin").code == 0
    assert not (tmp_path / "nodes.bin").exists()
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bbox", "1,2,3"), "'1,2,3' is not a bounding box"),
        (("--bbox", "0,0,1,1"), "holds no named place"),
        (("--limit", "many"), "'many' is not a number of places"),
        (("--limit", "0"), "'0' is not a number of places"),
        (("--place", "Atlantis"), "no boundary of the extract is called 'Atlantis'"),
        (("--polygon", "nowhere.geojson"), "nowhere.geojson: no such GeoJSON file"),
        (("--without", "name,colour"), "--without 'colour' fits no kind of view"),
        (("--without", "*"), "no place has two views"),
        (("--noise", "1.5"), "noise 1.5 is not between 0 and 1"),
        (("--pairs", "0"), "max_pairs_per_place must be at least 1"),
        (("--locale", "nowhere.yaml"), "nowhere.yaml: no such locale file"),
    ],
)
def test_what_it_refuses(extract: Path, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    answer = build(extract, tmp_path / "o", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert message in answer.err
    assert answer.err.count("\n") <= 2
    assert not (tmp_path / "o").is_dir() or not list((tmp_path / "o").iterdir())


def test_an_unknown_kind_is_answered_with_the_known_ones(extract: Path, tmp_path: Path) -> None:
    answer = build(extract, tmp_path / "o", "--without", "nosuch")
    for kind in ("door", "name_street", "name_street@sv"):
        assert f"{kind}," in answer.err


def test_leaving_out_what_only_another_locale_has_is_a_note(extract: Path, tmp_path: Path) -> None:
    box = ("--bbox", ",".join(map(str, BOX)))
    answer = build(extract, tmp_path / "o", *box, "--without", "sub_*,told_name", "--json")
    assert answer.code == 0
    said = [
        "--without 'sub_*' leaves nothing out: locale neutral has no kind of view that fits, only zh has such.",
        "--without 'told_name' leaves nothing out: locale neutral has no kind of view that fits, only zh has such.",
    ]
    assert answer.json()["notes"] == said
    assert build(extract, tmp_path / "p", *box, "--without", "sub_*,colour").code == 2
