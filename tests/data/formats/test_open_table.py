"""Every format gives its rows with positions; damage is reported at file:line, row or feature."""

from __future__ import annotations

import gzip
import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from m3gal_cli.data.formats import BadRow, RawTable, TableOptions, delimited, objects, open_table, source
from m3gal_cli.data.formats.table import BATCH_ROWS
from m3gal_cli.errors import InputError
from tests.helpers.table_files import FILES, NAMES, ROWS, collection, csv_text, feature, parquet, workbook, zipped


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(table: RawTable) -> list[dict[str, Any]]:
    return [row for batch in table.batches() for row in batch.table.to_pylist()]


def read(path: Path) -> tuple[list[dict[str, Any]], RawTable]:
    with open_table(path) as table:
        return rows_of(table), table


def read_all_but_bad(path: Path) -> tuple[list[dict[str, Any]], list[BadRow]]:
    bad: list[BadRow] = []
    with open_table(path, TableOptions(on_bad=bad.append)) as table:
        return rows_of(table), bad


def positions(path: Path) -> list[str]:
    with open_table(path) as table:
        return [batch.positions(i) for batch in table.batches() for i in range(len(batch.table))]


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.hint, "every error gives a hint"
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_each_format_gives_the_names_of_the_places(tmp_path: Path, name: str) -> None:
    rows, table = read(write(tmp_path / name, FILES[name]()))
    if table.format == "geonames":
        expected: list[Any] = [f'Hel"sinki {i}' for i in range(6)]
    elif name == "photon.json":
        expected = [{"name": f"P{i}", "name:sv": "Ö"} for i in range(3)]
    elif name == "semicolon.csv":
        expected = [n.encode("gb18030", "replace").decode("gb18030") for n in NAMES]
    else:
        expected = NAMES
    assert [row["name"] for row in rows] == expected
    assert list(rows[0]) == table.columns
    assert table.done == table.size > 0


def test_a_table_can_be_read_again(tmp_path: Path) -> None:
    for name, content in FILES.items():
        with open_table(write(tmp_path / name, content())) as table:
            assert rows_of(table) == rows_of(table)


def test_each_row_has_the_line_where_it_begins(tmp_path: Path) -> None:
    text = 'name,lat\n\n"a\nb",1\n   \nc,2\n'
    for name, content in (("t.csv", text.encode()), ("t.csv.gz", gzip.compress(text.encode()))):
        path = write(tmp_path / name, content)
        assert positions(path) == [f"{path}:3", f"{path}:6"]
    path = write(tmp_path / "t.jsonl", '\n{"a": 1}\n\n{"a": 2}\n')
    assert positions(path) == [f"{path}:2", f"{path}:4"]


def test_rows_of_other_formats_have_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", parquet())
    assert positions(path)[1] == f"{path}: row 2"
    path = write(tmp_path / "t.geojson", json.dumps(collection()))
    assert positions(path)[1] == f"{path}: feature 2"
    path = write(tmp_path / "t.xlsx", workbook([[], ["name"], ["a"], [], ["b"]]))
    assert positions(path) == [f"{path}: row 3", f"{path}: row 5"], "as the program shows them"


def test_large_files_come_in_batches_with_positions(tmp_path: Path) -> None:
    count = BATCH_ROWS + 20_000
    frame = pd.DataFrame({"name": [f"cell, {i}" for i in range(count)], "lat": range(count)})
    for name in ("t.csv", "t.parquet", "t.jsonl"):
        path = tmp_path / name
        if name == "t.csv":
            frame.to_csv(path, index=False)
        elif name == "t.parquet":
            frame.to_parquet(path)
        else:
            frame.to_json(path, orient="records", lines=True)
        with open_table(path) as table:
            first, second = table.batches()
            assert first.table.schema == second.table.schema
            assert second.table["name"][-1].as_py() == f"cell, {count - 1}"
            number = count + 1 if name == "t.csv" else count
            before = f"{path}: row " if name == "t.parquet" else f"{path}:"
            assert second.positions(len(second.table) - 1) == f"{before}{number}"


