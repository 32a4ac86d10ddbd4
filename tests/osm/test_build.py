"""Builds of real extracts against the rules of the tables; bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_pois, read_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import haversine_m, wgs84_to_gcj02
from m3gal_cli.osm import OsmOptions, build, build_city
from m3gal_cli.osm.city import Described, Reading, read_city
from m3gal_cli.osm.selection import Selection
from m3gal_cli.osm.splits import NEAR_SHARE, standpoints
from tests.helpers.built_city import Built, built, check_rules
from tests.helpers.extracts import Town, small_town


def test_chinese_crossing_text(tmp_path: Path) -> None:
    town = Town(120.1, 30.28)
    town.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
    town.way([(0, -900), (0, 900)], highway="primary", name="古墩路")
    town.node(70, 70, amenity="pharmacy", name="康乐药店")
    town.node(-300, -30, amenity="restaurant", name="楼外楼")
    town.node(500, 400, tourism="museum", name="茶叶博物馆")
    town.node(-40, 330, shop="books", name="晓风书屋")
    summary = build_city(town.write(tmp_path / "t.osm.gz"), tmp_path / "out", OsmOptions())
    assert summary.locale == "zh"
    pois = read_pois(tmp_path / "out" / "poi_database_osm.parquet").set_index("name")["address"]
    assert pois["康乐药店"] == "康乐药店,医疗保健服务,药房,文一西路与古墩路交叉口东北100米"
    assert pois["楼外楼"] == "楼外楼,餐饮服务,餐厅,文一西路与古墩路交叉口西300米"


def test_datum_is_converted_at_the_door(tmp_path: Path) -> None:
    shifted = Town(*(float(v) for v in wgs84_to_gcj02(120.1, 30.28)))
    shifted.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
    for n, name in enumerate(["康乐药店", "楼外楼", "晓风书屋"]):
        shifted.node(n * 100.0, 0, shop="books", name=name)
    extract = shifted.write(tmp_path / "t.osm")
    build_city(extract, tmp_path / "out", OsmOptions(datum="gcj02"))
    pois = read_pois(tmp_path / "out" / "poi_database_osm.csv")
    assert haversine_m(pois["lng"][0], pois["lat"][0], 120.1, 30.28) < 0.1
    build_city(extract, tmp_path / "raw", OsmOptions())
    raw = read_pois(tmp_path / "raw" / "poi_database_osm.csv")
    assert haversine_m(raw["lng"][0], raw["lat"][0], 120.1, 30.28) > 100.0


def test_addresses_are_tidied(tmp_path: Path) -> None:
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


def test_a_part_is_left_out_if_another_one_is_called_the_same_selected_or_not(tmp_path: Path) -> None:
    town = small_town()
    town.way([(500, 500), (700, 500), (700, 700), (500, 700)], closed=True, leisure="park", name="Twin Park")
    for east in (520.0, 690.0):
        town.node(east, 600, amenity="parking")
    town.node(600, 510, barrier="gate")
    extract = town.write(tmp_path / "t.osm")
    (west, south), (east, north) = town.at(450, 450), town.at(600.5, 750)
    for name, box in (("all", None), ("part", (west, south, east, north))):
        selection = Selection(bbox=box)
        city = read_city(extract, Reading(locale="neutral", selection=selection), lambda *_: None)
        parts = [Described(city, j).fields()["name"][0] for j, place in enumerate(city.places) if place.is_part]
        assert parts == ["Twin Park (S)"], name  # both car parks would be "Twin Park parking"


def test_standpoints_are_near_for_two_in_three() -> None:
    gold = np.tile([[50_000.0, 0.0]], (3000, 1))
    far = np.random.default_rng(1).uniform(-1000, 1000, (500, 2))
    away = np.hypot(*(standpoints(gold, far, seed=4) - gold).T)
    assert (away <= 2000.0).mean() == pytest.approx(NEAR_SHARE, abs=0.03)
    assert np.median(away[away <= 2000.0]) == pytest.approx(2000.0 / 2**0.5, rel=0.05)  # even over the disc


# ---- whole builds ----


def test_helsinki_is_counted_and_written(helsinki_city: Built) -> None:
    summary = helsinki_city.summary
    assert summary.places == len(helsinki_city.pois) > 1500
    assert summary.pairs == len(helsinki_city.views) > 10_000
    assert summary.queries == {n: len(rows) for n, rows in helsinki_city.records.items()}
    assert summary.queries["test"] > 400
    assert summary.places_without_pairs == summary.places - helsinki_city.of_places["poi_id"].nunique()
    assert summary.groups == (helsinki_city.pois["group"].value_counts() > 1).sum() > 0
    assert all(Path(f).exists() for f in summary.files)
    assert len(summary.files) == 8


def test_helsinki_speaks_both_its_languages(helsinki_city: Built) -> None:
    views = helsinki_city.views
    swedish = views[views["kind1"].str.endswith("@sv")]
    assert swedish["address1"].str.contains("Mannerheimvägen").sum() > 20
    assert views["address1"].str.contains("Mannerheimintie").sum() > 20


def grid_town() -> Town:
    """A town of 8 streets and 90 places."""
    town = Town()
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'ABCD'[n]}lpha Street")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'EFGH'[n]}cho Road")
    kinds = ["cafe", "bank", "school", "pharmacy", "library"]
    for n in range(90):
        east, north = (n % 10) * 70.0, (n // 10) * 70.0 + 10
        town.node(east, north, amenity=kinds[n % 5], name=f"{kinds[n % 5].title()} of {chr(65 + n % 26)}{n}")
    return town


def test_equal_seeds_write_equal_files_and_other_seeds_others(tmp_path: Path) -> None:
    extract = grid_town().write(tmp_path / "grid.osm")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_city(extract, tmp_path / name, OsmOptions(seed=seed, locale="en"))
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 8
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert any((tmp_path / "a" / n).read_bytes() != (tmp_path / "c" / n).read_bytes() for n in files)


def test_options_reach_the_files(tmp_path: Path) -> None:
    extract = grid_town().write(tmp_path / "grid.osm")
    options = OsmOptions(locale="en", suffix="grid", negatives=5, test_queries=7, val_queries=3, train_queries=20)
    city = built(extract, tmp_path / "out", options)
    check_rules(city)
    assert {n: len(rows) for n, rows in city.records.items()} == {"train": 20, "val": 3, "test": 7}
    assert all(len(r.negatives) == 5 for r in city.records["test"])


@pytest.mark.slow
def test_a_large_extract_keeps_the_rules(shared: Path, tmp_path: Path) -> None:
    city = built(shared / "data" / "osm" / "hangzhou_amap2017.osm.pbf", tmp_path)
    check_rules(city)
    assert len(city.pois) > 15_000


# ---- bad input ----


def fails(extract: Path, out: Path, message: str, options: OsmOptions | None = None) -> InputError:
    with pytest.raises(InputError, match=message) as caught:
        build_city(extract, out, options or OsmOptions())
    assert len(caught.value.render().splitlines()) <= 2
    assert not out.is_dir() or not list(out.iterdir())
    return caught.value


def test_missing_empty_and_misnamed_extracts(tmp_path: Path) -> None:
    fails(tmp_path / "no.osm.pbf", tmp_path / "out", "no such OpenStreetMap extract")
    (tmp_path / "empty.osm.pbf").touch()
    fails(tmp_path / "empty.osm.pbf", tmp_path / "out", "is empty")
    (tmp_path / "map.shp").write_text("x")
    fails(tmp_path / "map.shp", tmp_path / "out", r"not called like an OpenStreetMap extract")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_pbf_is_said_to_be_one(tmp_path: Path, part: float) -> None:
    whole = copy_sample(tmp_path).read_bytes()
    broken = tmp_path / "broken.osm.pbf"
    broken.write_bytes(whole[: int(len(whole) * part)])
    fails(broken, tmp_path / "out", "truncated or corrupt")


@pytest.mark.parametrize("name", ["a.osm.pbf", "a.osm", "a.osm.gz", "a.osm.bz2"])
def test_what_is_no_extract_at_all_is_corrupt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no map, whatever its name says " * 20)
    fails(tmp_path / name, tmp_path / "out", "truncated or corrupt")


def test_a_truncated_xml_is_corrupt(tmp_path: Path) -> None:
    path = small_town().write(tmp_path / "t.osm")
    path.write_text(path.read_text()[:-200])
    fails(path, tmp_path / "out", "truncated or corrupt")


def test_an_extract_without_a_named_place(tmp_path: Path) -> None:
    town = Town()
    town.way([(-1000, 0), (1000, 0)], highway="residential", name="First Street")
    town.node(0, 0, amenity="cafe")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "holds no named place")


def test_one_lonely_place_makes_no_pairs(tmp_path: Path) -> None:
    town = Town()
    town.node(0, 0, amenity="cafe", name="Alone")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "no place has two views")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OsmOptions(locale="tlh"), "no such locale"),
        (OsmOptions(datum="utm"), "unknown datum"),  # type: ignore[arg-type]
        (OsmOptions(suffix="a/b"), "cannot be part of a file name"),
        (OsmOptions(noise=2.0), "not between 0 and 1"),
        (OsmOptions(negatives=0), "negatives must be at least 1"),
        (OsmOptions(seed=-1), "seed must not be negative"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: OsmOptions, message: str) -> None:
    fails(small_town().write(tmp_path / "t.osm"), tmp_path / "out", message, options)


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    steps: list[str] = []
    with pytest.raises(InputError, match="cannot write there"):
        build_city(
            small_town().write(tmp_path / "t.osm"),
            tmp_path / "out",
            OsmOptions(),
            lambda step, done, total: steps.append(step),
        )
    assert steps == []


def test_a_failure_while_writing_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object) -> None:
        raise InputError("cannot write (No space left on device)")

    monkeypatch.setattr(build, "write_records", full_disk)
    fails(grid_town().write(tmp_path / "t.osm"), tmp_path / "out", "No space left")


def test_progress_tells_every_step(tmp_path: Path) -> None:
    steps: list[str] = []
    extract = grid_town().write(tmp_path / "t.osm")
    build_city(extract, tmp_path / "out", OsmOptions(), lambda step, done, total: steps.append(step))
    assert list(dict.fromkeys(steps)) == ["reading", "joining", "views", "pairs", "mining"]


def test_the_sample_comes_with_its_attribution(tmp_path: Path) -> None:
    path = copy_sample(tmp_path / "new" / "folder")
    assert path.name == "helsinki.osm.pbf"
    assert path.stat().st_size == 685_110
    assert "© OpenStreetMap contributors" in (path.parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
