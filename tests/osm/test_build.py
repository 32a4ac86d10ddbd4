"""Builds of extracts: texts, coordinates, options and invalid input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import wgs84_to_gcj02
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.osm import OsmOptions, build, build_city
from m3gal_cli.osm.city import PlaceViews, SourceOptions, read_city
from m3gal_cli.osm.selection import Selection
from m3gal_cli.osm.splits import NEAR_SHARE, query_locations
from tests.helpers.built_city import Built, built, check_rules
from tests.helpers.extracts import Town, grid_town, small_town


def test_a_chinese_row_names_the_crossing_and_has_wgs84_coordinates(tmp_path: Path) -> None:
    town = Town(*(float(v) for v in wgs84_to_gcj02(120.1, 30.28)))
    town.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
    town.way([(0, -900), (0, 900)], highway="primary", name="古墩路")
    town.node(70, 70, amenity="pharmacy", name="康乐药店")
    town.node(-300, 5, amenity="restaurant", name="楼外楼")
    town.node(-40, 330, shop="books", name="晓风书屋")
    summary = build_city(town.write(tmp_path / "t.osm.gz"), tmp_path / "out", OsmOptions(datum="gcj02"))
    assert summary.locale == "zh"
    pois = read_pois(tmp_path / "out" / "poi_database_osm.csv")
    assert pois["address"][0] == "康乐药店,医疗保健服务,药房,文一西路与古墩路交叉口东北100米"
    assert pois["address"][1] == "楼外楼,餐饮服务,餐厅,文一西路与古墩路交叉口西300米"
    assert haversine_m(pois["lng"][0], pois["lat"][0], *Town(120.1, 30.28).at(70, 70)) < 0.5


def test_house_numbers_and_postcodes_are_cleaned(tmp_path: Path) -> None:
    town = small_town()
    number = {"addr:street": "Long Lane", "addr:housenumber": "76, 76a;78", "addr:postcode": " 9493 "}
    town.node(30, 30, shop="books", name="Page One", **number)
    options = OsmOptions(locale="neutral", noise=0.0, val_queries=0, test_queries=0, max_pairs_per_place=40)
    build_city(town.write(tmp_path / "t.osm"), tmp_path / "out", options)
    pois = read_pois(tmp_path / "out" / "poi_database_osm.parquet").set_index("name")
    assert pois["housenumber"]["Page One"] == "76"
    assert pois["address"]["Page One"].startswith("Page One, books, Long Lane 76")
    views = read_views(tmp_path / "out" / "same_poi_views_osm.parquet")
    assert "Long Lane 76, 9493 Testville" in set(views["address1"])


@pytest.mark.parametrize("part", [False, True])
def test_an_unnamed_part_is_left_out_if_another_has_its_name_selected_or_not(tmp_path: Path, part: bool) -> None:
    town = small_town()
    town.way([(500, 500), (700, 500), (700, 700), (500, 700)], closed=True, leisure="park", name="Twin Park")
    for east in (520.0, 690.0):
        town.node(east, 600, amenity="parking")
    town.node(600, 510, barrier="gate")
    selection = Selection(bbox=(*town.at(450, 450), *town.at(600.5, 750)) if part else None)
    options = SourceOptions(locale="neutral", selection=selection)
    city = read_city(town.write(tmp_path / "t.osm"), options, lambda *_: None)
    parts = [PlaceViews(city, j).slots["name"][0] for j, place in enumerate(city.places) if place.is_unnamed_part]
    assert parts == ["Twin Park (S)"]  # both car parks would be "Twin Park parking"


def test_two_in_three_query_locations_are_near_the_place() -> None:
    gold = np.tile([[50_000.0, 0.0]], (3000, 1))
    far = np.random.default_rng(1).uniform(-1000, 1000, (500, 2))
    metres = np.hypot(*(query_locations(gold, far, seed=4) - gold).T)
    assert (metres <= 2000.0).mean() == pytest.approx(NEAR_SHARE, abs=0.03)
    assert np.median(metres[metres <= 2000.0]) == pytest.approx(2000.0 / 2**0.5, rel=0.05)  # uniform over the disc


def test_the_summary_counts_what_is_written(helsinki_city: Built) -> None:
    summary = helsinki_city.summary
    assert summary.places == len(helsinki_city.pois) > 1500
    assert summary.pairs == len(helsinki_city.views) > 10_000
    assert summary.queries == {n: len(rows) for n, rows in helsinki_city.records.items()}
    assert summary.queries["test"] > 400
    assert summary.places_without_pairs == summary.places - helsinki_city.of_places["poi_id"].nunique()
    assert summary.groups == (helsinki_city.pois["group"].value_counts() > 1).sum() > 0
    assert all(Path(f).exists() for f in summary.files)
    assert len(summary.files) == 8
    swedish = helsinki_city.views[helsinki_city.views["kind1"].str.endswith("@sv")]
    assert swedish["address1"].str.contains("Mannerheimvägen").sum() > 20


def test_options_reach_the_files(tmp_path: Path) -> None:
    extract = grid_town().write(tmp_path / "grid.osm")
    sizes = {"negatives": 5, "test_queries": 7, "val_queries": 3, "train_queries": 20}
    city = built(extract, tmp_path / "out", OsmOptions(suffix="grid", **sizes))
    check_rules(city)
    assert {n: len(rows) for n, rows in city.records.items()} == {"train": 20, "val": 3, "test": 7}
    assert all(len(r.negatives) == 5 for r in city.records["test"])
    other = built(extract, tmp_path / "other", OsmOptions(seed=1, **sizes))
    assert not city.views.equals(other.views)


def fails(extract: Path, out: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_city(extract, out, OsmOptions())
    assert len(caught.value.render().splitlines()) <= 2
    assert not out.is_dir() or not list(out.iterdir())


@pytest.mark.parametrize("name", ["a.osm.pbf", "10%.osm.pbf", "99%.osm.pbf", "a.osm", "a.osm.gz", "a.shp"])
def test_a_corrupt_truncated_or_misnamed_extract_is_refused(tmp_path: Path, name: str) -> None:
    content = b"no map " * 99
    if "%" in name:
        content = copy_sample(tmp_path).read_bytes()
        content = content[: len(content) * int(name.partition("%")[0]) // 100]
    elif name == "a.osm":
        content = small_town().write(tmp_path / "town.osm").read_bytes()[:-200]
    (tmp_path / name).write_bytes(content)
    fails(tmp_path / name, tmp_path / "out", "suffix of an" if name == "a.shp" else "truncated or corrupt")


def test_extracts_without_a_named_place_or_with_a_single_one_are_refused(tmp_path: Path) -> None:
    town = Town()
    town.way([(-1000, 0), (1000, 0)], highway="residential", name="First Street")
    town.node(0, 0, amenity="cafe")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "holds no named place")
    town = Town()
    town.node(0, 0, amenity="cafe", name="Alone")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "no place has two views")


def test_a_failed_build_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object) -> None:
        raise InputError("cannot write (No space left on device)")

    extract = grid_town().write(tmp_path / "t.osm")
    with pytest.raises(InputError, match="cannot write there"):
        build_city(extract, extract / "out", OsmOptions(), lambda step, *_: pytest.fail(step))
    monkeypatch.setattr(build, "write_records", full_disk)
    fails(extract, tmp_path / "out", "No space left")


def test_the_sample_comes_with_its_attribution(tmp_path: Path) -> None:
    path = copy_sample(tmp_path / "new" / "folder")
    assert "© OpenStreetMap contributors" in (path.parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