def test_a_cell_may_span_the_blocks_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": f"line {i}\nline; {i}" * (1 + i % 3), "lat": str(i), "note": "ä" * (i % 7)} for i in range(300)]
    path = write(tmp_path / "t.csv", csv_text(rows))
    expected = positions(path)
    for size in (7, 64, 999):
        monkeypatch.setattr(source.ByteStream.read, "__defaults__", (size,))
        assert read(path)[0] == rows
        assert positions(path) == expected


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("t.csv", "a,b\n1,2\nx,y,z\n3,4\n", 3, "the row has 3 cells, the header 2"),
        ("t.csv", "a,b,c\n1,2\n7\n3,4,5\n", 3, "the row has 1 cell, the header 3"),
        ("t.csv", 'a,b\n1,2\n"x,2\n3,4\n', 3, "cannot be split into cells (unexpected end of data)"),
        ("t.csv", 'a,b\n1,2\n"x" y,2\n3,4\n', 3, "cannot be split into cells"),
        ("t.csv", "a,b\n1,2\nx\0,2\n3,4\n", 3, "NUL byte"),
        ("t.csv", "a,b\n1,2\nx\ry,2\n3,4\n", 3, "cannot be split into cells"),
        ("t.csv", 'a,b\n1,2\n"' + "x" * (1 << 20) + 'y",2\n3,4\n', 3, "field larger than field limit"),
        ("t.jsonl", '{"a":1}\n{"a":\n{"a":3}\n', 2, "not JSON"),
        ("t.jsonl", '{"a":1}\n[2]\n{"a":3}\n', 2, "expected a JSON object, got list"),
        ("t.jsonl", '{"a":1}\n{"a":"\\ud800"}\n{"a":3}\n', 2, "a lone surrogate"),
        ("t.jsonl", '{"a":1}\n\n' + "[" * 100_000 + '\n{"a":3}\n', 3, "not JSON"),
        ("t.jsonl", '{"a":1}\n{"a":' + "9" * 5000 + '}\n{"a":3}\n', 2, "not JSON"),
    ],
)
def test_a_bad_row_is_an_error_or_left_out(tmp_path: Path, name: str, text: str, line: int, words: str) -> None:
    path = write(tmp_path / name, text)
    error = refused(path)
    assert (error.where, words in error.what) == (f"{path}:{line}", True)
    rows, bad = read_all_but_bad(path)
    assert [str(row["a"]) for row in rows] == ["1", "3"]
    assert ([b.where for b in bad], words in bad[0].error) == ([f"{path}:{line}"], True)
    json.dumps(bad[0].row, ensure_ascii=False).encode()  # it can be listed in a file


def test_many_bad_rows_take_time_in_proportion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[int] = []
    split = delimited._split
    monkeypatch.setattr(delimited, "_split", lambda text, *more: lines.append(len(text)) or split(text, *more))
    path = write(tmp_path / "t.csv", "a,b\n" + '"x" y,2\n' * 1000)
    _, bad = read_all_but_bad(path)
    assert [b.where for b in bad] == [f"{path}:{line}" for line in range(2, 1002)]
    assert set(lines) <= {1, 1001}, "the lines of a block are not copied for each bad row"


def test_a_damaged_character_costs_one_row(tmp_path: Path) -> None:
    good = "".join(f"市图书馆{i},1\n" for i in range(5))
    path = write(tmp_path / "t.csv", b"name,lat\n\xe5\xb8,2\n" + good.encode())
    assert refused(path).where == f"{path}:2"
    rows, bad = read_all_but_bad(path)
    assert (len(rows), [b.where for b in bad]) == (5, [f"{path}:2"])
    path = write(tmp_path / "u.csv", "name,lat\nX,2\nb,3\n".encode("utf-16").replace(b"X\0", b"\0\xd8"))
    assert "the line is not UTF-16" in refused(path).what
    rows, bad = read_all_but_bad(path)
    assert (rows, [b.where for b in bad]) == ([{"name": "b", "lat": "3"}], [f"{path}:2"])


