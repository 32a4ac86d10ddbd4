"""Shifted tables are found out by their namesakes, sound ones are not suspected: tables moved on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import write_pois, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import METRES_PER_DEGREE, gcj02_to_bd09, haversine_m, wgs84_to_gcj02
from m3gal_cli.inspect import Look, inspect_file
from m3gal_cli.inspect.datum_check import MIN_MATCHES, Shift, compare
from m3gal_cli.osm.extract import read_extract
from m3gal_cli.osm.places import distinct_places

HELSINKI, HANGZHOU = (24.94, 60.17), (120.15, 30.27)


def town(middle: tuple[float, float] = HANGZHOU, count: int = 60, seed: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"poi_id": [f"n{i}" for i in range(count)], "name": [f"第{i}中学" for i in range(count)]})
    frame["address"] = frame["name"] + ",科教,学府路" + frame.index.astype(str) + "号"
    return frame.assign(
        lng=middle[0] + random.normal(0, 0.02, count), lat=middle[1] + random.normal(0, 0.02, count), category="a=b"
    )


def moved(frame: pd.DataFrame, how: str, east: float = 0.0, north: float = 0.0) -> pd.DataFrame:
    """The table in another datum, or moved by metres."""
    lng, lat = frame["lng"].to_numpy(), frame["lat"].to_numpy()
    if how in ("gcj02", "bd09"):
        lng, lat = wgs84_to_gcj02(lng, lat)
    if how == "bd09":
        lng, lat = gcj02_to_bd09(lng, lat)
    scale = METRES_PER_DEGREE * np.cos(np.radians(lat))
    return frame.assign(lng=lng + east / scale, lat=lat + north / METRES_PER_DEGREE)


def noisy(frame: pd.DataFrame, metres: float, seed: int = 0) -> pd.DataFrame:
    """Every place moved by its own few metres, as two maps of one city differ."""
    random = np.random.default_rng(seed)
    scale = METRES_PER_DEGREE * np.cos(np.radians(frame["lat"]))
    lng = frame["lng"] + random.normal(0, metres, len(frame)) / scale
    return frame.assign(lng=lng, lat=frame["lat"] + random.normal(0, metres, len(frame)) / METRES_PER_DEGREE)


def compared(folder: Path, table: pd.DataFrame, extract: pd.DataFrame, read_as: str = "wgs84") -> Shift:
    write_table(table[["address", "lng", "lat"]], folder / "table.csv")
    write_pois(extract, folder / "poi_database_x.csv")
    return compare(folder / "table.csv", folder / "poi_database_x.csv", read_as)  # type: ignore[arg-type]


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_a_datum_is_found_out(tmp_path: Path, datum: str) -> None:
    table = moved(noisy(town(), 8), datum)
    found = compared(tmp_path, table, town())
    assert (found.verdict, found.matches, found.suspicious) == (datum, 60, True)
    away = np.median(haversine_m(table["lng"], table["lat"], town()["lng"], town()["lat"]))
    left = np.median(haversine_m(*noisy(town(), 8)[["lng", "lat"]].to_numpy().T, *town()[["lng", "lat"]].to_numpy().T))
    assert found.median_m["wgs84"] == pytest.approx(away, abs=0.1)
    assert found.median_m[datum] == pytest.approx(left, abs=0.1)
    assert found.words == (
        f"looks like {'GCJ-02' if datum == 'gcj02' else 'BD-09'}: the median distance to 60 namesakes falls from "
        f"{away:.0f} m to {left:.0f} m; read it with --datum {datum}"
    )
    again = compared(tmp_path, table, town(), read_as=datum)
    assert (again.verdict, again.suspicious) == (datum, False)
    assert again.words.endswith("; it is being read so")
    other = compared(tmp_path, table, town(), read_as="bd09" if datum == "gcj02" else "gcj02")
    assert other.suspicious


@pytest.mark.parametrize("middle", [HELSINKI, HANGZHOU])
@pytest.mark.parametrize("noise", [0, 8, 40, 400])
def test_no_false_alarm(tmp_path: Path, middle: tuple[float, float], noise: float) -> None:
    for seed in range(5):
        found = compared(tmp_path, noisy(town(middle), noise, seed), town(middle))
        assert (found.verdict, found.suspicious) == ("none", False)
        assert found.words.startswith("no shift seen: the median distance to 60 namesakes is ")
        assert len(found.words) < 90


def test_read_in_a_datum_that_it_is_not_in(tmp_path: Path) -> None:
    found = compared(tmp_path, noisy(town(), 8), town(), read_as="gcj02")
    assert (found.verdict, found.suspicious) == ("none", True)
    assert found.words.endswith("do not read it with --datum gcj02")
    abroad = compared(tmp_path, noisy(town(HELSINKI), 8), town(HELSINKI), read_as="gcj02")
    assert not abroad.suspicious, "outside China it makes no difference"


@pytest.mark.parametrize(("east", "north", "point"), [(300, 0, "east"), (-150, -150, "south-west"), (0, 60, "north")])
@pytest.mark.parametrize("middle", [HELSINKI, HANGZHOU])
def test_a_fixed_offset_is_told(
    tmp_path: Path, middle: tuple[float, float], east: float, north: float, point: str
) -> None:
    found = compared(tmp_path, moved(noisy(town(middle), 5), "", east, north), town(middle))
    assert (found.verdict, found.suspicious) == ("constant", True)
    assert (found.east_m, found.north_m) == pytest.approx((east, north), abs=3)
    assert found.spread_m == pytest.approx(5 * np.sqrt(2 * np.log(2)), abs=2), "the median of a Rayleigh distribution"
    assert f"lies {np.hypot(found.east_m, found.north_m):.0f} m to the {point} of the map" in found.words


def test_few_namesakes_are_no_proof(tmp_path: Path) -> None:
    table = moved(town(), "gcj02")
    found = compared(tmp_path, table.head(MIN_MATCHES - 1), town())
    assert (found.verdict, found.matches, found.suspicious) == ("few", MIN_MATCHES - 1, False)
    assert "only 9 names stand for one place" in found.words
    assert found.median_m == {}
    assert compared(tmp_path, table.head(MIN_MATCHES), town()).verdict == "gcj02"


def test_names_of_several_places_do_not_count(tmp_path: Path) -> None:
    chain = town(count=20, seed=9).assign(address="星巴克,餐饮", name="星巴克")
    both = pd.concat([town(), chain.assign(poi_id=[f"w{i}" for i in range(20)])])
    assert compared(tmp_path, both, both).matches == 60
    one = chain.head(1).assign(poi_id="w0")
    assert compared(tmp_path, both, pd.concat([town(), one])).matches == 60, "many here, one there"
    assert compared(tmp_path, pd.concat([town(), one]), both).matches == 60, "one here, many there"


def test_namesakes_far_away_are_other_places(tmp_path: Path) -> None:
    table = moved(town(), "gcj02")
    table.loc[:24, "lng"] += 0.3
    found = compared(tmp_path, table, town())
    assert (found.verdict, found.matches, found.elsewhere) == ("gcj02", 35, 25)


def test_every_kind_of_table_can_be_compared(tmp_path: Path) -> None:
    shifted = moved(town(), "gcj02")
    write_pois(town(), tmp_path / "poi_database_x.csv")
    sides = shifted.rename(columns={"address": "address2"}).assign(address1="旁边")
    write_views(sides[["address1", "address2", "lng", "lat"]], tmp_path / "v.csv")
    write_table(shifted[["poi_id", "name", "category", "lng", "lat"]], tmp_path / "f.csv")
    passages = [Passage(row["address"], row["lng"], row["lat"]) for row in shifted.to_dict("records")]
    write_records([Record("q", [p], passages[:2]) for p in passages], tmp_path / "r.jsonl")
    for name in ("v.csv", "f.csv", "r.jsonl"):
        found = inspect_file(tmp_path / name, Look(against=tmp_path / "poi_database_x.csv"))
        assert found.shift is not None
        assert (found.shift.verdict, found.shift.matches) == ("gcj02", 60), name
        assert found.warnings[-1] == f"{found.shift.words}."
        assert found.to_json()["shift"]["verdict"] == "gcj02"
    (tmp_path / "q.jsonl").write_text('{"query": "a"}\n')
    with pytest.raises(InputError, match="name no places"):
        compare(tmp_path / "q.jsonl", tmp_path / "poi_database_x.csv")


def test_what_can_stand_for_the_extract(tmp_path: Path) -> None:
    write_table(moved(town(), "gcj02")[["address", "lng", "lat"]], tmp_path / "table.csv")
    write_table(town()[["address", "lng", "lat"]], tmp_path / "plain.csv")
    write_table(town()[["poi_id", "name", "category", "lng", "lat"]], tmp_path / "facts_x.parquet")
    for name in ("plain.csv", "facts_x.parquet"):
        assert compare(tmp_path / "table.csv", tmp_path / name).verdict == "gcj02", name
    write_table(moved(town(), "gcj02")[["address", "lng", "lat"]], tmp_path / "extract.csv")
    assert compare(tmp_path / "table.csv", tmp_path / "extract.csv", against_datum="gcj02").verdict == "gcj02"
    write_views(
        town().rename(columns={"address": "address1"}).assign(address2="b")[["address1", "address2", "lng", "lat"]],
        tmp_path / "views.csv",
    )
    with pytest.raises(InputError, match="nothing to compare with"):
        compare(tmp_path / "table.csv", tmp_path / "views.csv")
    with pytest.raises(InputError, match="no such"):
        compare(tmp_path / "table.csv", tmp_path / "none.osm.pbf")


def named(extract: Path) -> pd.DataFrame:
    """The named places of an extract as a POI table of other rows: name first, as GeoTES writes it."""
    places = [place for place in distinct_places(read_extract(extract)) if place.name]
    frame = pd.DataFrame({"address": [f"{p.name},x,y" for p in places], "lng": [p.lng for p in places]})
    return frame.assign(lat=[p.lat for p in places])


@pytest.mark.parametrize("city", ["nanjing_center", "beijing_tsinghua"])
def test_chinese_extracts(shared: Path, tmp_path: Path, city: str) -> None:
    extract = shared / "data" / "osm" / f"{city}.osm.pbf"
    table = noisy(named(extract), 10)
    for how in ("wgs84", "gcj02", "bd09"):
        write_table(moved(table, how), tmp_path / f"{how}.csv")
        found = compare(tmp_path / f"{how}.csv", extract)
        assert found.verdict == ("none" if how == "wgs84" else how)
        assert found.matches > 200
        assert found.median_m[how] == pytest.approx(10 * np.sqrt(2 * np.log(2)), abs=2)
        assert found.suspicious is (how != "wgs84")


def test_helsinki_by_hand(tmp_path: Path) -> None:
    extract = copy_sample(tmp_path)
    table = named(extract)
    for name, east, verdict in (("as_it_is", 0.0, "none"), ("beside", 120.0, "constant"), ("near", 15.0, "none")):
        write_table(moved(noisy(table, 6), "", east), tmp_path / f"{name}.csv")
        found = inspect_file(tmp_path / f"{name}.csv", Look(against=extract)).shift
        assert found is not None
        assert found.verdict == verdict
        assert found.matches > 1000
        assert found.east_m == pytest.approx(east, abs=2)
