"""Pairs of real cities and drawn ones against the rules; made-up parts of compounds; what seeds and pieces change."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.osm import OsmOptions, build, build_city, pairs
from m3gal_cli.osm.locales import load_locale
from m3gal_cli.osm.splits import Typist
from m3gal_cli.osm.uniqueness import ROW, UniquenessIndex
from m3gal_cli.osm.views import FULL, Piece, View
from m3gal_cli.text.normalise import reads
from tests.helpers.built_city import Built, built, check_rules
from tests.helpers.extracts import Town, square

REAL = ["helsinki", "monaco", "liechtenstein", "beijing_tsinghua", "nanjing_center", "shenzhen_longgang"]


@pytest.fixture(scope="module", params=REAL)
def city(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    if request.param == "helsinki":
        city: Built = request.getfixturevalue("helsinki_city")
        return city
    shared: Path = request.getfixturevalue("shared")
    out = tmp_path_factory.mktemp(request.param) / "out"
    return built(shared / "data" / "osm" / f"{request.param}.osm.pbf", out)


# ---- every city, real ones first ----


def test_real_cities_keep_the_rules(city: Built) -> None:
    check_rules(city)
    assert len(city.views) > 3 * len(city.pois)


def test_kinds_are_those_of_the_locale(city: Built) -> None:
    own = load_locale(city.summary.locale)
    known = {t.kind for t in own.views}
    for code in city.summary.languages:
        other = load_locale("en" if code == "en" else "neutral") if own.language == "zh" else own
        known |= {f"{t.kind}@{code}" for t in other.views}
    assert set(city.of_places["kind1"]) <= known
    assert set(city.of_places["kind2"]) <= known | {FULL}
    assert set(city.of_parts["kind1"]) <= {f"sub_{s.kind}" for s in own.suffixes}
    assert {r.extra["kind"] for rows in city.records.values() for r in rows} <= known
    assert len(set(city.of_places["kind1"])) > 15
    assert city.summary.kinds == dict(Counter(city.views["kind1"]))


def test_no_place_has_more_pairs_than_asked_for(city: Built) -> None:
    assert city.of_places.groupby("poi_id").size().max() == city.options.max_pairs_per_place
    assert not city.of_places.duplicated(["poi_id", "kind1"]).any()  # each view leads to another one once


def test_made_up_parts_are_of_compounds(city: Built) -> None:
    suffixes = {f"sub_{s.kind}": s for s in load_locale(city.summary.locale).suffixes}
    pois = city.pois.set_index("poi_id")
    for kind, poi_id in zip(city.of_parts["kind1"], city.of_parts["poi_id"], strict=True):
        owner, _, part = poi_id.partition("#")
        assert part.startswith(kind.removeprefix("sub_"))
        assert suffixes[kind].of.search(pois["category"][owner])
        assert not (suffixes[kind].unless and suffixes[kind].unless.search(pois["name"][owner]))


# ---- compounds of one name ----


def twins() -> Town:
    """Thirty schools of one name and one address in every quarter of a town, each beside a shop of its own."""
    town = Town(120.1, 30.28)
    address = {"addr:street": "文华路", "addr:housenumber": "8"}
    for n in range(30):
        east, north = n % 6 * 500.0, n // 6 * 500.0
        town.node(east, north, amenity="school", name="文华中学", **address)
        town.node(east + 40, north, shop="books", name=f"{'甲乙丙丁戊己'[n % 6]}{'子丑寅卯辰'[n // 6]}书店")
    return town


@pytest.mark.parametrize("seed", range(3))
def test_parts_of_two_compounds_never_read_the_same(tmp_path: Path, seed: int) -> None:
    options = OsmOptions(seed=seed, test_queries=0, val_queries=0, train_queries=5)
    city = built(twins().write(tmp_path / "t.osm"), tmp_path / "out", options)
    check_rules(city)
    schools = city.pois[city.pois["name"] == "文华中学"]
    assert len(schools) == 30
    assert schools["group"].nunique() == 1  # they read the same
    rows = city.of_parts.assign(two=city.of_parts["address2"].map(reads)).groupby("two")
    assert rows["group"].nunique().max() == 1
    # There are 8 gates and 6 wordings of a car park: no more can be told, and most are.
    assert 8 <= len(rows) <= 14
    assert city.of_parts["poi_id"].str.partition("#")[0].nunique() > 5


def said(text: str) -> View:
    return View.of("x", [Piece("name", text, reads(text))], "")


def test_a_text_is_claimed_once_and_never_from_a_place() -> None:
    uniqueness = UniquenessIndex(reads)
    for texts in (["Alpha", "Shared"], ["Beta", "Shared"]):
        uniqueness.add([(n + ROW + 1, said(text)) for n, text in enumerate(texts)])
    uniqueness.close()
    typist = Typist(uniqueness, [True, True], {"": load_locale("en")}, 1)
    assert [typist.claim(0, "alpha"), typist.claim(1, "alpha"), typist.claim(7, "alpha")] == [True, False, False]
    assert [typist.claim(n, "shared") for n in (0, 1, 7)] == [False, False, False]
    assert [typist.claim(n, "gamma") for n in (7, 0, 8, 7)] == [True, False, False, True]


# ---- parts that have no name on the map ----


def compounds() -> Town:
    """A school with gates, a car park and buildings; two parks of one name; a gate outside of everything."""
    town = Town()
    town.way([(-900, -300), (900, -300)], highway="residential", name="Long Street")
    town.way([(-300, -900), (-300, 900)], highway="residential", name="Cross Road")
    town.way(square(0, 0, 100), closed=True, amenity="school", name="Green School")
    for east, north in ((0, 100), (100, 0), (0, -100), (-100, 0)):
        town.node(east, north, barrier="gate")
    town.node(5, 99, entrance="yes")  # the north gate once more
    town.node(60, 60, amenity="parking")
    town.way(square(-30, 30, 10), closed=True, building="yes", ref="B")
    town.way(square(30, 30, 10), closed=True, building="yes")  # nothing tells it
    town.node(400, 400, amenity="cafe", name="Green School, east gate")
    for east in (-700, 700):
        town.way(square(east, 600, 80), closed=True, leisure="park", name="Twin Park")
        town.node(east, 680, barrier="gate")
    town.node(-800, -800, barrier="gate")
    town.node(150, 150, shop="books", name="Page")
    return town


@pytest.mark.parametrize(
    ("locale", "names"),
    [
        ("en", {"Green School, north gate", "Green School, south gate", "Green School, west gate",
                "Green School car park", "Green School, building B"}),
        ("neutral", {"Green School (N)", "Green School (E)", "Green School (S)", "Green School (W)",
                     "Green School parking", "Green School B"}),
    ],
)  # fmt: skip
def test_parts_are_named_where_that_tells_them(tmp_path: Path, locale: str, names: set[str]) -> None:
    """The name of a part that another place has too (a cafe called so, the gate of the other park) tells nothing."""
    options = OsmOptions(locale=locale, test_queries=0, val_queries=0, train_queries=3, noise=0.0)
    city = built(compounds().write(tmp_path / "t.osm"), tmp_path / "out", options)
    check_rules(city)
    parts = city.pois[city.pois["category"].str.startswith(("barrier=", "entrance=", "amenity=parking", "building="))]
    assert set(parts["name"]) == names
    assert len(parts) == len(names)
    assert all(row.startswith(name) for name, row in zip(parts["name"], parts["address"], strict=True))
    assert set(city.views["poi_id"]) & set(parts["poi_id"])


# ---- what changes nothing, and what does ----


def grid() -> Town:
    """Chinese streets in a grid, with shops, schools and compounds."""
    town = Town(120.1, 30.28)
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'东西南北'[n]}山路")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'春夏秋冬'[n]}水街")
    kinds = [("shop", "books", "书店"), ("amenity", "school", "小学"), ("amenity", "pharmacy", "药房"),
             ("landuse", "residential", "新村"), ("amenity", "bank", "银行")]  # fmt: skip
    for n in range(80):
        key, value, word = kinds[n % 5]
        name = f"{'金木水火土风云雷'[n // 10]}{'子丑寅卯辰巳午未申酉'[n % 10]}{word}"
        town.node(n % 9 * 80.0, n // 9 * 80.0 + 15, **{key: value}, name=name)
    return town


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grid().write(tmp_path_factory.mktemp("grid") / "grid.osm")


def test_the_drawn_city_keeps_the_rules(drawn: Path, tmp_path: Path) -> None:
    city = built(drawn, tmp_path / "out")
    check_rules(city)
    assert set(city.of_parts["kind1"]) == {"sub_building", "sub_gate", "sub_parking"}
    assert city.records["test"]


def test_pieces_change_nothing(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_city(drawn, tmp_path / "whole", OsmOptions())
    monkeypatch.setattr(build, "PIECE", 7)
    build_city(drawn, tmp_path / "pieces", OsmOptions())
    for file in sorted((tmp_path / "whole").iterdir()):
        other = tmp_path / "pieces" / file.name
        if file.name == "same_poi_views_osm.parquet":  # its row groups differ
            pd.testing.assert_frame_equal(pd.read_parquet(file), pd.read_parquet(other))
        else:
            assert file.read_bytes() == other.read_bytes(), file.name


def test_neither_the_run_nor_its_hashes_change_anything(drawn: Path, tmp_path: Path) -> None:
    """Python salts the hashes of texts in every process; what is written must not depend on them."""
    for salt in ("0", "1", "4321"):
        command = [sys.executable, "-m", "m3gal_cli", "data", "osm", drawn, "-o", tmp_path / salt, "--json"]
        environment = os.environ | {"PYTHONHASHSEED": salt}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True)
    for file in sorted((tmp_path / "0").iterdir()):
        for salt in ("1", "4321"):
            assert file.read_bytes() == (tmp_path / salt / file.name).read_bytes(), file.name


def test_noise_is_in_half_of_the_first_sides_alone(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"test_queries": 0, "val_queries": 0, "train_queries": 1}
    calm = built(drawn, tmp_path / "calm", OsmOptions(noise=0.0, **few)).of_places.reset_index(drop=True)
    changed = {}
    for share in (0.0, pairs.NOISY_SHARE, 1.0):
        monkeypatch.setattr(pairs, "NOISY_SHARE", share)
        noisy = built(drawn, tmp_path / f"{share}", OsmOptions(noise=1.0, **few)).of_places.reset_index(drop=True)
        pd.testing.assert_frame_equal(calm.drop(columns="address1"), noisy.drop(columns="address1"))
        changed[share] = (calm["address1"] != noisy["address1"]).sum()
    assert changed[0.0] == 0
    assert changed[1.0] > 0.5 * len(calm)
    assert abs(changed[0.5] - changed[1.0] / 2) < 3 * np.sqrt(changed[1.0] / 4)  # one coin a pair


def test_pairs_a_place(drawn: Path, tmp_path: Path) -> None:
    for most in (1, 3):
        city = built(drawn, tmp_path / f"{most}", OsmOptions(max_pairs_per_place=most))
        assert city.of_places.groupby("poi_id").size().max() == most
        check_rules(city)