def test_short_rows_are_filled_and_delimiters_at_the_end_are_no_column(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b,c,\n1,2\n1,2,3,\n1,2,3\n")
    assert [list(row.values()) for row in read(path)[0]] == [["1", "2", ""], ["1", "2", "3"], ["1", "2", "3"]]
    path = write(tmp_path / "t.csv", "a,b,c\n1,2,3,\n")
    assert "4 cells" in refused(path).what, "without one in the header the cells may be shifted"


def test_repeated_and_empty_column_names_are_made_distinct(tmp_path: Path) -> None:
    _, table = read(write(tmp_path / "t.csv", " name ,name,,lat\na,b,c,1\n"))
    assert table.columns == ["name", "name 2", "column 3", "lat"]
    assert len(table.notes) == 2
    _, table = read(write(tmp_path / "t.csv", ",".join(["a"] * 3000) + "\n" + ",".join(["1"] * 3000) + "\n"))
    assert (table.columns[-1], len(set(table.columns))) == ("a 3000", 3000)


def test_a_file_without_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "Mill Lane 2,24.93,60.16\nMill Lane 3,24.94,60.17\n")
    assert "has no header" in refused(path).what


def test_columns_and_types_are_those_of_the_whole_file(tmp_path: Path) -> None:
    lines = [
        {"id": 7, "n": 1, "tags": {"a": [1]}},
        {"id": "x", "n": 2.5, "late": True},
        {"tags": {"b": {"c": None}}, "n": None, "huge": 2**70, "mixed": [1], "empty": {}},
        {"mixed": {"d": "ä"}},
    ]
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in lines))
    with open_table(path) as table:
        (batch,) = table.batches()
    tags = pa.struct([("a", pa.list_(pa.int64())), ("b", pa.struct([("c", pa.string())]))])
    types = {"id": pa.string(), "n": pa.float64(), "tags": tags, "late": pa.bool_(), "huge": pa.string()}
    types |= {"mixed": pa.string(), "empty": pa.string()}
    assert batch.table.schema == pa.schema(types)
    assert batch.table["id"].to_pylist() == ["7", "x", None, None]
    assert batch.table["n"].to_pylist() == [1.0, 2.5, None, None]
    assert batch.table["huge"][2].as_py() == str(2**70)
    assert batch.table["mixed"].to_pylist() == [None, None, "[1]", '{"d": "ä"}']


def test_an_object_with_very_many_names_is_kept_as_json(tmp_path: Path) -> None:
    lines = [json.dumps({"names": {f"k{i}": i}}) for i in range(1500)]
    rows, _ = read(write(tmp_path / "t.jsonl", "\n".join(lines)))
    assert rows[1400] == {"names": '{"k1400": 1400}'}
    path = write(tmp_path / "u.jsonl", "\n".join(json.dumps({f"k{i}": i}) for i in range(objects.MAX_COLUMNS + 2)))
    assert "different columns" in refused(path).what


def test_geometries_are_geojson_text_of_every_kind(tmp_path: Path) -> None:
    shapes = [shapely.Point(1, 2), shapely.box(0, 0, 1, 1), shapely.LineString([(0, 0), (1, 1)]), None]
    frame = geopandas.GeoDataFrame({"name": list("abcd")}, geometry=shapes, crs="EPSG:4326")
    frame.to_file(tmp_path / "t.geojson", driver="GeoJSON")
    rows, table = read(tmp_path / "t.geojson")
    assert table.format == "geojson"
    assert [shapely.from_geojson(row["geometry"]) for row in rows] == shapes
    assert [row["name"] for row in rows] == list("abcd")


def test_the_id_of_a_feature_is_a_column_unless_its_properties_have_one(tmp_path: Path) -> None:
    features = [feature(ROWS[0]), {**feature(ROWS[1]), "properties": {"id": "own"}}, {"type": "Feature", "id": 9}]
    path = write(tmp_path / "t.geojson", json.dumps({"type": "FeatureCollection", "features": features}))
    assert [row["id"] for row in read(path)[0]] == ["n0", "own", "9"]


@pytest.mark.parametrize("place", ["before", "after"])
def test_other_coordinate_systems_are_refused(tmp_path: Path, place: str) -> None:
    crs = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3067"}}}
    whole = {**crs, **collection()} if place == "before" else {**collection(), **crs}
    error = refused(write(tmp_path / "t.geojson", json.dumps(whole)))
    assert "EPSG::3067" in error.what
    points = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.Point(385000, 6672000)], crs="EPSG:3067")
    points.to_parquet(tmp_path / "t.parquet")
    assert "TM35FIN" in refused(tmp_path / "t.parquet").what
    points.to_crs("EPSG:4326").to_parquet(tmp_path / "u.parquet")
    assert len(read(tmp_path / "u.parquet")[0]) == 1


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{"place_id": 1, "lat": "60.1"}', [{"place_id": 1, "lat": "60.1"}]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('[\n {"a": 1},\n {"a": 2}\n]', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('{\n"a": 1}\n{"a":\n2}', [{"a": 1}, {"a": 2}]),
        ("[]", []),
        ('{"type": "FeatureCollection", "features": []}', []),
    ],
)
def test_json_may_be_a_list_an_object_or_several(tmp_path: Path, text: str, rows: list[Any]) -> None:
    if text == "[]":
        assert "no JSON object" in refused(write(tmp_path / "t.json", text)).what
    else:
        assert read(write(tmp_path / "t.json", text))[0] == rows


