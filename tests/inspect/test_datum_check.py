"""Detection of a wrong datum or a constant offset, on tables that were moved by known amounts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import write_pois, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum
from m3gal_cli.geo.distances import METRES_PER_DEGREE, haversine_m
from m3gal_cli.inspect import InspectOptions, inspect_file
from m3gal_cli.inspect.datum_check import MIN_MATCHES, DatumComparison, compare_coordinates
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.place_deduplication import deduplicate_places
from tests.helpers.datums import from_wgs84

HELSINKI, HANGZHOU = (24.94, 60.17), (120.15, 30.27)
COLUMNS = ["address", "lng", "lat"]


def town(centre: tuple[float, float] = HANGZHOU, count: int = 60, seed: int = 3) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"poi_id": [f"n{i}" for i in range(count)], "name": [f"第{i}中学" for i in range(count)]})
    frame["address"] = frame["name"] + ",科教,学府路" + frame.index.astype(str) + "号"
    lng, lat = (degrees + generator.normal(0, 0.02, count) for degrees in centre)
    return frame.assign(lng=lng, lat=lat, category="a=b")


def in_datum(frame: pd.DataFrame, datum: Datum) -> pd.DataFrame:
    """Convert a table from WGS-84 to another datum."""
    lng, lat = from_wgs84(frame["lng"], frame["lat"], datum)
    return frame.assign(lng=lng, lat=lat)


def moved(frame: pd.DataFrame, east: float, north: float = 0.0, noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Move a table by metres, and each place by Gaussian noise of ``noise`` metres, as two maps of a city differ."""
    generator = np.random.default_rng(seed)
    scale = METRES_PER_DEGREE * np.cos(np.radians(frame["lat"]))
    lng = frame["lng"] + (east + generator.normal(0, 1, len(frame)) * noise) / scale
    lat = frame["lat"] + (north + generator.normal(0, 1, len(frame)) * noise) / METRES_PER_DEGREE
    return frame.assign(lng=lng, lat=lat)


def compared(folder: Path, table: pd.DataFrame, extract: pd.DataFrame, read_as: str = "wgs84") -> DatumComparison:
    write_table(table[COLUMNS], folder / "table.csv")
    write_pois(extract, folder / "poi_database_x.csv")
    return compare_coordinates(folder / "table.csv", folder / "poi_database_x.csv", read_as)  # type: ignore[arg-type]


@pytest.mark.parametrize(("datum", "name", "other"), [("gcj02", "GCJ-02", "bd09"), ("bd09", "BD-09", "gcj02")])
def test_the_datum_of_a_table_is_detected(tmp_path: Path, datum: Datum, name: str, other: str) -> None:
    noisy = moved(town(), 0, noise=8)
    table = in_datum(noisy, datum)
    comparison = compared(tmp_path, table, town())
    assert (comparison.verdict, comparison.matches, comparison.suspicious) == (datum, 60, True)
    before, after = (np.median(haversine_m(t["lng"], t["lat"], town()["lng"], town()["lat"])) for t in (table, noisy))
    assert comparison.median_m["wgs84"] == pytest.approx(before, abs=0.1)
    assert comparison.median_m[datum] == pytest.approx(after, abs=0.1)
    assert comparison.words == (
        f"looks like {name}: the median distance to 60 places of the same name falls from {before:.0f} m to "
        f"{after:.0f} m; read it with --datum {datum}"
    )
    right = compared(tmp_path, table, town(), read_as=datum)
    assert (right.verdict, right.suspicious) == (datum, False)
    assert right.words.endswith(f"; it is already read with --datum {datum}")
    assert compared(tmp_path, table, town(), read_as=other).suspicious


@pytest.mark.parametrize("centre", [HELSINKI, HANGZHOU])
@pytest.mark.parametrize("noise", [0, 40, 400])
def test_noise_alone_is_not_suspicious(tmp_path: Path, centre: tuple[float, float], noise: float) -> None:
    for seed in range(3):
        comparison = compared(tmp_path, moved(town(centre), 0, noise=noise, seed=seed), town(centre))
        assert (comparison.verdict, comparison.suspicious) == ("none", False)
        assert comparison.words.startswith("no offset found: the median distance to 60 places of the same name is ")


def test_reading_a_table_in_a_wrong_datum_is_suspicious(tmp_path: Path) -> None:
    comparison = compared(tmp_path, moved(town(), 0, noise=8), town(), read_as="gcj02")
    assert (comparison.verdict, comparison.suspicious) == ("none", True)
    assert comparison.words.endswith("do not read the table with --datum gcj02")
    abroad = compared(tmp_path, moved(town(HELSINKI), 0, noise=8), town(HELSINKI), read_as="gcj02")
    assert not abroad.suspicious, "outside China all datums are equal"


