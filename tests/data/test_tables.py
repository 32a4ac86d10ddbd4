"""View tables and POI tables: the position and message of errors, conversion, atomic writing."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data import tables
from m3gal_cli.data.tables import GEOHASH_COLUMNS, VIEW_COLUMNS, read_frame, read_views, write_table
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum
from m3gal_cli.geo.geohash import geohash_digits
from tests.helpers.datums import from_wgs84

HEAD = "address1,address2,lng,lat\n"
Reader = Callable[[Path], pd.DataFrame]


def views_frame() -> pd.DataFrame:
    rows = [("湖边路3号", "市图书馆", 120.1234567, 30.2), ('the "old" mill, north', "Mill Lane 2", 24.9384, 60.1699)]
    return pd.DataFrame([*rows, ("绿洲商场东门", "绿洲商场\n东门", 120.2, 30.3)], columns=VIEW_COLUMNS)


def pois_frame() -> pd.DataFrame:
    rows = [("n1", "市图书馆", 1.5, 4), ("w2", "NA", 2, 5.25), ("r3", "停车场, 北", 3, 6)]
    return pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat"])


def write(frame: pd.DataFrame, path: Path) -> None:
    if ".jsonl" in path.name:
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        write_table(frame, path)


def refused(path: Path, read: Reader = read_views) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.hint, "every error gives a hint"
    return caught.value


def pois_file(tmp_path: Path, text: str | bytes, name: str = "pois.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.jsonl", "t.jsonl.gz"])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    write(views_frame(), tmp_path / name)
    pd.testing.assert_frame_equal(read_views(tmp_path / name), views_frame(), check_dtype=False)


def test_the_csv_has_the_published_columns_and_the_twin_has_all(tmp_path: Path) -> None:
    tables.write_views(views_frame().assign(poi_id=["a", "b", "c"]), tmp_path / "v.csv.gz")
    assert read_frame(tmp_path / "v.csv.gz").columns.tolist() == [*VIEW_COLUMNS, *GEOHASH_COLUMNS]
    assert pd.read_parquet(tmp_path / "v.parquet").columns.tolist() == [*VIEW_COLUMNS, *GEOHASH_COLUMNS, "poi_id"]
    digits = geohash_digits(views_frame()["lng"], views_frame()["lat"])
    np.testing.assert_array_equal(read_frame(tmp_path / "v.csv.gz")[GEOHASH_COLUMNS].astype(int), digits)
    tables.write_pois(pois_frame().assign(lng=[1.123456789, 2.0, 3.0]), tmp_path / "p.csv")
    for path in (tmp_path / "p.csv", tables.parquet_twin(tmp_path / "p.csv")):
        assert read_frame(path)["lng"].astype(float).tolist() == [1.1234568, 2.0, 3.0]
    assert read_frame(tmp_path / "p.csv").columns.tolist() == ["address", "lng", "lat"]
    assert pd.read_parquet(tmp_path / "p.parquet").columns.tolist() == ["poi_id", "address", "lng", "lat"]
    assert sorted(os.listdir(tmp_path)) == ["p.csv", "p.parquet", "v.csv.gz", "v.parquet"]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (HEAD, "", "has no rows"),
        ("\n", "", "cannot read"),
        ("address1,address2,lng\na,b,1\n", "", "has no column lat (the columns are: address1, address2, lng)"),
        (HEAD + "a,b,1,2\na,  ,1,2\n", ":3: address2", "expected text, got '  '"),
        (HEAD + "a,b,1,inf\n", ":2: lat", "expected degrees, got 'inf'"),
        (HEAD + "a,b,100,2\nb,b,170,-91\n", ":3: lat", "-91 is outside [-90, 90]"),
        (HEAD + "a,b,30.2,120.1\nb,b,30.3,120.2\n", ":2: lat", "120.1 is outside [-90, 90]: lng and lat look swapped"),
        (HEAD + 'a,b,1,2\n"x\ny",b,1,2\n\n"z",b,1,north\n', ":6: lat", "expected degrees, got 'north'"),
        (HEAD + "a,b,1,2\nMill Lane, 2,b,1,2\n", ":3", "the row has 5 cells, the header of the view table 4"),
        (HEAD + 'a,b,1,2\n"open,b,1,2\n', "", "cannot read"),
    ],
)
def test_an_invalid_csv_row_is_reported_with_its_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    for path in (pois_file(tmp_path, text), pois_file(tmp_path, gzip.compress(text.encode()), "pois.csv.gz")):
        error = refused(path)
        assert error.where == f"{path}{where}"
        assert words in error.what


def test_missing_files_and_unknown_suffixes_are_input_errors(tmp_path: Path) -> None:
    assert "no such" in refused(tmp_path / "none.csv").what
    assert "from .tsv" in refused(pois_file(tmp_path, "x", "a.tsv")).what
    assert "without suffix" in refused(pois_file(tmp_path, "x", "bare")).what


@pytest.mark.parametrize("name", ["p.parquet", "p.csv.gz", "p.jsonl.gz"])
def test_damaged_files_are_input_errors(tmp_path: Path, name: str) -> None:
    write(pd.concat([views_frame()] * 200), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    truncated, garbled = whole[: len(whole) // 2], whole[:12] + bytes(255 - b for b in whole[12:])
    for damaged in (truncated, garbled, b"plain text\n" * 20):
        error = refused(pois_file(tmp_path, damaged, name))
        assert "cannot read" in error.what
        assert "\n" not in error.what


def test_text_that_is_not_utf8_is_an_input_error(tmp_path: Path) -> None:
    path = pois_file(tmp_path, HEAD.encode() + "莫干山路东村,b,1,2\n".encode("gbk"))
    assert refused(path).hint == "Is it UTF-8?"
    path = pois_file(tmp_path, b'{"address1": "\xff", "lng": 1, "lat": 2}\n', "pois.jsonl")
    assert "UTF-8" in str(refused(path).hint)


@pytest.mark.parametrize(
    ("bad", "words"), [("{'a': 1}", "not JSON"), ("[1, 2]", "got list"), ("7", "got int"), ("[" * 100_000, "not JSON")]
)
def test_broken_json_is_reported_with_its_line(tmp_path: Path, bad: str, words: str) -> None:
    text = f'{{"a": 1}}\n\n  \n{{"a": 2}}\r\n{bad}\n{{"a": 3}}\n'.encode()
    path = pois_file(tmp_path, gzip.compress(text), "rows.jsonl.gz")
    with pytest.raises(InputError, match=words) as caught:
        list(tables.iter_json_lines(path))
    assert caught.value.where == f"{path}:5"
    path = pois_file(tmp_path, '\n{"a": 1}\n\n{"a": 2}', "rows.jsonl")
    assert list(tables.iter_json_lines(path)) == [(2, {"a": 1}), (4, {"a": 2})]
    assert "only blank lines" in refused(pois_file(tmp_path, "\n \n", "blank.jsonl")).what


def test_swapped_views_in_range_are_detected_by_their_geohash(tmp_path: Path) -> None:
    frame = tables.with_geohash(views_frame().assign(lng=[24.93, 24.94, 24.95], lat=[60.16, 60.17, 60.18]))
    write_table(frame, tmp_path / "right.csv")
    assert len(read_views(tmp_path / "right.csv")) == 3
    write_table(frame.rename(columns={"lng": "lat", "lat": "lng"}), tmp_path / "swapped.csv")
    error = refused(tmp_path / "swapped.csv", read_views)
    assert "geohash columns match the swapped pair" in error.what
    assert error.where == f"{tmp_path / 'swapped.csv'}:2: lng"


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_readers_convert_the_datum(tmp_path: Path, datum: Datum) -> None:
    frame = views_frame().iloc[[0, 2]].reset_index(drop=True)
    lng, lat = from_wgs84(frame["lng"], frame["lat"], datum)
    shifted = tables.with_geohash(frame.assign(lng=lng, lat=lat))
    write_table(shifted, tmp_path / "v.csv")
    read = read_views(tmp_path / "v.csv", datum)
    np.testing.assert_allclose(read[["lng", "lat"]], frame[["lng", "lat"]], atol=1e-7)
    np.testing.assert_array_equal(read[GEOHASH_COLUMNS], geohash_digits(frame["lng"], frame["lat"]))
    assert abs(shifted["lng"] - frame["lng"]).min() > 1e-3, "the datums differ by hundreds of metres there"


@pytest.mark.parametrize("cuts", [[0, 7, 7, 23, 39], list(range(40))])
def test_views_written_in_pieces_equal_one_write(tmp_path: Path, cuts: list[int]) -> None:
    views = pd.concat([views_frame()] * 13, ignore_index=True).assign(poi_id=[f"n{k}" for k in range(39)])
    tables.write_views(views, tmp_path / "one.csv")
    with tables.views_writer(tmp_path / "many.csv") as writer:
        for start, end in pairwise(cuts):
            writer.write(views.iloc[start:end])
        assert not (tmp_path / "many.csv").exists()
    assert writer.rows == 39
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "many.csv").read_bytes()
    one, many = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "many"))
    pd.testing.assert_frame_equal(one, many)
    assert one["address1"].tolist() == views["address1"].tolist()
    assert sorted(os.listdir(tmp_path)) == ["many.csv", "many.parquet", "one.csv", "one.parquet"]


def test_a_failing_views_writer_leaves_the_old_files_and_no_new_ones(tmp_path: Path) -> None:
    tables.write_views(views_frame(), tmp_path / "old.csv")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for name in ("old", "new"):
        with pytest.raises(RuntimeError, match="midway"), tables.views_writer(tmp_path / f"{name}.csv") as writer:  # noqa: PT012
            writer.write(views_frame())
            raise RuntimeError("midway")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
