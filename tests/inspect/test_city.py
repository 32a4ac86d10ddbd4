"""Places with their views and facts, joined from the tables of a city, against loops over the tables."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.tables import write_pois, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import wgs84_to_gcj02
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.inspect import Inspection, InspectOptions, inspect_file
from m3gal_cli.inspect.city import FACT_COLUMNS, City, facts_of
from m3gal_cli.inspect.file_kinds import kind_of
from m3gal_cli.inspect.page.rendering import UNKNOWN_ATTRIBUTION, attribution_of
from tests.helpers.city_tables import CITY_PLACES, city_facts, city_pois, city_views, write_city

FILES = ("same_poi_views_t.csv", "same_poi_views_t.parquet", "poi_database_t.csv", "poi_database_t.parquet")
KINDS = ["amenity", "shop", "railway", "address", "craft"]
ALL = InspectOptions(places=CITY_PLACES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_city(tmp_path_factory.mktemp("data"), city_pois())


@pytest.fixture(scope="module")
def city(folder: Path) -> City:
    return city_of(inspect_file(folder))


def city_of(inspection: Inspection) -> City:
    assert inspection.city is not None
    return inspection.city


def test_a_folder_and_each_of_its_tables_show_the_same_places(folder: Path) -> None:
    whole = inspect_file(folder)
    assert whole.path == folder / "same_poi_views_t.csv"
    assert len(whole.places) == 20
    for name in (*FILES, "facts_t.parquet"):
        inspection = inspect_file(folder / name)
        assert inspection.places == whole.places, name
        assert inspection.fact_coverage == whole.fact_coverage
        assert not any("from another run" in warning for warning in inspection.warnings)


def test_a_place_has_all_its_views_and_the_poi_row_comes_first(folder: Path) -> None:
    expected: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in city_views(city_pois()).to_dict("records"):
        for side in "12":
            view = (row[f"kind{side}"], row[f"address{side}"])
            if view not in expected[row["poi_id"]]:
                expected[row["poi_id"]].append(view)
    for place in inspect_file(folder, ALL).places:
        assert place.views[0] == ("poi", f"{place.name},学府路")
        assert sorted(place.views) == sorted(expected[place.poi_id])
        assert [kind for kind, _ in place.views] == ["poi", "corner", "gate"]


def test_facts_are_written_with_metres_and_compass_direction(city: City) -> None:
    assert city.place("n4").facts == {
        "words": "茶馆",
        "street": "学府路 (by address)",
        "crossing": "学府路 / 文一路 (100 m SE of it)",
        "area": "东村 (in its S)",
        "boundaries": "6 西湖区, 4 浙江省",
    }
    assert city.place("n5").facts["street"] == "学府路 (12 m N of it)"
    assert city.place("n5").facts["number"] == "7"
    assert "street" not in city.place("n3").facts, "null is no fact, even with a bearing"
    assert city.place("n3").facts["alt names"] == "name:en Three"
    assert (city.place("n5").kind, city.place("n5").category) == ("amenity", "amenity=cafe")


@pytest.mark.parametrize(("bearing", "point"), [(22.4, "N"), (22.6, "NE"), (90, "E"), (337.6, "N")])
def test_bearings_become_compass_points(bearing: float, point: str) -> None:
    row = {"landmark": "塔", "landmark_metres": 40.0, "landmark_bearing": bearing}
    assert facts_of(row) == {"landmark": f"塔 (40 m {point} of it)"}
    assert facts_of(row | {"landmark_bearing": None}) == {"landmark": "塔 (40 m away)"}
    assert facts_of(row | {"landmark_bearing": np.nan, "landmark_metres": np.nan}) == {"landmark": "塔"}


def test_fact_coverage_equals_counts_in_a_loop(city: City) -> None:
    coverage = city.fact_coverage()
    sizes = dict(zip(KINDS, (60, 40, 15, 4, 1), strict=True)) | {"all": CITY_PLACES}
    assert {part.kind: part.places for part in coverage} == sizes
    rows = city_facts(city_pois()).to_dict("records")
    for part in coverage:
        own = [row for row in rows if part.kind in ("all", row["category"].split("=")[0])]
        assert list(part.facts) == [name for name, column in FACT_COLUMNS.items() if column in rows[0]]
        for name, share in part.facts.items():
            given = sum(pd.notna(row[FACT_COLUMNS[name]]) for row in own)
            assert share == pytest.approx(given / len(own)), (part.kind, name)


def test_columns_of_the_poi_table_are_facts_if_there_is_no_facts_table(tmp_path: Path) -> None:
    write_pois(city_pois().assign(street=[""] * 60 + ["路"] * 60, district="西湖区"), tmp_path / "poi_database_t.csv")
    inspection = inspect_file(tmp_path / "poi_database_t.csv")
    assert inspection.fact_coverage[-1].facts == {"street": 0.5, "district": 1.0}
    assert inspection.places == [], "without views the example rows show everything"
    assert len(inspect_file(tmp_path / "poi_database_t.csv", InspectOptions(places=3)).places) == 3


def test_the_sample_is_seeded_and_spread_over_kinds(city: City) -> None:
    kinds = city.places["kind"]
    for count in (0, 1, 5, 20, 119, CITY_PLACES, 500):
        sample = city.sample(count, seed=1)
        assert len(set(sample)) == len(sample) == min(count, CITY_PLACES)
        assert sample == city.sample(count, seed=1)
    assert set(city.sample(20, 1)) != set(city.sample(20, 2))
    sampled = kinds.iloc[city.sample(20, 1)]
    counts, roots = sampled.value_counts(), np.sqrt(kinds.value_counts())
    assert (abs(counts - 20 * roots / roots.sum()) < 1).all(), "in proportion to the square root of their size"
    assert sampled.tolist() == sorted(sampled, key=KINDS.index)


def test_the_sample_is_spread_over_space(city: City) -> None:
    """The nearest neighbours in a sample are farther apart than in 90% of random samples."""

    def median_nearest_m(rows: list[int]) -> float:
        points = city.places[["lng", "lat"]].to_numpy()[rows]
        metres = haversine_m(points[:, None, 0], points[:, None, 1], points[None, :, 0], points[None, :, 1])
        return float(np.median(np.where(np.eye(len(rows)) > 0, np.inf, metres).min(axis=1)))

    generator = np.random.default_rng(0)
    random = [median_nearest_m(generator.choice(CITY_PLACES, 20, replace=False).tolist()) for _ in range(200)]
    assert all(median_nearest_m(city.sample(20, seed)) > np.percentile(random, 90) for seed in range(5))


@pytest.mark.parametrize("with_pois", [False, True])
def test_rows_without_ids_at_one_position_are_one_place(tmp_path: Path, with_pois: bool) -> None:
    """The published view table has neither ids nor kinds; names come from the POI table."""
    write_views(city_views(city_pois()), tmp_path / "same_poi_views_t.csv")
    (tmp_path / "same_poi_views_t.parquet").unlink()
    if with_pois:
        write_pois(city_pois(), tmp_path / "poi_database_t.csv")
    inspection = inspect_file(tmp_path, ALL)
    assert not any("from another run" in warning for warning in inspection.warnings)
    assert len(inspection.places) == CITY_PLACES
    by_text = {text: place for place in inspection.places for _, text in place.views}
    for row in city_pois().to_dict("records"):
        place = by_text[row["address"]]
        assert (place.lng, place.lat) == pytest.approx((row["lng"], row["lat"]), abs=1e-7)
        assert {text for _, text in place.views} == {row["address"], row["name"] + "东门", "路口" + row["name"]}
        assert place.name == (row["name"] if with_pois else "")
    assert (inspection.places[0].kind == "place") is not with_pois
    assert attribution_of(city_of(inspection).places["poi_id"]) == UNKNOWN_ATTRIBUTION


def test_a_parquet_twin_with_other_rows_is_ignored_with_a_warning(tmp_path: Path) -> None:
    write_views(city_views(city_pois()), tmp_path / "same_poi_views_t.csv")
    twin = pd.read_parquet(tmp_path / "same_poi_views_t.parquet")
    twin.assign(address1="old").to_parquet(tmp_path / "same_poi_views_t.parquet")
    inspection = inspect_file(tmp_path / "same_poi_views_t.csv")
    assert any("same_poi_views_t.parquet is ignored: its rows differ" in line for line in inspection.warnings)
    assert not any(text == "old" for place in inspection.places for _, text in place.views)


def test_views_of_a_part_belong_to_the_place_of_the_part(tmp_path: Path) -> None:
    gate = {"address1": "西湖店4北门", "address2": "店4(北门),学府路", "kind1": "sub_gate", "kind2": "poi"}
    gate |= city_pois()[["lng", "lat"]].iloc[4].to_dict()
    other = gate | {"poi_id": "x#1", "address1": "别处", "address2": "别处(x)"}
    rows = pd.DataFrame([gate | {"poi_id": "n4#gate 北"}, other])
    write_views(pd.concat([city_views(city_pois()), rows]), tmp_path / "same_poi_views_t.csv")
    expected = [("poi", "店4,学府路"), ("corner", "路口店4"), ("gate", "店4东门")]
    expected += [("gate 北: poi", gate["address2"]), ("gate 北: sub_gate", gate["address1"])]
    alone = inspect_file(tmp_path, InspectOptions(place="n4"))
    assert alone.places[0].views == expected
    assert len(city_of(alone).places) == CITY_PLACES + 1, "an id that only looks like that of a part is a place"
    city_facts(city_pois()).to_parquet(tmp_path / "facts_t.parquet")
    inspection = inspect_file(tmp_path, InspectOptions(place="n4"))
    assert inspection.places[0].views == expected
    assert "1 places of the view table are not in the other tables: from another run?" in inspection.warnings


def test_the_datum_applies_to_all_tables_of_the_city(folder: Path, tmp_path: Path) -> None:
    lng, lat = wgs84_to_gcj02(city_pois()["lng"], city_pois()["lat"])
    write_city(tmp_path, city_pois().assign(lng=lng, lat=lat))
    converted = inspect_file(tmp_path, InspectOptions(datum="gcj02", places=CITY_PLACES)).places
    for place, original in zip(converted, inspect_file(folder, ALL).places, strict=True):
        assert (place.poi_id, place.views) == (original.poi_id, original.views)
        assert (place.lng, place.lat) == pytest.approx((original.lng, original.lat), abs=2e-7)


def test_statistics_of_a_facts_table(folder: Path, tmp_path: Path) -> None:
    inspection = inspect_file(folder / "facts_t.parquet")
    assert inspection.kind == "facts"
    for name in ("rows", "distinct_names", "distinct_places", "places_that_read_like_another_one"):
        assert inspection.numbers[name] == CITY_PLACES
    assert list(inspection.examples.columns[:3]) == ["row", "poi_id", "name"]
    assert "geometry" not in dict(inspection.facts)["columns"]
    write_table(city_facts(city_pois()).drop(columns="geometry"), tmp_path / "any.csv")
    assert kind_of(tmp_path / "any.csv") == "facts"
    assert len(inspect_file(tmp_path / "any.csv", InspectOptions(places=2)).places[0].facts) >= 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns=["lng", "geometry"]), "unknown kind of file"),
        (lambda f: f.assign(lng=np.nan), "row 1: lng: expected degrees, got nothing"),
    ],
)
def test_invalid_facts_tables_are_refused(tmp_path: Path, change: object, message: str) -> None:
    change(city_facts(city_pois())).to_parquet(tmp_path / "facts_t.parquet")  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        inspect_file(tmp_path / "facts_t.parquet")


def test_folders_without_a_city_or_with_two_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no same_poi_views"):
        inspect_file(tmp_path)
    for suffix in ("b", "a"):
        write_pois(city_pois(), tmp_path / f"poi_database_{suffix}.csv")
    with pytest.raises(InputError, match="holds 2 cities: a, b") as caught:
        inspect_file(tmp_path)
    assert str(tmp_path / "poi_database_a.csv") in str(caught.value.hint)
