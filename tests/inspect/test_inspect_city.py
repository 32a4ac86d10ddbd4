"""Places with all their views, facts by kind, and which tables are put together: against loops over the tables."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.tables import write_pois, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import haversine_m, wgs84_to_gcj02
from m3gal_cli.inspect import Inspection, Look, inspect_file
from m3gal_cli.inspect.city import FACT_COLUMNS, City, facts_of
from m3gal_cli.inspect.city_files import kind_of

COUNT = 120
CATEGORIES = (
    ["amenity=cafe"] * 60 + ["shop=kiosk"] * 40 + ["railway=station"] * 15 + ["address"] * 4 + ["craft=shoemaker"]
)
FILES = ("same_poi_views_t.csv", "same_poi_views_t.parquet", "poi_database_t.csv", "poi_database_t.parquet")


def pois() -> pd.DataFrame:
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"poi_id": [f"n{i}" for i in range(COUNT)], "name": [f"店{i}" for i in range(COUNT)]})
    frame["address"] = frame["name"] + ",学府路"
    return frame.assign(
        lng=120.1 + random.random(COUNT) / 10, lat=30.2 + random.random(COUNT) / 10, category=CATEGORIES
    )


def views(places: pd.DataFrame) -> pd.DataFrame:
    """Two pairs a place, the POI row on one side of each; the second pair once more as a repetition."""
    sides = places[["poi_id", "lng", "lat"]]
    one = sides.assign(address1=places["name"] + "东门", address2=places["address"], kind1="gate", kind2="poi")
    two = sides.assign(address1=places["address"], address2="路口" + places["name"], kind1="poi", kind2="corner")
    return pd.concat([one, two, two], ignore_index=True)


def facts(places: pd.DataFrame) -> pd.DataFrame:
    """What a facts table holds: a street for two places in three, a number for one in five, null for the rest."""
    i = np.arange(len(places))
    frame = places[["poi_id", "name", "category"]].copy()
    frame["words"] = "茶馆"
    frame["street"] = np.where(i % 3 > 0, "学府路", None)
    frame["street_by_address"] = i % 2 == 0
    frame["street_metres"] = np.where(i % 3 > 0, 12.4, np.nan).astype(np.float32)
    frame["street_bearing"] = np.float32(359.0)
    frame["housenumber"] = np.where(i % 5 == 0, "7", None)
    frame["crossing_a"], frame["crossing_b"] = "学府路", "文一路"
    frame["crossing_metres"], frame["crossing_bearing"] = np.float32(99.6), np.float32(134.0)
    frame["area"] = np.where(i % 4 == 0, "东村", None)
    frame["area_bearing"] = np.float32(200.0)
    frame["alt_names"] = np.where(i == 3, '{"name:en": "Three"}', None)
    frame["admin"] = '{"6": "西湖区", "4": "浙江省"}'
    frame["group"] = i // 2
    return frame.assign(lng=places["lng"], lat=places["lat"], geometry=b"\x01")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    write_pois(pois(), made / "poi_database_t.csv")
    write_views(views(pois()), made / "same_poi_views_t.csv")
    facts(pois()).to_parquet(made / "facts_t.parquet")
    return made


def city_of(found: Inspection) -> City:
    assert found.city is not None
    return found.city


def test_the_folder_and_each_of_its_tables_show_the_same_places(folder: Path) -> None:
    whole = inspect_file(folder)
    assert whole.path == folder / "same_poi_views_t.csv"
    assert len(whole.places) == 20
    for name in (*FILES, "facts_t.parquet"):
        found = inspect_file(folder / name)
        assert found.places == whole.places, name
        assert found.shares == whole.shares
        assert found.warnings == [w for w in found.warnings if "of another run" not in w]
    assert inspect_file(folder / "facts_t.parquet").kind == "facts"


def test_all_views_of_a_place_are_shown_the_poi_row_first(folder: Path) -> None:
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in views(pois()).to_dict("records"):
        for side in "12":
            text = (row[f"kind{side}"], row[f"address{side}"])
            if text not in expected[row["poi_id"]]:
                expected[row["poi_id"]].append(text)
    for card in inspect_file(folder, Look(places=COUNT)).places:
        assert card.views[0] == ("poi", f"{card.name},学府路")
        assert sorted(card.views) == sorted(expected[card.poi_id])
        assert [kind for kind, _ in card.views] == ["poi", "corner", "gate"]


def test_facts_are_written_out_with_metres_and_the_compass(folder: Path) -> None:
    cards = {card.poi_id: card for card in inspect_file(folder, Look(places=COUNT)).places}
    assert cards["n4"].facts == {
        "words": "茶馆",
        "street": "学府路 (by address)",
        "crossing": "学府路 / 文一路 (100 m SE of it)",
        "area": "东村 (in its S)",
        "boundaries": "6 西湖区, 4 浙江省",
    }
    assert cards["n5"].facts["street"] == "学府路 (12 m N of it)"
    assert cards["n5"].facts["number"] == "7"
    assert "street" not in cards["n3"].facts, "null is nothing, whatever its bearing says"
    assert cards["n3"].facts["alt names"] == "name:en Three"
    assert (cards["n5"].kind, cards["n5"].category) == ("amenity", "amenity=cafe")


@pytest.mark.parametrize(
    ("bearing", "point"),
    [
        (0, "N"),
        (22.4, "N"),
        (22.6, "NE"),
        (90, "E"),
        (135, "SE"),
        (180, "S"),
        (225, "SW"),
        (270, "W"),
        (337.6, "N"),
        (360, "N"),
    ],
)
def test_compass(bearing: float, point: str) -> None:
    row = {"landmark": "塔", "landmark_metres": 40.0, "landmark_bearing": bearing}
    assert facts_of(row) == {"landmark": f"塔 (40 m {point} of it)"}
    assert facts_of(row | {"landmark_bearing": None}) == {"landmark": "塔 (40 m away)"}
    assert facts_of(row | {"landmark_bearing": np.nan, "landmark_metres": np.nan}) == {"landmark": "塔"}


def test_shares_are_what_a_loop_counts(folder: Path) -> None:
    shares = inspect_file(folder).shares
    assert [(share.kind, share.places) for share in shares] == [
        ("amenity", 60),
        ("shop", 40),
        ("railway", 15),
        ("address", 4),
        ("craft", 1),
        ("all", COUNT),
    ]
    rows = facts(pois()).to_dict("records")
    for share in shares:
        mine = [row for row in rows if share.kind in ("all", row["category"].split("=")[0])]
        assert list(share.facts) == [n for n, c in FACT_COLUMNS.items() if c in rows[0]]
        for name, part in share.facts.items():
            given = sum(pd.notna(row[FACT_COLUMNS[name]]) for row in mine)
            assert part == pytest.approx(given / len(mine)), (share.kind, name)


def test_without_a_facts_table_the_poi_tables_columns_are_facts(tmp_path: Path) -> None:
    frame = pois().assign(street=[""] * 60 + ["路"] * 60, district="西湖区")
    write_pois(frame, tmp_path / "poi_database_t.csv")
    found = inspect_file(tmp_path / "poi_database_t.csv")
    assert found.shares[-1].facts == {"street": 0.5, "district": 1.0}
    assert found.places == [], "without views there is nothing that the example rows do not show"
    assert len(inspect_file(tmp_path / "poi_database_t.csv", Look(places=3)).places) == 3


def test_the_choice_is_seeded_and_spread_over_kinds(folder: Path) -> None:
    city = city_of(inspect_file(folder))
    kinds = city.places["kind"]
    for count in (0, 1, 5, 20, 119, COUNT, 500):
        chosen = city.choose(count, seed=1)
        assert len(set(chosen)) == len(chosen) == min(count, COUNT)
        assert chosen == city.choose(count, seed=1)
    assert set(city.choose(20, 1)) != set(city.choose(20, 2))
    chosen = kinds.iloc[city.choose(20, 1)].value_counts()
    roots = np.sqrt(kinds.value_counts())
    assert chosen.to_dict() == {"amenity": 7, "shop": 6, "railway": 4, "address": 2, "craft": 1}
    assert (abs(chosen - 20 * roots / roots.sum()) < 1).all(), "by the root of their size"
    order = kinds.iloc[city.choose(20, 1)].tolist()
    assert order == sorted(order, key=["amenity", "shop", "railway", "address", "craft"].index)


def test_the_choice_is_spread_over_space(folder: Path) -> None:
    """The places chosen lie farther from each other than those of nearly every random choice."""
    city = city_of(inspect_file(folder))

    def closest(rows: list[int]) -> float:
        spots = city.places[["lng", "lat"]].to_numpy()[rows]
        away = haversine_m(spots[:, None, 0], spots[:, None, 1], spots[None, :, 0], spots[None, :, 1])
        return float(np.median(np.where(np.eye(len(rows)) > 0, np.inf, away).min(axis=1)))

    random = np.random.default_rng(0)
    others = [closest(random.choice(COUNT, 20, replace=False).tolist()) for _ in range(200)]
    assert all(closest(city.choose(20, seed)) > np.percentile(others, 90) for seed in range(5))


def test_one_place_by_its_id(folder: Path) -> None:
    found = inspect_file(folder, Look(place="n7"))
    assert [card.poi_id for card in found.places] == ["n7"]
    assert len(found.places[0].views) == 3
    with pytest.raises(InputError, match="no place has the id 'n700'"):
        inspect_file(folder, Look(place="n700"))
    (folder / "q.jsonl").write_text('{"query": "a"}\n')
    with pytest.raises(InputError, match="shows no single place"):
        inspect_file(folder / "q.jsonl", Look(place="n7"))


def test_a_csv_alone_shows_what_lies_on_one_spot_as_one_place(tmp_path: Path) -> None:
    """The published columns have no ids and no kinds."""
    write_views(views(pois()), tmp_path / "published.csv")
    (tmp_path / "published.parquet").unlink()
    found = inspect_file(tmp_path / "published.csv", Look(places=COUNT))
    assert len(found.places) == COUNT
    assert found.shares == []
    by_text = {text: card for card in found.places for _, text in card.views}
    for row in pois().to_dict("records"):
        card = by_text[row["address"]]
        assert (card.lng, card.lat) == pytest.approx((row["lng"], row["lat"]), abs=1e-7)
        texts = {row["address"], row["name"] + "东门", "路口" + row["name"]}
        assert {text for _, text in card.views} == texts
    assert found.places[0].kind == "place"
    assert not city_of(found).is_osm


def test_views_without_ids_meet_pois_with_ids_on_the_spot(tmp_path: Path) -> None:
    write_views(views(pois()), tmp_path / "same_poi_views_t.csv")
    (tmp_path / "same_poi_views_t.parquet").unlink()
    write_pois(pois(), tmp_path / "poi_database_t.csv")
    found = inspect_file(tmp_path, Look(places=COUNT))
    assert found.warnings == [w for w in found.warnings if "of another run" not in w]
    assert {card.name for card in found.places} == set(pois()["name"])
    assert {len(card.views) for card in found.places} == {3}, "the POI row, and no text twice"


def test_a_stale_twin_is_passed_over_and_said_so(tmp_path: Path) -> None:
    write_views(views(pois()), tmp_path / "same_poi_views_t.csv")
    stale = pd.read_parquet(tmp_path / "same_poi_views_t.parquet")
    stale.assign(address1="old").to_parquet(tmp_path / "same_poi_views_t.parquet")
    found = inspect_file(tmp_path / "same_poi_views_t.csv")
    assert any("same_poi_views_t.parquet beside it holds other rows" in line for line in found.warnings)
    assert not any(text == "old" for card in found.places for _, text in card.views)


def test_views_of_another_run_are_said(folder: Path, tmp_path: Path) -> None:
    write_views(views(pois().assign(poi_id=[f"w{i}" for i in range(COUNT)])), tmp_path / "same_poi_views_t.csv")
    facts(pois()).to_parquet(tmp_path / "facts_t.parquet")
    found = inspect_file(tmp_path)
    assert "120 places of the view table are not in the tables beside it: of another run?" in found.warnings


def test_views_of_parts_go_to_the_place_that_they_are_parts_of(folder: Path, tmp_path: Path) -> None:
    gate = {"address1": "西湖店4北门", "address2": "店4(北门),学府路", "kind1": "sub_gate", "kind2": "poi"}
    gate |= pois()[["lng", "lat"]].iloc[4].to_dict()
    odd = gate | {"poi_id": "x#1", "address1": "别处", "address2": "别处(x)"}
    write_views(
        pd.concat([views(pois()), pd.DataFrame([gate | {"poi_id": "n4#gate 北"}, odd])]),
        tmp_path / "same_poi_views_t.csv",
    )
    expected = [("poi", "店4,学府路"), ("corner", "路口店4"), ("gate", "店4东门")]
    expected += [("gate 北: poi", gate["address2"]), ("gate 北: sub_gate", gate["address1"])]
    alone = inspect_file(tmp_path, Look(place="n4"))
    assert alone.places[0].views == expected
    assert len(city_of(alone).places) == COUNT + 1, "an id of which only the look is that of a part is a place"
    facts(pois()).to_parquet(tmp_path / "facts_t.parquet")
    found = inspect_file(tmp_path, Look(place="n4"))
    assert found.places[0].views == expected
    assert "1 places of the view table are not in the tables beside it: of another run?" in found.warnings


def test_the_datum_is_that_of_all_tables(folder: Path, tmp_path: Path) -> None:
    places = pois()
    lng, lat = wgs84_to_gcj02(places["lng"], places["lat"])
    moved = places.assign(lng=lng, lat=lat)
    write_views(views(moved), tmp_path / "same_poi_views_t.csv")
    write_pois(moved, tmp_path / "poi_database_t.csv")
    facts(moved).to_parquet(tmp_path / "facts_t.parquet")
    back = inspect_file(tmp_path, Look(datum="gcj02", places=COUNT)).places
    for card, other in zip(back, inspect_file(folder, Look(places=COUNT)).places, strict=True):
        assert (card.poi_id, card.views) == (other.poi_id, other.views)
        assert (card.lng, card.lat) == pytest.approx((other.lng, other.lat), abs=2e-7)


def test_all_of_it_fits_into_json(folder: Path) -> None:
    found = inspect_file(folder, Look(places=3, examples=2))
    back = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [place["poi_id"] for place in back["places"]] == [card.poi_id for card in found.places]
    assert back["places"][0]["views"][0]["kind"] == "poi"
    assert back["fact_shares"][-1] == {"kind": "all", "places": COUNT, "facts": found.shares[-1].facts}
    assert back["shift"] is None


def test_what_a_facts_table_holds(folder: Path) -> None:
    found = inspect_file(folder / "facts_t.parquet")
    numbers = {"rows": COUNT, "places_with_a_name": COUNT, "distinct_names": COUNT, "distinct_places": COUNT}
    assert found.numbers.items() >= numbers.items()
    assert found.numbers["places_that_read_like_another_one"] == COUNT
    assert list(found.examples.columns[:3]) == ["row", "poi_id", "name"]
    assert "geometry" not in dict(found.facts)["columns"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="category"), "no known kind of file"),
        (lambda f: f.head(0), "has no rows"),
        (lambda f: f.assign(poi_id="n1"), "'n1' appears twice"),
        (lambda f: f.assign(lat=91.0), "row 1: lat: expected degrees up to 90, got"),
        (lambda f: f.assign(lng=np.nan), "row 1: lng: expected degrees up to 180, got"),
        (lambda f: f.assign(lng="x"), "row 1: lng: expected degrees up to 180, got 'x'"),
    ],
)
def test_bad_facts_are_refused(tmp_path: Path, change: object, words: str) -> None:
    change(facts(pois())).to_parquet(tmp_path / "facts_t.parquet")  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        inspect_file(tmp_path / "facts_t.parquet")


def test_folders_of_no_city_or_of_two_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no same_poi_views"):
        inspect_file(tmp_path)
    for suffix in ("b", "a"):
        write_pois(pois(), tmp_path / f"poi_database_{suffix}.csv")
    with pytest.raises(InputError, match="holds 2 cities: a, b") as caught:
        inspect_file(tmp_path)
    assert str(tmp_path / "poi_database_a.csv") in str(caught.value.hint)


def test_facts_are_told_from_poi_tables(folder: Path, tmp_path: Path) -> None:
    assert kind_of(folder / "facts_t.parquet") == "facts"
    write_table(facts(pois()).drop(columns="geometry"), tmp_path / "any.csv")
    assert kind_of(tmp_path / "any.csv") == "facts"
    assert len(inspect_file(tmp_path / "any.csv", Look(places=2)).places[0].facts) >= 4