@pytest.mark.parametrize(("east", "north", "point"), [(300, 0, "east"), (-150, -150, "south-west"), (0, 60, "north")])
@pytest.mark.parametrize("centre", [HELSINKI, HANGZHOU])
def test_a_constant_offset_is_detected(
    tmp_path: Path, centre: tuple[float, float], east: float, north: float, point: str
) -> None:
    comparison = compared(tmp_path, moved(town(centre), east, north, noise=5), town(centre))
    assert (comparison.verdict, comparison.suspicious) == ("constant", True)
    assert (comparison.east_m, comparison.north_m) == pytest.approx((east, north), abs=3)
    rayleigh_median = 5 * np.sqrt(2 * np.log(2))
    assert comparison.spread_m == pytest.approx(rayleigh_median, abs=2)
    offset = np.hypot(comparison.east_m, comparison.north_m)
    assert f"is offset by a constant {offset:.0f} m to the {point} of the map" in comparison.words


def test_too_few_matches_give_no_verdict(tmp_path: Path) -> None:
    table = in_datum(town(), "gcj02")
    comparison = compared(tmp_path, table.head(MIN_MATCHES - 1), town())
    assert (comparison.verdict, comparison.matches, comparison.suspicious) == ("few", MIN_MATCHES - 1, False)
    assert "only 9 names belong to exactly one place" in comparison.words
    assert comparison.median_m == {}
    assert compared(tmp_path, table.head(MIN_MATCHES), town()).verdict == "gcj02"


def test_names_of_several_places_are_not_matched(tmp_path: Path) -> None:
    chain = town(count=20, seed=9).assign(address="星巴克,餐饮", name="星巴克")
    many = pd.concat([town(), chain.assign(poi_id=[f"w{i}" for i in range(20)])])
    one = pd.concat([town(), chain.head(1).assign(poi_id="w0")])
    for table, extract in ((many, many), (many, one), (one, many)):
        assert compared(tmp_path, table, extract).matches == 60


def test_matches_beyond_five_km_are_excluded(tmp_path: Path) -> None:
    table = in_datum(town(), "gcj02")
    table.loc[:24, "lng"] += 0.3
    comparison = compared(tmp_path, table, town())
    assert (comparison.verdict, comparison.matches, comparison.elsewhere) == ("gcj02", 35, 25)


def test_every_kind_of_table_can_be_compared(tmp_path: Path) -> None:
    shifted = in_datum(town(), "gcj02")
    write_pois(town(), tmp_path / "poi_database_x.csv")
    views = shifted.rename(columns={"address": "address2"}).assign(address1="旁边")
    write_views(views[["address1", "address2", "lng", "lat"]], tmp_path / "v.csv")
    write_table(shifted[["poi_id", "name", "category", "lng", "lat"]], tmp_path / "f.csv")
    passages = [Passage(row["address"], row["lng"], row["lat"]) for row in shifted.to_dict("records")]
    write_records([Record("q", [p], passages[:2]) for p in passages], tmp_path / "r.jsonl")
    for name in ("v.csv", "f.csv", "r.jsonl"):
        inspection = inspect_file(tmp_path / name, InspectOptions(against=tmp_path / "poi_database_x.csv"))
        comparison = inspection.datum_comparison
        assert comparison is not None
        assert (comparison.verdict, comparison.matches) == ("gcj02", 60), name
        assert inspection.warnings[-1] == f"{comparison.words}."
        assert inspection.to_json()["shift"]["verdict"] == "gcj02"
    write_table(town()[["poi_id", "name", "category", "lng", "lat"]], tmp_path / "facts_x.parquet")
    assert compare_coordinates(tmp_path / "v.csv", tmp_path / "facts_x.parquet").verdict == "gcj02"
    assert compare_coordinates(tmp_path / "f.csv", tmp_path / "f.csv", against_datum="gcj02").verdict == "gcj02"
    (tmp_path / "q.jsonl").write_text('{"query": "a"}\n')
    with pytest.raises(InputError, match="queries have no place names"):
        compare_coordinates(tmp_path / "q.jsonl", tmp_path / "poi_database_x.csv")
    with pytest.raises(InputError, match="cannot be compared with view table"):
        compare_coordinates(tmp_path / "f.csv", tmp_path / "v.csv")


def test_offsets_are_detected_on_the_sample_extract(tmp_path: Path) -> None:
    extract = copy_sample(tmp_path)
    places = [place for place in deduplicate_places(read_extract(extract)) if place.name]
    rows = [(f"{place.name},x,y", place.lng, place.lat) for place in places]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for east, verdict in ((0.0, "none"), (120.0, "constant"), (15.0, "none")):
        write_table(moved(table, east, noise=6), tmp_path / "t.csv")
        comparison = compare_coordinates(tmp_path / "t.csv", extract)
        assert comparison.verdict == verdict
        assert comparison.matches > 1000
        assert comparison.east_m == pytest.approx(east, abs=2)
