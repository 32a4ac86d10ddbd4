"""The delimiter, the decimal comma and the encoding of delimited text are recognised."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.data.formats import RawTable, open_table
from m3gal_cli.data.formats.dialects import (
    DELIMITERS,
    count_titles,
    is_geonames,
    recognise_decimal,
    recognise_delimiter,
)
from m3gal_cli.data.formats.encodings import recognise_encoding
from m3gal_cli.data.formats.source import Source
from tests.helpers.table_files import ROWS, csv_text, geonames

CHINESE = """编号;名称;地址;经度;纬度
1;湖边小吃店;莫干山路东村43幢;120.12;30.2
2;市图书馆;文一路12号;120.1;30.3
3;绿洲商场东门;西湖区;120.2;30.1
4;加油站;天目山路;120.3;30.2
5;停车场;北山街;120.1;30.3
"""
TEXTS = {
    "gbk": CHINESE,
    "gb18030": CHINESE,
    "utf-8": CHINESE,
    "utf-8-sig": CHINESE,
    "utf-16": CHINESE,
    "utf-16-le": CHINESE,
    "utf-16-be": CHINESE,
    "utf-32": CHINESE,
    "big5": "編號;名稱;地址\n1;湖邊小吃店;莫干山路東村43號\n2;市立圖書館;中正路12號\n3;台北車站;忠孝西路\n",
    "shift_jis": "番号;名前;住所\n1;ラーメン屋;東京都渋谷区道玄坂1-2\n2;図書館;大阪市北区梅田\n",
    "euc_jp": "番号;名前;住所\n1;ラーメン屋;東京都渋谷区道玄坂1-2\n2;図書館;大阪市北区梅田\n",
    "euc_kr": "번호;이름;주소\n1;김밥천국;서울특별시 강남구 테헤란로 12\n2;도서관;부산광역시 해운대구\n",
    "cp1252": "name;straße;ort\nCafé Müller;Königstraße 3;Köln\nBäckerei Groß;Hauptstraße 4;Düsseldorf\n",
    "cp1250": "nazwa;ulica;miasto\nKawiarnia Łódź;ul. Świętokrzyska 3;Kraków\nPiekarnia Żółw;Wąska;Łódź\n",
    "cp1251": "название;улица;город\nКафе Пушкин;Тверская улица 3;Москва\nАптека;Невский проспект;Пушкин\n",
}


def opened(path: Path, data: bytes) -> RawTable:
    path.write_bytes(data)
    with open_table(path) as table:
        return table


def cells(table: RawTable) -> list[list[str]]:
    return [table.columns, *(list(row.values()) for batch in table.batches() for row in batch.table.to_pylist())]


@pytest.mark.parametrize("encoding", TEXTS)
def test_short_tables_in_every_encoding_are_read_as_they_were_written(tmp_path: Path, encoding: str) -> None:
    text = TEXTS[encoding]
    table = opened(tmp_path / "t.csv", text.encode(encoding))
    assert cells(table) == [line.split(";") for line in text.splitlines()]
    ordinary = encoding in ("utf-8", "utf-8-sig")
    assert any(note.startswith("encoding ") for note in table.notes) != ordinary


def test_chinese_tables_of_one_row_are_recognised_in_gbk(tmp_path: Path) -> None:
    head, *rows = CHINESE.splitlines()
    for row in rows:
        assert cells(opened(tmp_path / "t.csv", f"{head}\n{row}\n".encode("gbk")))[1] == row.split(";")


def test_western_names_are_recognised_in_cp1252(tmp_path: Path) -> None:
    names = ["Café de la Gare", "Peluquería Ñandú", "Hämeentie 3", "Müller & Söhne", "Gågata 5", "Boulangerie Crépin"]
    for some in combinations(names, 3):
        table = opened(tmp_path / "t.csv", ("name,lat\n" + "".join(f"{n},1\n" for n in some)).encode("cp1252"))
        assert tuple(row[0] for row in cells(table)[1:]) == some


def test_ascii_and_utf8_are_never_taken_for_another_encoding(tmp_path: Path) -> None:
    generator, path = random.Random(0), tmp_path / "t.csv"
    letters = "abc 123,;\n" + "市图书馆莫干山路éüßñøłЖ이ラ🏠"
    for _ in range(300):
        text = "".join(generator.choices(letters, k=generator.randrange(1, 60)))
        path.write_text(f"name,lat\n{text}", encoding="utf-8")
        assert recognise_encoding(Source(path, "t.csv")) == "utf-8"


def test_one_damaged_line_does_not_change_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(CHINESE.encode() + "6;加油站\n".encode("gbk"))
    assert recognise_encoding(Source(path, "t.csv")) == "utf-8"


def test_other_characters_may_come_late_in_a_file(tmp_path: Path) -> None:
    text = "name,lat\n" + "plain,1\n" * 400_000 + "莫干山路东村,2\n"
    table = opened(tmp_path / "t.csv", text.encode("gbk"))
    assert table.notes == ["encoding GB18030"]
    assert cells(table)[-1] == ["莫干山路东村", "2"]


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_what_pandas_writes_with_a_delimiter_is_read_as_it_was(tmp_path: Path, delimiter: str) -> None:
    frame = pd.DataFrame(ROWS).astype(str)
    for suffix in ("csv", "txt", "tsv"):
        table = opened(tmp_path / f"t.{suffix}", csv_text(sep=delimiter).encode())
        assert cells(table) == [list(frame.columns), *frame.to_numpy().tolist()]


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["name;lat;lng", "Mill Lane, 2;24,93;60,16"], ";"),
        (["name,lat", '"a;b;c;d",1'], ","),
        (["name,address;lat;lng", "a;1;2"], ";"),
        (["name\tlat", "a, b, c\t1"], "\t"),
        (["a|b", "1|2"], "|"),
        (["name", "a;b"], ","),
        (["name,street,lat", "a,b,1", "c,2", "x,y,2"], ","),
    ],
)
def test_the_delimiter_follows_from_the_header_and_the_rows(lines: list[str], delimiter: str) -> None:
    assert recognise_delimiter(lines) == delimiter


def test_the_line_of_excel_that_names_the_delimiter_is_no_header(tmp_path: Path) -> None:
    table = opened(tmp_path / "t.csv", b"sep=;\r\nname;lat\r\na;1\r\n")
    assert cells(table) == [["name", "lat"], ["a", "1"]]
    assert next(table.batches()).positions(0).endswith("t.csv:3")


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    assert cells(opened(tmp_path / "t.csv", b"name,lat\ra,1\rb,2")) == [["name", "lat"], ["a", "1"], ["b", "2"]]


@pytest.mark.parametrize(
    ("rows", "decimal"),
    [
        ([["a", "24,9384", "60,16"], ["b", "24,9", "-0,5"]], ","),
        ([["24.93", "60,16"], ["24.94", "60,17"]], ","),
        ([["24,938", "60,169"], ["24,939", "60,170"]], ","),
        ([["1,234", "60.16"], ["5,678", "60.17"]], "."),  # thousands
        ([["24.93", "60.16"]], "."),
        ([["a, b", "1"], ["24,93", "2"]], "."),
        ([["", "1,5"], ["", ""]], ","),
        ([], "."),
    ],
)
def test_a_decimal_comma_is_told_from_thousands(rows: list[list[str]], decimal: str) -> None:
    assert recognise_decimal(rows) == decimal


def test_the_decimal_comma_is_noted(tmp_path: Path) -> None:
    table = opened(tmp_path / "t.csv", csv_text(sep=";", decimal=",").encode())
    assert (table.decimal, table.notes) == (",", ["delimiter semicolon", "decimal comma"])


def test_a_geonames_dump_is_recognised_by_its_shape(tmp_path: Path) -> None:
    table = opened(tmp_path / "FI.txt", geonames().encode())
    assert (table.format, len(table.columns)) == ("geonames", 19)
    row = next(table.batches()).table.to_pylist()[0]
    assert (row["geonameid"], row["name"], row["latitude"]) == ("658220", 'Hel"sinki 0', "60.10")
    assert (row["feature class"], row["modification date"]) == ("P", "2019-11-26")
    assert not is_geonames([line.replace("P\tPPL", "PPL\tP") for line in geonames().splitlines()])
    assert not is_geonames(["\t".join(table.columns), *geonames().splitlines()])


TITLES = ["Stores of May", "Stores of May;;;", "# exported by hand\n\n;;;\n"]


@pytest.mark.parametrize("title", TITLES)
def test_titles_above_the_header_are_left_out(tmp_path: Path, title: str) -> None:
    table = opened(tmp_path / "t.csv", f"{title}\nid;name;lat;lng\n1;a;60,1;24,9\n2;b, c;60,2;24,8\n".encode())
    line = title.count("\n") + 2
    assert table.notes[0] == f"the header is in line {line}"
    assert cells(table) == [["id", "name", "lat", "lng"], ["1", "a", "60,1", "24,9"], ["2", "b, c", "60,2", "24,8"]]
    assert [batch.positions(0) for batch in table.batches()] == [f"{tmp_path / 't.csv'}:{line + 1}"]


@pytest.mark.parametrize(
    "lines",
    [
        ["id,type,location", '1,eat;drink;pub,"24.9,60.1"', '2,eat;drink;pub,"24.9,60.1"'],
        ["query", "pub, mill lane, town", "cafe, mill lane, town", "bar"],
        ["name,,", "a,b,c", "a,b,c"],
        ["id,name", "1,a,b", "2,a,b"],
        ["title", "id,name,lat", "id,name,lat,lng", "1"],
    ],
)
def test_a_header_is_no_title(lines: list[str]) -> None:
    assert count_titles(lines) == (1 if lines[0] == "name,," else 0)


def test_rows_without_a_value_are_left_out(tmp_path: Path) -> None:
    table = opened(tmp_path / "t.csv", b"id,name,lat\n1,a,2\n,,\n , ,\n2,b,3\n,,\n")
    assert cells(table)[1:] == [["1", "a", "2"], ["2", "b", "3"]]
    assert [batch.positions(1) for batch in table.batches()] == [f"{tmp_path / 't.csv'}:5"]
