"""POI tables: positions of errors, rows left out, ids, own columns, datum, streaming; and the writer of POI tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3gal_cli.data.poi_checks import UniqueIds
from m3gal_cli.data.poi_reader import PoiOptions, open_pois, read_pois
from m3gal_cli.data.poi_writer import poi_writer
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum
from tests.helpers.datums import from_wgs84

HEAD = "address,lng,lat\n"
AMAP = {"id": "B1", "name": "面馆", "type": "餐厅", "typecode": "05", "address": "文三路1号", "location": "120.1,30.2"}
AMAP |= {"cityname": "杭州市", "adname": "西湖区"}


def file(tmp_path: Path, content: str | bytes, name: str = "pois.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path: Path, options: PoiOptions | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_pois(path, options or PoiOptions())
    assert caught.value.hint, "every error gives a hint"
    return caught.value


def test_a_table_of_m3gal_is_read_unchanged_and_na_is_a_text(tmp_path: Path) -> None:
    frame = read_pois(file(tmp_path, "address, lng, lat\nNA,1,2\n NA ,1,2\n"))
    assert (frame["address"].tolist(), frame["poi_id"].tolist()) == (["NA", " NA "], [0, 1])
    pois = pd.DataFrame(
        {"poi_id": ["n1", "w2"], "address": ["市图书馆", "停车场, 北"], "lng": [1.5, 2.0], "lat": [4, 5]}
    )
    pois.assign(name=["", "停车场"], extra=[1, 2]).to_parquet(tmp_path / "p.parquet")
    read = read_pois(tmp_path / "p.parquet")
    assert read.columns.tolist() == ["poi_id", "address", "name", "lng", "lat", "extra"]
    pd.testing.assert_frame_equal(read[pois.columns], pois, check_dtype=False)
    assert read["name"].tolist() == ["", "停车场"]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (HEAD, "", "has no rows"),
        ("\n", "", "only blank lines"),
        ("address,lng\na,1\n", "", "has no column lat (the columns are: address, lng)"),
        (HEAD + "a,1,2\n  ,1,2\n", ":3: address", "expected text, got '  '"),
        (HEAD + "a,1,inf\n", ":2: lat", "expected degrees, got 'inf'"),
        (HEAD + "a,100,2\nb,170,-91\n", ":3: lat", "-91 is outside [-90, 90]"),
        (HEAD + "a,1,2\nb,181,1\n", ":3: lng", "181 is outside [-180, 180]"),
        (HEAD + "a,30.2,120.1\nb,30.3,120.2\n", ":2: lat", "120.1 is outside [-90, 90]: lng and lat look swapped"),
        (HEAD + 'a,1,2\n"x\ny",1,2\n\n"z",1,north\n', ":6: lat", "expected degrees, got 'north'"),
        (HEAD + "a,1,2\n   \n\nb,1,north\n", ":5: lat", "expected degrees, got 'north'"),
        (HEAD + "a,1,2\nMill Lane, 2,1,2\n", ":3", "the row has 4 cells, the header 3"),
        ("poi_id,address,lng,lat\n7,a,1,2\n7,b,1,2\n", ":3: poi_id", "poi_id '7' appears twice"),
        ("poi_id,address,lng,lat\n7,a,1,2\n ,b,1,2\n", ":3: poi_id", "the id is empty"),
        ("name,street,x,y\na,s,1,2\n,,1,2\n", ":3: name", "expected text, got nothing"),
        ("name,wkt\na,POINT (1 2)\nb,POINT 1\n", ":3: wkt", "expected a geometry, got 'POINT 1'"),
        ("name,latlng\na,1 2\nb,?\n", ":3: latlng", "expected two numbers, got '?'"),
    ],
)
def test_an_invalid_row_is_reported_with_its_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    for path in (file(tmp_path, text), file(tmp_path, gzip.compress(text.encode()), "pois.csv.gz")):
        error = refused(path)
        assert error.where == f"{path}{where}"
        assert words in error.what


def test_swapped_columns_are_reported_with_the_option_that_swaps_them(tmp_path: Path) -> None:
    path = file(tmp_path, "name,lon,latitude\na,30.2,120.1\n")
    assert refused(path).hint == "Swap the two columns: --columns 'lng=latitude, lat=lon'"
    assert read_pois(path, PoiOptions(columns="lng=latitude, lat=lon"))["lng"].tolist() == [120.1]


@pytest.mark.parametrize(("value", "shown"), [("[1]", "'[1]'"), ("NaN", "nothing")])
def test_an_invalid_json_row_is_reported_with_its_line(tmp_path: Path, value: str, shown: str) -> None:
    good = '{"address": "a", "lng": 1, "lat": 2}\n'
    path = file(tmp_path, f'{good}\n{{"address": "b", "lng": {value}, "lat": 2}}\n', "pois.jsonl")
    error = refused(path)
    assert (error.where, error.what) == (f"{path}:3: lng", f"expected degrees, got {shown}")
    number = file(tmp_path, f'{good}{{"address": 5, "lng": 1, "lat": 2}}\n', "pois.jsonl")
    assert read_pois(number)["address"].tolist() == ["a", "5"], "a number beside texts is a text"


def test_an_invalid_parquet_row_is_reported_with_its_number(tmp_path: Path) -> None:
    pois = pd.DataFrame({"poi_id": ["a", "b", "c"], "address": ["x"] * 3, "lng": [1.0] * 3, "lat": [1.0, None, 2.0]})
    pois.to_parquet(tmp_path / "p.parquet")
    assert refused(tmp_path / "p.parquet").where == f"{tmp_path / 'p.parquet'}: row 2: lat"
    pois.assign(lat=1.0, poi_id=["a", "b", "a"]).to_parquet(tmp_path / "p.parquet")
    assert refused(tmp_path / "p.parquet").where == f"{tmp_path / 'p.parquet'}: row 3: poi_id"


# --- rows left out ---------------------------------------------------------------------------------------------------


def test_invalid_rows_are_left_out_and_listed_with_position_error_and_content(tmp_path: Path) -> None:
    rows = ["1,a,1,2", "2,,1,2", "3,c,x,2", "4,d,1,95", "5,e,1,2,9", "1,f,1,2", ",g,1,2", "8,h,120,2"]
    path, bad, log = file(tmp_path, "id,name,lng,lat\n" + "\n".join(rows) + "\n"), tmp_path / "out/b.jsonl", list[str]()
    pois = read_pois(path, PoiOptions(bad_rows=bad), log.append)
    assert pois["poi_id"].tolist() == ["1", "8"]
    listed = sorted((json.loads(line) for line in bad.read_text().splitlines()), key=lambda row: row["where"])
    assert [(row["where"], row["error"]) for row in listed] == [
        (f"{path}:3: name", "expected text, got nothing"),
        (f"{path}:4: lng", "expected degrees, got 'x'"),
        (f"{path}:5: lat", "95 is outside [-90, 90]"),
        (f"{path}:6", "the row has 5 cells, the header 4"),
        (f"{path}:7: id", "id '1' appears twice"),
        (f"{path}:8: id", "the id is empty"),
    ]
    assert listed[1]["row"] == {"id": "3", "name": "c", "lng": "x", "lat": "2"}
    assert listed[3]["row"] == ["5", "e", "1", "2", "9"]
    assert log[-1] == f"pois.csv: 6 of 8 rows are invalid and left out; see {bad}"


def test_a_table_without_valid_or_without_invalid_rows_leaves_no_file(tmp_path: Path) -> None:
    path = file(tmp_path, "name,lng,lat\na,x,1\nb,y,1\n")
    error = refused(path, PoiOptions(bad_rows=tmp_path / "b.jsonl"))
    assert (error.where, error.what) == (
        f"{path}:2: lng",
        "all rows are invalid, the first one with: expected degrees, got 'x'",
    )
    with open_pois(file(tmp_path, "name,lng,lat\na,x,1\nb,2,1\n"), PoiOptions(bad_rows=tmp_path / "b.jsonl")) as stream:
        next(stream.batches())
    read_pois(file(tmp_path, HEAD + "a,1,2\n"), PoiOptions(bad_rows=tmp_path / "b.jsonl"))
    assert [p.name for p in tmp_path.iterdir()] == ["pois.csv"], "no list that is unfinished or empty"


def test_closed_pois_and_points_at_zero_are_counted(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"fsq_place_id": list("abc"), "name": list("xyz"), "latitude": [0.0, 1, 2], "longitude": [0.0, 1, 2]}
    )
    frame.assign(date_closed=[None, "2020-01-01", ""]).to_csv(tmp_path / "f.csv", index=False)
    log: list[str] = []
    assert read_pois(tmp_path / "f.csv", log=log.append)["poi_id"].tolist() == ["a", "c"]
    assert log[-2:] == [
        "f.csv: 1 POI is closed for good and left out",
        "f.csv: 1 POIs lie at 0, 0: are their coordinates unknown?",
    ]
    frame.assign(date_closed="2020-01-01").to_csv(tmp_path / "f.csv", index=False)
    assert refused(tmp_path / "f.csv").what == "all POIs are closed for good"


# --- ids, own columns, datum -----------------------------------------------------------------------------------------


def test_ids_keep_type_and_value_and_row_numbers_are_said(tmp_path: Path) -> None:
    log: list[str] = []
    assert read_pois(file(tmp_path, "id,name,lng,lat\n007,a,1,2\n"), log=log.append)["poi_id"].tolist() == ["007"]
    assert log == ["pois.csv: own table: id = id, name = name, lng = lng, lat = lat"]
    pd.DataFrame({"id": [7, 8], "name": ["a", "b"], "lng": 1.0, "lat": 2.0}).to_parquet(tmp_path / "p.parquet")
    assert read_pois(tmp_path / "p.parquet")["poi_id"].tolist() == [7, 8]
    read_pois(file(tmp_path, HEAD + "a,1,2\n"), log=log.append)
    assert log[1:] == ["pois.csv: no id column; the ids are row numbers from 0"]


def test_repeated_ids_are_found_between_batches_of_any_size() -> None:
    generator = np.random.default_rng(5)
    ids = generator.integers(0, 3000, 4000)
    for make in (pa.array, lambda i: pa.array([f"id{v}" for v in i])):
        seen, found, position = UniqueIds(), [], 0
        for size in generator.multinomial(4000, [1 / 60] * 60):
            batch, kept = make(ids[position : position + size]), np.ones(size, bool)
            for problem in seen.invalid(batch, kept, "id"):
                kept &= ~problem.rows
            found += (position + np.flatnonzero(~kept)).tolist()
            seen.add(batch.filter(pa.array(kept)))
            position += size
        assert found == np.flatnonzero(pd.Series(ids).duplicated()).tolist()


def test_own_columns_keep_their_names_beside_the_canonical_ones(tmp_path: Path) -> None:
    columns = {"title": ["Foo"], "name": ["owner"], "address": ["Katu 1"], "x": [1.0], "y": [2.0], "lng": ["east"]}
    columns |= {"cinema": ["MULTIKINO"]}
    frame = pd.DataFrame(columns | {"phone": [1], "geometry": ["POINT (1 2)"], "blob": [b"\0"], "poi_id": ["q"]})
    frame.to_parquet(tmp_path / "p.parquet")
    read = read_pois(tmp_path / "p.parquet", PoiOptions(columns="name=title, lng=x, lat=y, id=phone"))
    assert read.iloc[0].to_dict() == {
        "poi_id": 1,
        "address": "Foo, Katu 1",
        "name": "Foo",
        "lng": 1.0,
        "lat": 2.0,
        "title": "Foo",
        "name_source": "owner",
        "address_source": "Katu 1",
        "x": 1.0,
        "y": 2.0,
        "lng_source": "east",
        "cinema": "MULTIKINO",
        "phone": 1,
        "poi_id_source": "q",
    }


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_the_datum_is_converted(tmp_path: Path, datum: Datum) -> None:
    lng, lat = from_wgs84([120.1234567, 120.2], [30.2, 30.3], datum)
    pd.DataFrame({"address": ["a", "b"], "lng": lng, "lat": lat}).to_csv(tmp_path / "p.csv", index=False)
    read = read_pois(tmp_path / "p.csv", PoiOptions(datum))
    np.testing.assert_allclose(read[["lng", "lat"]], [[120.1234567, 30.2], [120.2, 30.3]], atol=1e-7)
    assert abs(lng[0] - 120.1234567) > 1e-3, "the datums differ by hundreds of metres there"


def test_decimal_commas_geojson_and_geoparquet_give_the_same_pois(tmp_path: Path) -> None:
    points = geopandas.points_from_xy([24.9384, 24.8], [60.1699, 60.2])
    frame = geopandas.GeoDataFrame(
        {"name": ["Oodi", "Iso Omena"], "city": ["Helsinki", "Espoo"]}, geometry=points, crs=4326
    )
    frame.to_parquet(tmp_path / "g.parquet")
    frame.to_file(tmp_path / "g.geojson", driver="GeoJSON")
    comma = "name;city;lat;lng\nOodi;Helsinki;60,1699;24,9384\nIso Omena;Espoo;60,2;24,8\n"
    expected = [("Oodi, Helsinki", 24.9384, 60.1699), ("Iso Omena, Espoo", 24.8, 60.2)]
    for path in (tmp_path / "g.parquet", tmp_path / "g.geojson", file(tmp_path, comma, "c.csv")):
        read = read_pois(path)
        assert list(read[["address", "lng", "lat"]].itertuples(index=False, name=None)) == expected
        assert "geometry" not in read.columns
    with open_pois(tmp_path / "g.geojson") as stream:
        assert stream.schema.name == "geojson"


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["o.parquet", "o.csv", "o.csv.gz", "o.jsonl", "o.jsonl.gz"])
def test_a_written_poi_table_is_read_back(tmp_path: Path, name: str) -> None:
    pois = pa.table(
        {
            "poi_id": ["007", "b"],
            "address": ['a "b", c', "多行\n文本"],
            "name": ["a", None],
            "lng": [1.123456789, 2.0],
            "lat": [3.0, 4.0],
            "tags": pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())),
            "kinds": [["x", "y"], []],
        }
    )
    with poi_writer(tmp_path / name) as write:
        write(pois.slice(0, 1))
        write(pois.slice(1))
        assert not (tmp_path / name).exists()
    read = read_pois(tmp_path / name, PoiOptions(columns="address=address"))
    assert read["poi_id"].tolist() == ["007", "b"]
    assert read["lng"].tolist() == [1.1234568, 2.0]
    assert [p.name for p in tmp_path.iterdir()] == [name]
    if name == "o.parquet":
        assert pq.read_table(tmp_path / name)["tags"].to_pylist() == pois["tags"].to_pylist()
    if name == "o.csv":
        assert read["tags"].tolist()[0] == '{"k": "v"}'


def test_other_suffixes_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write a POI table as \.xlsx"), poi_writer(tmp_path / "o.xlsx"):
        pass


def test_a_stream_reports_its_progress(tmp_path: Path) -> None:
    frame = pd.DataFrame({"address": [f"a{i}" for i in range(120_000)], "lng": 1.0, "lat": 2.0})
    frame.to_parquet(tmp_path / "p.parquet")
    done: list[Any] = []
    with open_pois(tmp_path / "p.parquet") as stream:
        for batch in stream.batches():
            done.append((stream.done, len(batch)))
        assert stream.size == stream.rows == 120_000
    assert [d for d, _ in done] == sorted(d for d, _ in done)
    assert sum(n for _, n in done) == 120_000
    assert len(done) > 1


@pytest.mark.parametrize(
    "name", ["geotes/poi_database.csv", "name_pairs/edinburgh/poi.csv", "name_pairs/pittsburgh/poi.csv"]
)
def test_published_tables_are_read_as_pandas_reads_them(shared: Path, name: str) -> None:
    expected = pd.read_csv(shared / "data" / name, dtype={"poi_id": str, "address": str}, keep_default_na=False)
    if "poi_id" not in expected.columns:
        expected.insert(0, "poi_id", np.arange(len(expected)))
    read = read_pois(shared / "data" / name)
    pd.testing.assert_frame_equal(read[expected.columns], expected)


def test_shifted_coordinates_are_said_unless_they_are_converted(tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps({"pois": [AMAP]}), "a.json")
    log: list[str] = []
    plain = read_pois(path, log=log.append)
    assert log[-1] == ("a.json: the coordinates seem to be GCJ-02, which is shifted. To convert them: --datum gcj02")
    log.clear()
    converted = read_pois(path, PoiOptions("gcj02"), log.append)
    assert not any("shifted" in text for text in log)
    assert abs(converted["lng"][0] - plain["lng"][0]) > 0.003


def test_the_pois_of_a_table_with_the_columns_of_its_source_are_read_again_unchanged(tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps([AMAP]), "a.json")
    for name in ("p.csv", "p.jsonl", "p.parquet"):
        with open_pois(path, PoiOptions("gcj02")) as stream, poi_writer(tmp_path / name) as write:
            for batch in stream.batches():
                write(batch)
        first, again = read_pois(path, PoiOptions("gcj02")), read_pois(tmp_path / name)
        assert again.columns.tolist() == first.columns.tolist()
        pd.testing.assert_frame_equal(again.round(6), first.round(6), check_dtype=False)