def test_values_may_span_the_pieces_of_a_json_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({**collection(name="t"), "version": 1.5}, ensure_ascii=False, indent=1)
    expected = read(write(tmp_path / "t.geojson", text))[0]
    assert [row["name"] for row in expected] == NAMES
    for size in (1, 3, 17):
        monkeypatch.setattr(source.ByteStream.read, "__defaults__", (size,))
        assert read(tmp_path / "t.geojson")[0] == expected


def test_damage_in_a_json_text_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", '[\n{"a": 1},\n{"a": oops},\n{"a": 3}\n]')
    error = refused(path)
    assert (error.where, "not JSON" in error.what) == (f"{path}:3", True)
    path = write(tmp_path / "u.json", '[\n{"a": 1},\n{"a": "')
    assert refused(path).where == f"{path}:3"


def test_whole_numbers_of_a_sheet_are_integers_and_dates_are_texts(tmp_path: Path) -> None:
    header = ["id", "no", "lat", "opened", "empty"]
    rows = [[1, 12.0, 60.5, pd.Timestamp("2020-01-02"), None], [2.0, "12a", 60, pd.Timestamp("2020-01-02 10:00"), ""]]
    path = write(tmp_path / "t.xlsx", workbook([header, *rows], "Notes"))
    found, table = read(path)
    assert found[0] == {"id": 1, "no": "12", "lat": 60.5, "opened": "2020-01-02", "empty": None}
    assert found[1] == {"id": 2, "no": "12a", "lat": 60.0, "opened": "2020-01-02T10:00:00", "empty": None}
    assert table.notes == ["the first sheet is read; the others are Notes"]


def test_a_cell_beyond_the_header_costs_one_row_and_the_stated_size_of_a_sheet_does_not_matter(tmp_path: Path) -> None:
    data = workbook([["name", "lat"], ["a", 1], ["b", 2, "?"], [None, 3], ["d"]])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = parts["xl/worksheets/sheet1.xml"].replace(b'ref="A1:C5"', b'ref="A1"')
    path = write(tmp_path / "t.xlsx", zipped(**{name.replace(".", "__"): part for name, part in parts.items()}))
    assert refused(path).where == f"{path}: row 3"
    rows, bad = read_all_but_bad(path)
    assert rows == [{"name": "a", "lat": 1}, {"name": None, "lat": 3}, {"name": "d", "lat": None}]
    assert (bad[0].where, bad[0].row) == (f"{path}: row 3", ["b", 2, "?"])


def test_a_sheet_without_openpyxl_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    error = refused(write(tmp_path / "t.xlsx", FILES["sheet.xlsx"]()))
    assert "m3gal[xlsx]" in str(error.hint)


def test_nested_and_dictionary_columns_of_parquet_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    duckdb.sql(
        f"""copy (select 'a' as id, {{'primary': 'Café', 'common': map {{'en': 'Cafe'}}}} as names,
        [{{'freeform': 'Mill Lane 2'}}] as addresses, timestamp '2020-01-02' as t) to '{path}' (format parquet)"""
    )
    rows, _ = read(path)
    assert rows[0]["names"] == {"primary": "Café", "common": [("en", "Cafe")]}
    assert rows[0]["addresses"] == [{"freeform": "Mill Lane 2"}]
    pq.write_table(pa.table({"kind": pa.array(["x", "y", "x"]).dictionary_encode()}), path)
    with open_table(path) as table:
        assert pa.types.is_dictionary(next(table.batches()).table.schema.field("kind").type)


