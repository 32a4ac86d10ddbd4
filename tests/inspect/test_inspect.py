"""What data inspect finds, against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.tables import with_geohash, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import METRES_PER_DEGREE, haversine_m, wgs84_to_gcj02
from m3gal_cli.inspect import Inspection, Look, inspect_file


def warned(found: Inspection, words: str) -> bool:
    return any(words in warning for warning in found.warnings)


def pois(count: int = 30) -> pd.DataFrame:
    steps = np.arange(count)
    return pd.DataFrame(
        {"address": [f"第{i}中学" for i in steps], "lng": 120.0 + steps / 1000, "lat": 30.0 + steps / 1000}
    )


def views(count: int = 30) -> pd.DataFrame:
    frame = pois(count).rename(columns={"address": "address1"})
    frame.insert(1, "address2", [f"学府路{i}号" for i in range(count)])
    return frame


def test_a_poi_table(tmp_path: Path) -> None:
    frame = pd.concat([pois(), pois().head(3)])
    frame.iloc[5, 0] = frame.iloc[4, 0]  # one text, two places
    write_table(frame, tmp_path / "p.csv")
    found = inspect_file(tmp_path / "p.csv")
    assert found.kind == "POI table"
    facts = dict(found.facts)
    assert facts["rows"] == "33"
    expected = {"rows": 33, "distinct_rows": 30, "duplicate_rows": 3, "distinct_places": 30, "text_distinct": 29}
    assert {key: found.numbers[key] for key in expected} == expected
    assert found.numbers["text_shared"] == 1
    assert facts["text: length"] == "min 4, median 5, p95 5, max 5 characters"
    assert facts["lng"] == "120.000000 to 120.029000"
    width, height = found.numbers["width_km"], found.numbers["height_km"]
    assert height == pytest.approx(0.029 * METRES_PER_DEGREE / 1000, rel=1e-6)
    assert width == pytest.approx(0.029 * METRES_PER_DEGREE / 1000 * np.cos(np.radians(30.0145)), rel=1e-3)
    assert warned(found, "3 rows repeat another row")
    assert "cannot be told from the file alone" in facts["datum"]
    lng, lat = wgs84_to_gcj02(120.0145, 30.0145)
    assert found.numbers["gcj02_shift_m"] == pytest.approx(float(haversine_m(120.0145, 30.0145, lng, lat)), abs=2)
    assert f"about {found.numbers['gcj02_shift_m']:.0f} m from WGS-84" in facts["datum"]
    assert "further columns" not in facts, "the reader's own row numbers are no column of the file"


def test_examples_are_seeded_spread_and_numbered(tmp_path: Path) -> None:
    write_table(pois(), tmp_path / "p.csv")
    first, again = inspect_file(tmp_path / "p.csv", Look(seed=4)), inspect_file(tmp_path / "p.csv", Look(seed=4))
    pd.testing.assert_frame_equal(first.examples, again.examples)
    rows = first.examples["row"].to_numpy()
    assert ((rows - 1) // 3 == np.arange(10)).all(), "one from each tenth of the file"
    assert first.examples["address"].tolist() == [f"第{row - 1}中学" for row in rows]
    assert inspect_file(tmp_path / "p.csv", Look(seed=5)).examples["row"].tolist() != rows.tolist()
    assert len(inspect_file(tmp_path / "p.csv", Look(examples=0)).examples) == 0
    assert inspect_file(tmp_path / "p.csv", Look(examples=99)).examples["row"].tolist() == list(range(1, 31))


@pytest.mark.parametrize("name", ["v.csv", "v.csv.gz", "v.parquet", "v.jsonl"])
def test_a_view_table_in_every_format(tmp_path: Path, name: str) -> None:
    frame = views().assign(poi_id=range(30))
    frame.loc[2, "address2"] = frame.loc[2, "address1"]
    write_table(with_geohash(frame).assign(poi_id=frame["poi_id"]), tmp_path / name)
    found = inspect_file(tmp_path / name)
    assert found.kind == "view table"
    assert found.numbers["rows"] == found.numbers["address1_distinct"] == 30
    assert found.numbers["pairs_that_read_the_same"] == 1
    assert found.numbers["geohash_fit"] == 1.0
    assert len(found.warnings) == 1
    assert dict(found.facts)["further columns"] == "poi_id"
    assert not any(column.startswith("geohash") for column in found.examples.columns)


def test_geohash_digits_of_another_datum_are_told(tmp_path: Path) -> None:
    frame = with_geohash(views())
    lng, lat = wgs84_to_gcj02(frame["lng"], frame["lat"])
    write_table(frame.assign(lng=lng, lat=lat), tmp_path / "v.csv")
    found = inspect_file(tmp_path / "v.csv")
    assert found.numbers["geohash_fit"] == 0.0
    assert warned(found, "they fit after GCJ-02 -> WGS-84")
    write_table(frame.assign(lng=frame["lng"] + 0.1), tmp_path / "v.csv")
    found = inspect_file(tmp_path / "v.csv")
    assert warned(found, "100.0% of the rows have geohash digits that do not fit")
    assert not warned(found, "datums")


def test_the_datum_moves_the_ranges(tmp_path: Path) -> None:
    frame = pois()
    lng, lat = wgs84_to_gcj02(frame["lng"], frame["lat"])
    write_table(frame.assign(lng=lng, lat=lat), tmp_path / "p.csv")
    found = inspect_file(tmp_path / "p.csv", Look(datum="gcj02"))
    assert found.numbers["lng_min"] == pytest.approx(120.0, abs=1e-6)
    assert found.examples["lng"].tolist() == pytest.approx([120.0 + (row - 1) / 1000 for row in found.examples["row"]])


def test_outside_china_no_shift_applies(tmp_path: Path) -> None:
    write_views(views().assign(lng=24.9, lat=60.1), tmp_path / "v.csv")
    found = inspect_file(tmp_path / "v.csv")
    assert "outside China" in dict(found.facts)["datum"]
    assert "no shift applies" in dict(found.facts)["datum"]
    assert found.numbers["gcj02_shift_m"] is None
    assert found.numbers["distinct_places"] == 1


def test_stray_swapped_and_unknown_places_are_suspected(tmp_path: Path) -> None:
    frame = pois().assign(lng=24.9, lat=60.1)
    frame.loc[3, ["lng", "lat"]] = [60.1, 24.9]
    frame.loc[4, ["lng", "lat"]] = [0.0, 0.0]
    write_table(frame, tmp_path / "p.csv")
    found = inspect_file(tmp_path / "p.csv")
    assert warned(found, "2 places lie more than 300 km from the centre; 1 of them look swapped")
    assert warned(found, "1 places lie at (0, 0)")


def test_candidate_records(tmp_path: Path) -> None:
    gold = Passage("东门", 120.0, 30.0)
    others = [Passage(f"{i}号楼", 120.0, 30.0) for i in range(4)]
    records = [
        Record("东门在哪", [gold], others, None, 120.0, 30.0),
        Record("东门在哪", [gold, others[0]], [others[1], gold, others[1]], None, 120.0, 30.01),
        Record("北门", [others[2]], [], None, 120.0, 31.0),
        Record("南门口", [others[3]], others[:1]),
    ]
    write_records(records, tmp_path / "r.jsonl.gz")
    found = inspect_file(tmp_path / "r.jsonl.gz")
    facts, numbers = dict(found.facts), found.numbers
    assert found.kind == "candidate records"
    expected = {"records": 4, "distinct_queries": 3, "distinct_gold_POIs": 4, "distinct_POIs": 5}
    expected |= {"negatives_equal_to_a_positive": 1, "candidates_repeated_within_a_record": 2}
    assert {key: numbers[key] for key in expected} == expected
    assert facts["candidates per record"] == "min 1, median 3.5, max 5"
    assert facts["positives per record"] == "min 1, median 1, max 2"
    assert numbers["queries_with_own_location"] == 3
    assert numbers["own_within_2km"] == pytest.approx(2 / 3)
    assert numbers["own_beyond_10km"] == pytest.approx(1 / 3)
    assert numbers["own_location_median_m"] == pytest.approx(0.01 * METRES_PER_DEGREE)
    assert warned(found, "1 negatives in 1 records equal a positive")
    assert warned(found, "1 records have no negative passage")
    assert found.examples["row"].tolist() == [1, 2, 3, 4]
    assert found.examples["km to query"].tolist()[:3] == [0.0, 1.11, 111.2]


def test_queries(tmp_path: Path) -> None:
    rows = [
        {"query": "东门", "lng": 120.1, "lat": 30.1},
        {"query": "北门口"},
        {"query": "东门", "query_gis": ["120.2,30.2"]},
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found = inspect_file(tmp_path / "q.jsonl")
    assert found.kind == "queries"
    assert (found.numbers["queries"], found.numbers["distinct_queries"]) == (3, 2)
    assert found.numbers["queries_with_a_location"] == 2
    assert found.numbers["lng_max"] == 120.2
    assert found.to_json()["examples"][1] == {"row": 2, "query": "北门口", "lng": None, "lat": None}
    for bad, where in (({"query": ""}, "query"), ({"query": "a", "lng": 1}, "lng, lat")):
        (tmp_path / "q.jsonl").write_text("\n" + json.dumps(rows[0]) + "\n" + json.dumps(bad))
        with pytest.raises(InputError) as caught:
            inspect_file(tmp_path / "q.jsonl")
        assert caught.value.where == f"{tmp_path / 'q.jsonl'}:3: {where}"


def test_everything_fits_into_json(tmp_path: Path) -> None:
    frame = pois().assign(kinds=[["a", "b"]] * 30, empty=None, number=np.nan)
    frame.to_parquet(tmp_path / "p.parquet")
    found = inspect_file(tmp_path / "p.parquet")
    back = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert back["examples"][0]["kinds"] == ["a", "b"]
    assert back["numbers"]["rows"] == 30
    assert back["facts"]["rows"] == "30"


@pytest.mark.parametrize("name", ["city.osm.pbf", "city.osm", "city.OSM.gz", "city.pbf"])
def test_an_extract_is_sent_to_its_command(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match="m3gal data osm"):
        inspect_file(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "name,x\na,1\n", "no known kind of file .its columns: name, x"),
        ("a.csv", "query\na\n", "no known kind of file"),
        ("a.csv", "address1,lng,lat\na,1,2\n", "has no column address2"),
        ("a.csv", "address,lng,lat\n", "has no rows"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\n", "no known kind|cannot read"),
        ("a.csv.gz", "no gzip", "cannot read"),
        ("a.parquet", "no parquet", "cannot read"),
        ("a.txt", "x", "cannot read a table from .txt"),
        ("a.jsonl", '{"a": 1}\n', "no known kind of file"),
        ("a.jsonl", "[1]\n", "got list"),
        ("a.jsonl", '{"address": "a\\ud800", "lng": 1, "lat": 2}\n', "cannot read the POI table"),  # half a pair
        ("a.jsonl", '{"query": "a", "positive_passages": []}\n', "no positive passage"),
        ("a.jsonl", '{"query": "a", "negative_passages": []}\n', "no positive passage"),
        ("a.pth", "no pickle", "truncated, damaged"),
    ],
)
def test_bad_files_are_the_readers_errors(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        inspect_file(tmp_path / name)


def test_missing_file_and_bad_datum(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data file"):
        inspect_file(tmp_path / "none.csv")
    with pytest.raises(InputError, match="unknown datum"):
        inspect_file(tmp_path / "none.csv", Look(datum="mars"))  # type: ignore[arg-type]


def test_the_golden_and_real_files(shared: Path) -> None:
    golden = inspect_file(shared / "golden" / "views.csv")
    assert (golden.kind, golden.numbers["rows"], golden.numbers["geohash_fit"]) == ("view table", 64, 1.0)
    one, other = (inspect_file(shared / "golden" / name) for name in ("candidates.jsonl", "candidates_use_gis.pth"))
    assert one.numbers == other.numbers
    database = inspect_file(shared / "data" / "geotes" / "poi_database.csv")
    assert (database.numbers["rows"], database.numbers["distinct_rows"]) == (5000, 4497)
    train = inspect_file(shared / "data" / "geotes" / "train_dataset.jsonl")
    assert train.numbers["own_within_2km"] == pytest.approx(0.62, abs=0.02)
    assert train.numbers["own_beyond_10km"] == pytest.approx(0.29, abs=0.02)
