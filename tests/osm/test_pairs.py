"""Pairs of real and drawn cities against the rules, synthetic and unnamed parts of compounds, determinism."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.osm import OsmOptions, build_city
from m3gal_cli.osm.locales import load_locale
from m3gal_cli.osm.views import POI_KIND
from m3gal_cli.text.normalise import reading_key
from tests.helpers.built_city import Built, built, check_rules
from tests.helpers.extracts import Town, grid_town, square
from tests.osm.conftest import ExtractPath, slow

REAL = ["helsinki", "nanjing_center", *slow("monaco", "liechtenstein", "beijing_tsinghua", "shenzhen_longgang")]


@pytest.fixture(scope="module", params=REAL)
def city(request: pytest.FixtureRequest, extract_path: ExtractPath, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if request.param == "helsinki":
        helsinki: Built = request.getfixturevalue("helsinki_city")
        return helsinki
    return built(extract_path(request.param), tmp_path_factory.mktemp(request.param) / "out")


def test_real_cities_keep_the_rules(city: Built) -> None:
    check_rules(city)
    assert len(city.views) > 3 * len(city.pois)
    assert city.of_places.groupby("poi_id").size().max() == city.options.max_pairs_per_place
    assert not city.of_places.duplicated(["poi_id", "kind1"]).any()  # each view leads to another one once


def test_kinds_are_those_of_the_locale(city: Built) -> None:
    own = load_locale(city.summary.locale)
    known = {t.kind for t in own.views}
    for code in city.summary.languages:
        other = load_locale("en" if code == "en" else "neutral") if own.language == "zh" else own
        known |= {f"{t.kind}@{code}" for t in other.views}
    assert set(city.of_places["kind1"]) <= known
    assert set(city.of_places["kind2"]) <= known | {POI_KIND}
    assert set(city.of_parts["kind1"]) <= {f"sub_{s.kind}" for s in own.suffixes}
    assert {r.extra["kind"] for rows in city.records.values() for r in rows} <= known
    assert len(set(city.of_places["kind1"])) > 15
    assert city.summary.kinds == dict(Counter(city.views["kind1"]))


def test_parts_of_two_compounds_never_read_the_same(tmp_path: Path) -> None:
    """Thirty schools have one name and one address, each beside a different shop."""
    town = Town(120.1, 30.28)
    for n in range(30):
        east, north = n % 6 * 500.0, n // 6 * 500.0
        town.node(east, north, amenity="school", name="文华中学", addr__street="文华路", addr__housenumber="8")
        town.node(east + 40, north, shop="books", name=f"{'甲乙丙丁戊己'[n % 6]}{'子丑寅卯辰'[n // 6]}书店")
    options = OsmOptions(test_queries=0, val_queries=0, train_queries=5)
    city = built(town.write(tmp_path / "t.osm"), tmp_path / "out", options)
    check_rules(city)
    schools = city.pois[city.pois["name"] == "文华中学"]
    assert len(schools) == 30
    assert schools["group"].nunique() == 1  # they read the same
    rows = city.of_parts.assign(two=city.of_parts["address2"].map(reading_key)).groupby("two")
    assert rows["group"].nunique().max() == 1
    # There are 8 gates and 6 wordings of a car park, and most are used.
    assert 8 <= len(rows) <= 14
    assert city.of_parts["poi_id"].str.partition("#")[0].nunique() > 5


def test_unnamed_parts_are_kept_if_their_name_is_unique(tmp_path: Path) -> None:
    """The town has a school with gates, a car park and a building, and a cafe with the name of a gate."""
    town = Town()
    town.way([(-900, -300), (900, -300)], highway="residential", name="Long Street")
    town.way([(-300, -900), (-300, 900)], highway="residential", name="Cross Road")
    town.way(square(0, 0, 100), closed=True, amenity="school", name="Green School")
    for east, north in ((0, 100), (100, 0), (0, -100), (-100, 0)):
        town.node(east, north, barrier="gate")
    town.node(60, 60, amenity="parking")
    town.way(square(-30, 30, 10), closed=True, building="yes", ref="B")
    town.node(400, 400, amenity="cafe", name="Green School, east gate")
    town.node(150, 150, shop="books", name="Page")
    options = OsmOptions(locale="en", test_queries=0, val_queries=0, train_queries=3, noise=0.0)
    city = built(town.write(tmp_path / "t.osm"), tmp_path / "out", options)
    check_rules(city)
    parts = city.pois[city.pois["category"].str.startswith(("barrier=", "entrance=", "amenity=parking", "building="))]
    gates = [f"Green School, {bearing} gate" for bearing in ("north", "south", "west")]
    assert sorted(parts["name"]) == ["Green School car park", "Green School, building B", *gates]
    assert all(row.startswith(name) for name, row in zip(parts["name"], parts["address"], strict=True))
    assert set(city.views["poi_id"]) & set(parts["poi_id"])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grid_town().write(tmp_path_factory.mktemp("grid") / "grid.osm")


def test_the_size_of_a_write_changes_no_file(drawn: Path, tmp_path: Path) -> None:
    city = built(drawn, tmp_path / "whole", OsmOptions(max_pairs_per_place=3))
    check_rules(city)
    assert city.of_places.groupby("poi_id").size().max() == 3
    assert set(city.of_parts["kind1"]) == {"sub_building", "sub_gate", "sub_parking"}
    build_city(drawn, tmp_path / "pieces", OsmOptions(max_pairs_per_place=3, pairs_per_write=7))
    for file in sorted((tmp_path / "whole").iterdir()):
        other = tmp_path / "pieces" / file.name
        if file.name == "same_poi_views_osm.parquet":  # its row groups differ
            pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(other))
        else:
            assert file.read_bytes() == other.read_bytes(), file.name


@pytest.mark.integration
def test_files_do_not_depend_on_the_hash_seed_of_the_process(drawn: Path, tmp_path: Path) -> None:
    for salt in ("0", "4321"):
        command = [sys.executable, "-m", "m3gal_cli", "data", "osm", drawn, "-o", tmp_path / salt, "--json"]
        environment = os.environ | {"PYTHONHASHSEED": salt}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True)
    for file in sorted((tmp_path / "0").iterdir()):
        assert file.read_bytes() == (tmp_path / "4321" / file.name).read_bytes(), file.name


def test_noise_changes_half_of_the_first_sides_only(drawn: Path, tmp_path: Path) -> None:
    few = {"test_queries": 0, "val_queries": 0, "train_queries": 1}
    calm, noisy = (
        built(drawn, tmp_path / f"{noise}", OsmOptions(noise=noise, **few)).of_places.reset_index(drop=True)
        for noise in (0.0, 1.0)
    )
    pd.testing.assert_frame_equal(calm.drop(columns="address1"), noisy.drop(columns="address1"))
    share = (calm["address1"] != noisy["address1"]).mean()
    assert 0.25 < share < 0.5 + 3 * np.sqrt(0.25 / len(calm))  # binomial, 3 standard deviations; noise can be empty
