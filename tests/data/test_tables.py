"""View tables and POI tables: what is refused and where, what is converted, what comes back."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data import tables
from m3gal_cli.data.tables import (
    GEOHASH_COLUMNS,
    VIEW_COLUMNS,
    parquet_twin,
    read_frame,
    read_json_lines,
    read_pois,
    read_views,
    write_pois,
    write_table,
    write_views,
)
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import geohash_digits, wgs84_to_gcj02

HEAD = "address,lng,lat\n"
Reader = Callable[[Path], pd.DataFrame]


def views_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "address1": ["湖边路3号", 'the "old" mill, north', "绿洲商场东门"],
            "address2": ["市图书馆", "Mill Lane 2", "绿洲商场\n东门"],
            "lng": [120.1234567, 24.9384, 120.2],
            "lat": [30.2, 60.1699, 30.3],
        }
    )


def pois_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "poi_id": ["n1", "w2", "r3"],
            "address": ["市图书馆", "NA", "停车场, 北"],
            "lng": [1.5, 2, 3],
            "lat": [4, 5.25, 6],
        }
    )


def refused(path: Path, read: Reader = read_pois) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.hint, "every refusal says what to do next"
    return caught.value


def pois_file(tmp_path: Path, text: str | bytes, name: str = "pois.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet", "t.jsonl", "t.jsonl.gz"])
def test_a_table_comes_back_equal(tmp_path: Path, name: str) -> None:
    write_table(pois_frame(), tmp_path / name)
    pd.testing.assert_frame_equal(read_pois(tmp_path / name), pois_frame(), check_dtype=False)
    write_table(views_frame(), tmp_path / name)
    pd.testing.assert_frame_equal(read_views(tmp_path / name), views_frame(), check_dtype=False)


@pytest.mark.parametrize("name", ["v.csv", "v.csv.gz"])
def test_the_csv_has_the_published_columns_and_the_twin_has_all(tmp_path: Path, name: str) -> None:
    write_views(views_frame().assign(poi_id=["a", "b", "c"]), tmp_path / name)
    assert read_frame(tmp_path / name).columns.tolist() == VIEW_COLUMNS
    assert pd.read_parquet(tmp_path / "v.parquet").columns.tolist() == [*VIEW_COLUMNS, "poi_id"]
    digits = geohash_digits(views_frame()["lng"], views_frame()["lat"])
    np.testing.assert_array_equal(read_frame(tmp_path / name)[GEOHASH_COLUMNS].astype(int), digits)
    write_pois(pois_frame(), tmp_path / f"p{name[1:]}")
    assert read_frame(tmp_path / f"p{name[1:]}").columns.tolist() == ["address", "lng", "lat"]
    assert pd.read_parquet(tmp_path / "p.parquet").columns.tolist() == ["poi_id", "address", "lng", "lat"]
    assert sorted(os.listdir(tmp_path)) == sorted(["p.parquet", f"p{name[1:]}", "v.parquet", name])


def test_twins_and_csv_agree_on_coordinates(tmp_path: Path) -> None:
    frame = pois_frame().assign(lng=[1.123456789, 2.0, 3.0])
    write_pois(frame, tmp_path / "p.csv")
    expected = [1.1234568, 2.0, 3.0]
    assert read_pois(tmp_path / "p.csv")["lng"].tolist() == expected
    assert read_pois(parquet_twin(tmp_path / "p.csv"))["lng"].tolist() == expected


def test_ids_are_row_numbers_where_the_file_has_none(tmp_path: Path) -> None:
    path = pois_file(tmp_path, HEAD + "a,1,2\na,1,2\n")
    assert read_pois(path)["poi_id"].tolist() == [0, 1], "equal rows are kept"


def test_the_text_na_is_a_name_and_headers_may_have_blanks(tmp_path: Path) -> None:
    frame = read_pois(pois_file(tmp_path, "address, lng, lat\nNA,1,2\nnull,3,4\n"))
    assert frame["address"].tolist() == ["NA", "null"]


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        (HEAD, "", "has no rows"),
        ("\n", "", "cannot read"),
        ("address,lng\na,1\n", "", "has no column lat (it has: address, lng)"),
        ("address;lng;lat\na;1;2\n", "", "has no column address, lng, lat"),
        (HEAD + "a,1,2\n  ,1,2\n", ":3: address", "expected text, got '  '"),
        (HEAD + "a,1,2\nb,east,2\n", ":3: lng", "expected degrees, got 'east'"),
        (HEAD + "a,1,2\nb,1,\n", ":3: lat", "expected degrees, got ''"),
        (HEAD + "a,1,2\nb,1\n", ":3: lat", "expected degrees, got ''"),
        (HEAD + "a,nan,2\n", ":2: lng", "expected degrees, got 'nan'"),
        (HEAD + "a,1,inf\n", ":2: lat", "expected degrees, got 'inf'"),
        (HEAD + "a,181,2\n", ":2: lng", "181 is outside [-180, 180]"),
        (HEAD + "a,100,2\nb,170,-91\n", ":3: lat", "-91 is outside [-90, 90]"),
        (HEAD + "a,30.2,120.1\nb,30.3,120.2\n", ":2: lat", "120.1 is outside [-90, 90]: lng and lat look swapped"),
        (HEAD + 'a,1,2\n"x\ny",1,2\n\n"z",1,north\n', ":6: lat", "expected degrees, got 'north'"),
        (HEAD + "a,1,2\n   \n\nb,1,north\n", ":5: lat", "expected degrees, got 'north'"),
        (HEAD + "a,1,2\nMill Lane, 2,1,2\n", ":3", "the row has 4 cells, the header of the POI table 3"),
        (HEAD + "Mill Lane, 2,1,2\nb,1,2\n", ":2", "the row has 4 cells, the header of the POI table 3"),
        (HEAD + 'a,1,2\n"open,1,2\n', "", "cannot read"),
        ("poi_id,address,lng,lat\n7,a,1,2\n7,b,1,2\n", ":3: poi_id", "poi_id '7' appears twice"),
        ("poi_id,address,lng,lat\n7,a,1,2\n ,b,1,2\n", ":3: poi_id", "the poi_id is empty"),
    ],
)
@pytest.mark.parametrize("name", ["pois.csv", "pois.csv.gz"])
def test_a_bad_csv_is_refused_with_its_line(tmp_path: Path, text: str, where: str, words: str, name: str) -> None:
    packed = gzip.compress(text.encode()) if name.endswith(".gz") else text
    path = pois_file(tmp_path, packed, name)
    error = refused(path)
    assert error.where == f"{path}{where}"
    assert words in error.what


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ('{"address": "", "lng": 1, "lat": 2}', "address", "expected text, got ''"),
        ('{"address": 5, "lng": 1, "lat": 2}', "address", "expected text, got 5"),
        ('{"lng": 1, "lat": 2}', "address", "expected text, got nothing"),
        ('{"address": "b", "lng": null, "lat": 2}', "lng", "expected degrees, got nothing"),
        ('{"address": "b", "lng": [1], "lat": 2}', "lng", "expected degrees, got [1]"),
        ('{"address": "b", "lng": NaN, "lat": 2}', "lng", "expected degrees, got nothing"),
        ('{"address": "b", "lng": 1, "lat": 95}', "lat", "95 is outside"),
    ],
)
def test_a_bad_line_of_json_is_refused_with_its_line(tmp_path: Path, line: str, column: str, words: str) -> None:
    path = pois_file(tmp_path, f'{{"address": "a", "lng": 1, "lat": 2}}\n\n{line}\n', "pois.jsonl")
    error = refused(path)
    assert error.where == f"{path}:3: {column}"
    assert words in error.what


def test_a_bad_row_of_parquet_is_refused_with_its_number(tmp_path: Path) -> None:
    pois_frame().assign(lat=[1.0, None, 2.0]).to_parquet(tmp_path / "p.parquet")
    assert refused(tmp_path / "p.parquet").where == f"{tmp_path / 'p.parquet'}: row 2: lat"
    pois_frame().assign(poi_id=["a", "b", "a"]).to_parquet(tmp_path / "p.parquet")
    assert refused(tmp_path / "p.parquet").where == f"{tmp_path / 'p.parquet'}: row 3: poi_id"


@pytest.mark.parametrize("read", [read_pois, read_views])
def test_missing_folder_and_unknown_suffix(tmp_path: Path, read: Reader) -> None:
    assert "no such" in refused(tmp_path / "none.csv", read).what
    (tmp_path / "empty.csv").touch()
    assert "is empty" in refused(tmp_path / "empty.csv", read).what
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "a.tsv").write_text("x")
    assert "from .tsv" in refused(tmp_path / "a.tsv", read).what
    (tmp_path / "bare").write_text("x")
    assert "without suffix" in refused(tmp_path / "bare", read).what
    with pytest.raises(InputError, match=r"as \.xlsx"):
        write_table(pois_frame(), tmp_path / "a.xlsx")


@pytest.mark.parametrize("name", ["p.parquet", "p.csv.gz", "p.jsonl.gz"])
@pytest.mark.parametrize("damage", ["truncated", "garbled", "of another format"])
def test_damaged_files(tmp_path: Path, name: str, damage: str) -> None:
    frame = pd.concat([pois_frame()] * 200).assign(poi_id=range(600))
    write_table(frame, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    middle = len(whole) // 2
    broken = {
        "truncated": whole[:middle],
        "garbled": whole[:12] + bytes(255 - b for b in whole[12:]),
        "of another format": b"plain text\n" * 20,
    }
    (tmp_path / name).write_bytes(broken[damage])
    error = refused(tmp_path / name)
    assert "cannot read" in error.what
    assert "\n" not in error.what


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = pois_file(tmp_path, HEAD.encode() + "莫干山路东村,1,2\n".encode("gbk"))
    assert refused(path).hint == "Is it UTF-8?"
    path = pois_file(tmp_path, b'{"address": "\xff", "lng": 1, "lat": 2}\n', "pois.jsonl")
    assert "UTF-8" in str(refused(path).hint)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{'a': 1}", "not JSON"),
        ('{"a": 1', "not JSON"),
        ("[1, 2]", "got list"),
        ("7", "got int"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_the_line_of_broken_json_is_exact(tmp_path: Path, bad: str, words: str, packed: bool) -> None:
    text = f'{{"a": 1}}\n\n  \n{{"a": 2}}\r\n{bad}\n{{"a": 3}}\n'.encode()
    path = tmp_path / ("rows.jsonl.gz" if packed else "rows.jsonl")
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(InputError, match=words) as caught:
        read_json_lines(path)
    assert caught.value.where == f"{path}:5"


def test_json_lines_keep_their_numbers_and_blank_files_are_refused(tmp_path: Path) -> None:
    path = pois_file(tmp_path, '\n{"a": 1}\n\n{"a": 2}', "rows.jsonl")
    assert read_json_lines(path) == [(2, {"a": 1}), (4, {"a": 2})]
    assert "holds no line" in refused(pois_file(tmp_path, "\n \n", "blank.jsonl")).what


def test_swapped_views_are_told_by_their_geohash_where_the_range_cannot(tmp_path: Path) -> None:
    frame = tables.with_geohash(views_frame().assign(lng=[24.93, 24.94, 24.95], lat=[60.16, 60.17, 60.18]))
    write_table(frame, tmp_path / "right.csv")
    assert len(read_views(tmp_path / "right.csv")) == 3
    write_table(frame.rename(columns={"lng": "lat", "lat": "lng"}), tmp_path / "swapped.csv")
    error = refused(tmp_path / "swapped.csv", read_views)
    assert "geohash columns fit the swapped pair" in error.what
    assert error.where == f"{tmp_path / 'swapped.csv'}:2: lng"


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_the_datum_is_converted_at_the_door(tmp_path: Path, datum: str) -> None:
    from m3gal_cli.geo.coordinates import gcj02_to_bd09

    frame = views_frame().iloc[[0, 2]].reset_index(drop=True)
    lng, lat = wgs84_to_gcj02(frame["lng"], frame["lat"])
    if datum == "bd09":
        lng, lat = gcj02_to_bd09(lng, lat)
    there = tables.with_geohash(frame.assign(lng=lng, lat=lat))
    write_table(there, tmp_path / "v.csv")
    read = read_views(tmp_path / "v.csv", datum)  # type: ignore[arg-type]
    np.testing.assert_allclose(read[["lng", "lat"]], frame[["lng", "lat"]], atol=1e-7)
    np.testing.assert_array_equal(read[GEOHASH_COLUMNS], geohash_digits(frame["lng"], frame["lat"]))
    write_table(there.rename(columns={"address1": "address"}), tmp_path / "p.csv")
    pois = read_pois(tmp_path / "p.csv", datum)  # type: ignore[arg-type]
    np.testing.assert_allclose(pois[["lng", "lat"]], frame[["lng", "lat"]], atol=1e-7)
    assert abs(there["lng"] - frame["lng"]).min() > 1e-3, "the datums differ by hundreds of metres there"


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pois(pois_frame(), tmp_path / "p.csv")
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}

    def fail(self: pd.DataFrame, target: object, **_: object) -> None:
        if isinstance(target, Path):
            target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    for method in ("to_csv", "to_parquet"):
        monkeypatch.setattr(pd.DataFrame, method, fail)
    for name in ("p.csv", "p.parquet"):
        with pytest.raises(InputError, match="No space left on device"):
            write_table(pois_frame().head(1), tmp_path / name)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
