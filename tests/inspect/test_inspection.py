"""Statistics and warnings of ``inspect_file``, against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.tables import with_geohash, write_table, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import wgs84_to_gcj02
from m3gal_cli.geo.distances import METRES_PER_DEGREE, haversine_m
from m3gal_cli.inspect import Inspection, InspectOptions, inspect_file


def inspected(frame: pd.DataFrame, path: Path, **options: object) -> Inspection:
    """Write a table and inspect it."""
    if path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        write_table(frame, path)
    return inspect_file(path, InspectOptions(**options))  # type: ignore[arg-type]


def has_warning(inspection: Inspection, text: str) -> bool:
    return any(text in warning for warning in inspection.warnings)


def pois(count: int = 30) -> pd.DataFrame:
    steps = np.arange(count)
    frame = pd.DataFrame({"address": [f"第{i}中学" for i in steps]})
    return frame.assign(lng=120.0 + steps / 1000, lat=30.0 + steps / 1000)


def views(count: int = 30) -> pd.DataFrame:
    frame = pois(count).rename(columns={"address": "address1"})
    frame.insert(1, "address2", [f"学府路{i}号" for i in range(count)])
    return frame


def test_statistics_of_a_poi_table_equal_counts_by_hand(tmp_path: Path) -> None:
    frame = pd.concat([pois(), pois().head(3)])
    frame.iloc[5, 0] = frame.iloc[4, 0]  # one text, two places
    inspection = inspected(frame, tmp_path / "p.csv")
    facts, numbers = dict(inspection.facts), inspection.numbers
    assert inspection.kind == "POI table"
    assert facts["rows"] == "33"
    expected = {"rows": 33, "distinct_rows": 30, "duplicate_rows": 3, "distinct_places": 30, "text_distinct": 29}
    assert numbers.items() >= (expected | {"text_shared": 1}).items()
    assert facts["text: length"] == "min 4, median 5, p95 5, max 5 characters"
    assert facts["lng"] == "120.000000 to 120.029000"
    assert numbers["height_km"] == pytest.approx(0.029 * METRES_PER_DEGREE / 1000, rel=1e-6)
    width = 0.029 * METRES_PER_DEGREE / 1000 * np.cos(np.radians(30.0145))
    assert numbers["width_km"] == pytest.approx(width, rel=1e-3)
    assert has_warning(inspection, "3 rows repeat another row")
    assert "the file alone does not show whether that is right" in facts["datum"]
    lng, lat = wgs84_to_gcj02(120.0145, 30.0145)
    assert numbers["gcj02_shift_m"] == pytest.approx(float(haversine_m(120.0145, 30.0145, lng, lat)), abs=2)
    assert f"about {numbers['gcj02_shift_m']:.0f} m from WGS-84" in facts["datum"]
    assert "further columns" not in facts, "the row numbers that the reader adds are no column of the file"


def test_examples_are_seeded_spread_and_numbered(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    first = inspected(pois(), path, seed=4)
    pd.testing.assert_frame_equal(first.examples, inspect_file(path, InspectOptions(seed=4)).examples)
    rows = first.examples["row"].to_numpy()
    assert ((rows - 1) // 3 == np.arange(10)).all(), "one from each tenth of the file"
    assert first.examples["address"].tolist() == [f"第{row - 1}中学" for row in rows]
    assert inspect_file(path, InspectOptions(seed=5)).examples["row"].tolist() != rows.tolist()
    assert len(inspect_file(path, InspectOptions(examples=0)).examples) == 0
    assert inspect_file(path, InspectOptions(examples=99)).examples["row"].tolist() == list(range(1, 31))


@pytest.mark.parametrize("name", ["v.csv", "v.csv.gz", "v.parquet", "v.jsonl"])
def test_view_tables_of_every_format_give_the_same_statistics(tmp_path: Path, name: str) -> None:
    frame = views().assign(poi_id=range(30))
    frame.loc[2, "address2"] = frame.loc[2, "address1"]
    inspection = inspected(with_geohash(frame).assign(poi_id=frame["poi_id"]), tmp_path / name)
    assert inspection.kind == "view table"
    assert inspection.numbers["rows"] == inspection.numbers["address1_distinct"] == 30
    assert inspection.numbers["pairs_that_read_the_same"] == 1
    assert inspection.numbers["geohash_fit"] == 1.0
    assert len(inspection.warnings) == 1
    assert dict(inspection.facts)["further columns"] == "poi_id"
    assert not any(column.startswith("geohash") for column in inspection.examples.columns)


def test_geohash_digits_that_do_not_match_the_coordinates_give_a_warning(tmp_path: Path) -> None:
    frame = with_geohash(views())
    lng, lat = wgs84_to_gcj02(frame["lng"], frame["lat"])
    shifted = inspected(frame.assign(lng=lng, lat=lat), tmp_path / "v.csv")
    assert shifted.numbers["geohash_fit"] == 0.0
    assert has_warning(shifted, "they match after GCJ-02 -> WGS-84")
    wrong = inspected(frame.assign(lng=frame["lng"] + 0.1), tmp_path / "v.csv")
    assert has_warning(wrong, "100.0% of the rows have geohash digits that do not match")
    assert not has_warning(wrong, "datums")
    letters = inspected(frame.assign(geohash7="x"), tmp_path / "v.csv")
    assert letters.numbers["geohash_fit"] == 0.0


def test_no_datum_shift_applies_outside_china(tmp_path: Path) -> None:
    write_views(views().assign(lng=24.9, lat=60.1), tmp_path / "v.csv")
    inspection = inspect_file(tmp_path / "v.csv")
    assert "outside China" in dict(inspection.facts)["datum"]
    assert inspection.numbers["gcj02_shift_m"] is None
    assert inspection.numbers["distinct_places"] == 1


def test_stray_swapped_and_zero_coordinates_give_warnings(tmp_path: Path) -> None:
    frame = pois().assign(lng=24.9, lat=60.1)
    frame.loc[3, ["lng", "lat"]] = [60.1, 24.9]
    frame.loc[4, ["lng", "lat"]] = [0.0, 0.0]
    inspection = inspected(frame, tmp_path / "p.csv")
    assert has_warning(inspection, "2 places lie more than 300 km from the centre; 1 of them look swapped")
    assert has_warning(inspection, "1 places lie at (0, 0)")


def test_statistics_of_candidate_records_equal_counts_by_hand(tmp_path: Path) -> None:
    gold = Passage("东门", 120.0, 30.0)
    others = [Passage(f"{i}号楼", 120.0, 30.0) for i in range(4)]
    records = [
        Record("东门在哪", [gold], others, None, 120.0, 30.0),
        Record("东门在哪", [gold, others[0]], [others[1], gold, others[1]], None, 120.0, 30.01),
        Record("北门", [others[2]], [], None, 120.0, 31.0),
        Record("南门口", [others[3]], others[:1]),
    ]
    write_records(records, tmp_path / "r.jsonl.gz")
    inspection = inspect_file(tmp_path / "r.jsonl.gz")
    facts, numbers = dict(inspection.facts), inspection.numbers
    assert inspection.kind == "candidate records"
    expected = {"records": 4, "distinct_queries": 3, "distinct_gold_POIs": 4, "distinct_POIs": 5}
    expected |= {"negatives_equal_to_a_positive": 1, "candidates_repeated_within_a_record": 2}
    assert numbers.items() >= (expected | {"queries_with_own_location": 3}).items()
    assert facts["candidates per record"] == "min 1, median 3.5, max 5"
    assert facts["positives per record"] == "min 1, median 1, max 2"
    assert numbers["own_within_2km"] == numbers["own_beyond_10km"] * 2 == pytest.approx(2 / 3)
    assert numbers["own_location_median_m"] == pytest.approx(0.01 * METRES_PER_DEGREE)
    assert has_warning(inspection, "1 negatives in 1 records equal a positive")
    assert has_warning(inspection, "1 records have no negative passage")
    assert inspection.examples["row"].tolist() == [1, 2, 3, 4]
    assert inspection.examples["km to query"].tolist()[:3] == [0.0, 1.11, 111.2]


def test_statistics_of_a_query_file_and_the_line_of_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    rows = [{"query": "东门", "lng": 120.1, "lat": 30.1}, {"query": "北门口"}]
    rows.append({"query": "东门", "query_gis": ["120.2,30.2"]})
    path.write_text("\n".join(json.dumps(row) for row in rows))
    inspection = inspect_file(path)
    assert inspection.kind == "queries"
    assert inspection.numbers.items() >= {"queries": 3, "distinct_queries": 2, "queries_with_a_location": 2}.items()
    assert inspection.numbers["lng_max"] == 120.2
    assert inspection.to_json()["examples"][1] == {"row": 2, "query": "北门口", "lng": None, "lat": None}
    path.write_text("\n" + json.dumps(rows[0]) + "\n" + json.dumps({"query": "a", "lng": 1}))
    with pytest.raises(InputError) as caught:
        inspect_file(path)
    assert caught.value.where == f"{path}:3: lng, lat"


def test_lists_and_missing_values_are_serialisable(tmp_path: Path) -> None:
    pois().assign(kinds=[["a", "b"]] * 30, empty=None, number=np.nan).to_parquet(tmp_path / "p.parquet")
    inspection = inspect_file(tmp_path / "p.parquet")
    parsed = json.loads(json.dumps(inspection.to_json(), allow_nan=False))
    assert parsed["examples"][0]["kinds"] == ["a", "b"]
    assert (parsed["numbers"]["rows"], parsed["facts"]["rows"]) == (30, "30")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("city.osm.pbf", "x", "is a map extract"),
        ("a.csv", "name,x\na,1\n", "unknown kind of file .its columns: name, x"),
        ("a.csv", "", "is empty"),
        ("a.jsonl", '{"address": "a\\ud800", "lng": 1, "lat": 2}\n', "a lone surrogate"),
        ("a.jsonl", '{"query": "a", "negative_passages": []}\n', "no positive passage"),
        ("a.pth", "no pickle", "truncated|damaged"),
    ],
)
def test_invalid_files_raise_input_errors(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        inspect_file(tmp_path / name)
