"""Labels from a table: columns, queries, invalid rows; and their checks against a POI table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.data.labels import Labels, id_text, read_label_table, resolve_labels
from m3gal_cli.errors import InputError

IDS = {"1": 0, "2": 1, "007": 2}


def table(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def resolved(path: Path) -> Labels:
    labels = read_label_table(path)
    resolve_labels(labels, IDS, "pois.csv")
    return labels


def test_rows_of_one_text_and_location_are_one_query(tmp_path: Path) -> None:
    text = "query,poi_id,lng,lat\ncafe,1,,\n cafe ,2,,\ncafe,2,24.9,60.1\nbar,007,,\n"
    labels = resolved(table(tmp_path, text))
    assert [(q.text, q.lng) for q in labels.queries] == [("cafe", None), ("cafe", 24.9), ("bar", None)]
    assert [(label.query, label.poi_id) for label in labels.labels] == [(0, "1"), (0, "2"), (1, "2"), (2, "007")]
    assert {label.score for label in labels.labels} == {1}


def test_rows_of_one_query_id_are_one_query(tmp_path: Path) -> None:
    labels = resolved(table(tmp_path, "query,poi_id,query_id\ncafe,1,a\nbar,1,b\ncafe,2,a\n"))
    assert [(q.text, q.query_id) for q in labels.queries] == [("cafe", "a"), ("bar", "b")]
    assert [label.query for label in labels.labels] == [0, 1, 0]
    with pytest.raises(InputError, match="query_id a has another text or location in an earlier row"):
        resolved(table(tmp_path, "query,poi_id,query_id\ncafe,1,a\nbar,1,a\n")).check_bad(skip=False)


@pytest.mark.parametrize(
    "text",
    [
        "q\tdoc_id\tScore\tlon\tLatitude\ncafe\t1\t2\t24.9\t60.1\n",
        "查询;POI ID;relevance;经度;纬度\ncafe;1;2;24,9;60,1\n",
        "text,target,label,long,lat,comment\ncafe,1,2,24.9,60.1,hm\n",
    ],
)
def test_other_column_names_and_delimiters_are_recognised(tmp_path: Path, text: str) -> None:
    labels = resolved(table(tmp_path, text))
    (query,), (label,) = labels.queries, labels.labels
    assert (query.text, query.lng, query.lat) == ("cafe", 24.9, 60.1)
    assert (label.poi_id, label.score) == ("1", 2)
    assert any("ignored columns: comment" in note for note in labels.notes) == ("comment" in text)


def test_parquet_ids_are_compared_as_text(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"query": ["a", "b"], "poi_id": [1.0, 2.0], "label": [True, False]}).to_parquet(path)
    labels = resolved(path)
    assert [(label.poi_id, label.score) for label in labels.labels] == [("1", 1), ("2", 0)]
    assert {id_text(value) for value in (7, 7.0, "7", " 7 ")} == {"7"}
    assert [id_text(value) for value in ("007", "7.0", None, float("nan"))] == ["007", "7.0", "", ""]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("query,address", "no column poi_id (the columns are: query, address)"),
        ("poi_id", "no column query"),
        ("q,text,poi_id", "the columns 'q' and 'text' can both be the query"),
        ("query,poi_id,lng", "the column lng is given without lat"),
    ],
)
def test_missing_and_ambiguous_columns_are_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_label_table(table(tmp_path, f"{header}\na{',1' * header.count(',')}\n"))
    assert words in str(caught.value)


def test_an_exact_column_name_takes_precedence(tmp_path: Path) -> None:
    labels = resolved(table(tmp_path, "text,query,poi,poi_id\nx,cafe,name,1\n"))
    assert (labels.queries[0].text, labels.labels[0].poi_id) == ("cafe", "1")


@pytest.mark.parametrize(
    ("row", "where", "words"),
    [
        (",1,1,,,", ":3: query", "expected a query, got nothing"),
        ("bar,,1,,,", ":3: poi_id", "expected the id of a POI"),
        ("bar,1,-1,,,", ":3: label", "expected 0 (negative) or a positive number, got '-1'"),
        ("bar,1,,,,", ":3: label", "got nothing"),
        ("bar,1,nan,,,", ":3: label", "got 'nan'"),
        ("bar,1,1,24,,", ":3: lng, lat", "lng is given without lat"),
        ("bar,1,1,60,124,", ":3: lng, lat", "lng and lat look swapped"),
        ("bar,1,1,,,held", ":3: split", "expected train, val or test, got 'held'"),
        ("bar,7,1,,,", ":3", "pois.csv has no POI with the id '7'"),
        ("cafe,1,0,,,", ":3", "the label 0 contradicts 1 in"),
        ("Café!,1,1,,,train", ":3", "the query is in the split train here and in test"),
    ],
)
def test_an_invalid_row_is_an_error_or_left_out(tmp_path: Path, row: str, where: str, words: str) -> None:
    path = table(tmp_path, f"query,poi_id,label,lng,lat,split\n{'café' if 'é' in row else 'cafe'},1,1,,,test\n{row}\n")
    labels = resolved(path)
    with pytest.raises(InputError) as caught:
        labels.check_bad(skip=False)
    assert str(caught.value).startswith(f"{path}{where}: ")
    assert words in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    labels.check_bad(skip=True)
    assert [label.where for label in labels.labels] == [f"{path}:2"]
    assert len(labels.bad) == 1


def test_the_first_20_unknown_ids_are_named_with_their_lines(tmp_path: Path) -> None:
    path = table(tmp_path, "query,poi_id\n" + "".join(f"cafe {i},x{i}\n" for i in range(30)))
    with pytest.raises(InputError) as caught:
        resolved(path).check_bad(skip=False)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 30 rows are invalid"
    assert [line.partition(": ")[0] for line in lines[1:21]] == [f"{path}:{i}" for i in range(2, 22)]
    assert lines[20].endswith("'x19'")
    assert lines[21] == "and 10 more"


def test_repeated_labels_count_once(tmp_path: Path) -> None:
    labels = resolved(table(tmp_path, "query,poi_id\ncafe,1\ncafe,1\ncafe,1\n"))
    assert len(labels.labels) == 1
    assert labels.notes == ["labels.csv: 2 labels are repeated, and count once"]


@pytest.mark.parametrize(
    "header", ["search text;store_id;label", "关键词;门店ID;label", "user_query;clicked_poi;label"]
)
def test_names_of_other_logs_and_words_for_labels_are_read(tmp_path: Path, header: str) -> None:
    labels = resolved(table(tmp_path, f"{header}\ncafe;1;TRUE\nbar;1;no\n"))
    assert [(label.poi_id, label.score) for label in labels.labels] == [("1", 1), ("1", 0)]