def test_columns_of_rare_types_are_read_in_usual_ones(tmp_path: Path) -> None:
    ids = [uuid.UUID(int=7).bytes, None]
    columns = {"id": pa.array(ids, pa.uuid()), "half": pa.array([1, 2.5], pa.float16())}
    columns |= {"view": pa.array(["a", None], pa.string_view()), "bytes": pa.array([b"\xff\0", b"ab"], pa.binary(2))}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with open_table(tmp_path / "t.parquet") as table:
        (batch,) = table.batches()
    assert batch.table.schema.types == [pa.string(), pa.float32(), pa.string(), pa.binary()]
    assert batch.table.to_pydict() == {
        "id": ["00000000-0000-0000-0000-000000000007", None],
        "half": [1, 2.5],
        "view": ["a", None],
        "bytes": [b"\xff\0", b"ab"],
    }


def test_a_folder_of_parquet_parts_is_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "places" / "type=place"
    folder.mkdir(parents=True)
    pd.DataFrame({"id": [1, 2], "name": ["a", "b"]}).to_parquet(folder / "part-0.parquet")
    pd.DataFrame({"name": ["c"], "id": [3.5]}).to_parquet(folder / "part-1.parquet")
    (folder / "_metadata.parquet").write_bytes(b"")
    rows, table = read(tmp_path / "places")
    assert rows == [{"id": 1.0, "name": "a"}, {"id": 2.0, "name": "b"}, {"id": 3.5, "name": "c"}]
    assert (table.size, table.done) == (3, 3)
    assert positions(tmp_path / "places")[2] == f"{tmp_path}/places/type=place/part-1.parquet: row 1"
    pd.DataFrame({"id": [1], "other": [3]}).to_parquet(folder / "part-2.parquet")
    error = refused(tmp_path / "places")
    assert "name, other" in error.what


def test_the_content_decides_the_format(tmp_path: Path) -> None:
    for name in ("places.parquet", "sheet.xlsx", "collection.geojson", "rows.jsonl"):
        rows, table = read(write(tmp_path / f"{name}.csv", FILES[name]()))
        assert [row["name"] for row in rows] == NAMES
        assert table.notes[0].endswith("although the name ends in .csv")
        assert [row["name"] for row in read(write(tmp_path / "bare", FILES[name]()))[0]] == NAMES


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "only blank lines"),
        ("a.md", b"name,lat\na,1\n", "cannot read a table from .md"),
        ("a.xls", b"\xd0\xcf\x11\xe0" + bytes(100), "old Excel workbook"),
        ("a.csv", b"SQLite format 3\0", "SQLite or GeoPackage"),
        ("a.csv", b"<!DOCTYPE html>\n<html>", "a web page"),
        ("a.geojson", b"<?xml version='1.0'?>", "XML"),
        ("a.csv", bytes(range(256)), "binary"),
        ("a.parquet", b"name,lat\na,1\n", "is not a Parquet file"),
        ("a.xlsx", b"name,lat\na,1\n", "is not an Excel workbook"),
        ("a.csv.gz", b"name,lat\na,1\n", "not packed with gzip"),
        ("a.csv.gz", gzip.compress(b"name,lat\n" * 99)[:-20], "cannot read the file"),
        ("a.zip", zipped(a__csv="x,y\n", b__csv="x,y\n"), "2 tables (a.csv, b.csv)"),
        ("a.zip", zipped(readme__md="x"), "no tables"),
        ("a.jsonl", b"\n\n", "no JSON object"),
        ("a.geojson", b'{"type": "FeatureCollection"}', "has no features"),
    ],
)
def test_what_is_no_table_is_refused_with_what_it_is(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = write(tmp_path / name, content)
    error = refused(path)
    assert words in error.what
    assert str(error.where).startswith(str(path))


def test_a_folder_without_parquet_files_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "a folder" in refused(tmp_path).what
    assert "no such table" in refused(tmp_path / "none.csv").what


def test_an_unpacked_archive_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    path = write(tmp_path / "t.zip", zipped(**{"sub/shops__csv": csv_text()}))
    with open_table(path) as table:
        assert [row["name"] for row in rows_of(table)] == NAMES
        assert next(table.batches()).positions(0) == f"{path}/sub/shops.csv:2"
        assert list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "tmp").iterdir())
    refused(write(tmp_path / "t.zip", zipped(shops__csv="\n")))
    assert not list((tmp_path / "tmp").iterdir())


def test_titles_above_the_header_of_a_sheet_are_left_out(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["Stores"], ["of", None], [], ["id", "name", "lat", "lng"], [7, "a", 60.1, 24.9]]
    found, table = read(write(tmp_path / "t.xlsx", workbook(rows)))
    assert found == [{"id": 7, "name": "a", "lat": 60.1, "lng": 24.9}]
    assert table.notes == ["the header is in row 4"]
    assert positions(tmp_path / "t.xlsx") == [f"{tmp_path / 't.xlsx'}: row 5"]


# --- answers of web services -----------------------------------------------------------------------------------------

PLACES = [{"name": "a", "location": "120.1,30.2"}, {"name": "b", "location": "120.3,30.4"}]


@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_rows_of_an_answer_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, indent: int | None
) -> None:
    monkeypatch.setattr(source, "CHUNK", size)
    answer = {"status": "1", "suggestion": {"pois": []}, "pois": PLACES, "count": "2"}
    path = write(tmp_path / "a.json", json.dumps(answer, indent=indent))
    found, table = read(path)
    assert found == PLACES
    assert table.notes == ["the rows are in 'pois'"]
    assert positions(path) == [f"{path}: row 1", f"{path}: row 2"]


def test_several_answers_are_one_table(tmp_path: Path) -> None:
    pages = [{"status": "1", "pois": PLACES[:1]}, {"status": "1", "pois": []}, {"pois": PLACES[1:]}]
    for name, text in {
        "lines.jsonl": "\n".join(map(json.dumps, pages)),
        "list.json": json.dumps(pages),
        "behind.json": "\n".join(json.dumps(page, indent=1) for page in (pages[0], pages[2])),
    }.items():
        assert read(write(tmp_path / name, text))[0] == PLACES, name
    bad = write(tmp_path / "bad.jsonl", json.dumps(pages[0]) + "\n3\n")
    assert refused(bad).what == "expected an object with the list 'pois'"


def test_a_list_in_a_row_is_a_column(tmp_path: Path) -> None:
    for row in (
        {"name": "a", "items": PLACES},
        {"title": "a", "items": PLACES},
        {"id": 1, "items": ["x"]},
        {"id": 1, "results": []},
    ):
        assert read(write(tmp_path / "r.json", json.dumps(row)))[0] == [row]


def test_elements_of_overpass_are_rows_of_their_tags(tmp_path: Path) -> None:
    bounds = {"minlat": 60.0, "minlon": 24.0, "maxlat": 61.0, "maxlon": 25.0}
    elements: list[dict[str, Any]] = [
        {"type": "node", "id": 1, "lat": 60.1, "lon": 24.9},
        {"type": "node", "id": 5, "lat": 60.1, "lon": 24.9, "tags": {"name": "Oodi", "amenity": "cafe", "id": "x"}},
        {"type": "way", "id": 5, "center": {"lat": 60.2, "lon": 24.8}, "nodes": [1], "tags": {"name": "Ateneum"}},
        {"type": "relation", "id": 6, "bounds": bounds, "members": [], "tags": {"name": "Kamppi"}},
        {"type": "relation", "id": 7, "tags": {"name": "Nowhere"}},
        {"type": "way", "id": 8, "bounds": {"a": 1, "minlat": "1"}, "tags": {"name": "Wrong bounds"}},
    ]
    rows = [
        {"id": "n5", "lat": 60.1, "lon": 24.9, "name": "Oodi", "amenity": "cafe"},
        {"id": "w5", "lat": 60.2, "lon": 24.8, "name": "Ateneum", "amenity": None},
        {"id": "r6", "lat": 60.5, "lon": 24.5, "name": "Kamppi", "amenity": None},
        {"id": "r7", "lat": None, "lon": None, "name": "Nowhere", "amenity": None},
        {"id": "w8", "lat": None, "lon": None, "name": "Wrong bounds", "amenity": None},
    ]
    answer = {"version": 0.6, "osm3s": {"copyright": "…"}, "elements": elements}
    for name, value in {"answer.json": answer, "list.json": elements[1:], "pages.json": [answer]}.items():
        found, table = read(write(tmp_path / name, json.dumps(value)))
        assert found == rows
        assert table.notes == ["elements of OpenStreetMap"]
    assert (
        "expected an element" in refused(write(tmp_path / "bad.json", json.dumps({"elements": [elements[1], {}]}))).what
    )
