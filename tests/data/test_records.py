"""Candidate records: the position and message of errors, the file format, conversion."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.data import records as module
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import METRES_PER_DEGREE
from tests.helpers.datums import from_wgs84


def a_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "query_id": "q1",
        "query": "湖边路图书馆",
        "query_gis": [[], [], [], [], [], "湖边路图书馆", "120.1,30.2"],
        "positive_passages": [{"docid": "7", "text": "市图书馆,湖边路3号", "gis": [[], "120.11,30.21"]}],
        "negative_passages": [{"docid": "8", "text": "市图书馆,城北路9号", "gis": ["120.2,30.3"]}],
    }
    return row | changes


def some_records() -> list[Record]:
    library, mill = Passage("市图书馆,湖边路3号", 120.11, 30.21, "7"), Passage("水磨坊", 120.2, 30.3)
    return [
        Record("湖边路图书馆", [library], [mill, Passage("东门", 120.25, 30.35, "9")], "q1", 120.1, 30.2),
        Record("磨坊", [mill, Passage("东门", 120.25, 30.35, "9")], [library], None, None, None, {"source": [1]}),
        Record("alone", [mill], []),
    ]


def awkward_records() -> list[Record]:
    """Records that would differ if equal passages shared one cached text."""
    zero, minus = Passage("零", 0.0, 10.0, "0"), Passage("零", -0.0, 10.0, "0")
    whole, tenth = Passage("整", 1, 2), Passage("整", 1.0, 2.00000004)
    quoted = Passage('a "b" \\ \n\t\x01 \u2028 </x> 😀 {"gis": []}', 120.123456789, -89.99999999, 'd"\n')
    return [
        Record("q", [zero], [minus, zero, minus, whole, tenth, quoted]),
        Record('"\n', [quoted, whole], [], "", -0.0, 1e-9, {}),
        Record("lng only", [zero], [quoted], "id", 1.0, None, {"a": None}),
        Record("more", [tenth], [minus], None, 5e-324, 2.5, {"é": [1.5, {"b": True}], "n": float("nan"), "": {}}),
    ]


def lines(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_records(path)
    return caught.value


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_records_are_read_as_they_were_written(tmp_path: Path, name: str) -> None:
    write_records(some_records(), tmp_path / name)
    assert read_records(tmp_path / name) == some_records()
    assert os.listdir(tmp_path) == [name]


def file_form(record: Record) -> dict[str, Any]:
    """The published keys and their order, written out."""

    def place(lng: float | None, lat: float | None) -> str:
        return "" if lng is None or lat is None else f"{round(lng, 7)!r},{round(lat, 7)!r}"

    def items(passages: list[Passage]) -> list[dict[str, Any]]:
        return [
            ({} if p.docid is None else {"docid": p.docid})
            | {"text": p.text, "gis": [[], [], [], [], [], p.text, place(p.lng, p.lat)]}
            for p in passages
        ]

    row: dict[str, Any] = {} if record.query_id is None else {"query_id": record.query_id}
    row |= {"query": record.query, "query_gis": [[], [], [], [], [], record.query, place(record.lng, record.lat)]}
    row |= {"positive_passages": items(record.positives), "negative_passages": items(record.negatives)}
    return row | record.extra


def dumped(records: list[Record]) -> bytes:
    return "".join(json.dumps(file_form(r), ensure_ascii=False) + "\n" for r in records).encode()


def test_lines_are_byte_for_byte_the_json_of_the_file_form(tmp_path: Path) -> None:
    records = some_records() + awkward_records() + some_records()
    write_records(records, tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == dumped(records)


@pytest.mark.parametrize("cache_size", [1, 2, 7])
def test_a_full_cache_of_passages_changes_nothing(cache_size: int) -> None:
    """Passages that are garbage give their ids to later ones."""

    def stream() -> Iterator[Record]:
        for i in range(300):
            yield Record(f"q{i}", [Passage(f"p{i}", i / 7, i / 11)], [Passage(f"n{i * j}", 1.0, j) for j in range(3)])

    encoder = module.RecordEncoder(cache_size)
    assert "".join(encoder.encode(record) + "\n" for record in stream()).encode() == dumped(list(stream()))


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    (record,) = read_records(lines(tmp_path, a_row(extra_key=3)))
    assert (record.query, record.query_id, record.lng, record.lat) == ("湖边路图书馆", "q1", 120.1, 30.2)
    assert record.positives == [Passage("市图书馆,湖边路3号", 120.11, 30.21, "7")]
    assert record.passages == record.positives + record.negatives
    assert record.gold == {("市图书馆,湖边路3号", 120.11, 30.21)}
    assert record.extra == {"extra_key": 3}
    assert [p.text for p in module.distinct_passages(some_records())] == ["市图书馆,湖边路3号", "水磨坊", "东门"]


@pytest.mark.parametrize("gis", [None, [], ["", None], [[], ""]])
def test_a_record_may_have_no_query_location_and_no_negatives(tmp_path: Path, gis: Any) -> None:
    row = a_row(query_gis=gis)
    del row["negative_passages"]
    (record,) = read_records(lines(tmp_path, row))
    assert (record.lng, record.lat, record.negatives) == (None, None, [])


def passage(**changes: Any) -> list[Any]:
    return [{"text": "东门", "gis": ["120,30"]}, {"text": "北门", "gis": ["120,30"]} | changes]


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"query": "  "}, "query", "expected a query, got '  '"),
        ({"positive_passages": []}, "positive_passages", "no positive passage"),
        ({"negative_passages": ["东门"]}, "negative_passages[0]", "expected a passage with a text"),
        *(
            ({"negative_passages": passage(gis=gis)}, "negative_passages[1].gis", 'expected gis[-1]="lng,lat", got')
            for gis in (None, [], [[120, 30]])
        ),
        ({"positive_passages": passage(gis=["120 30"])}, "positive_passages[1].gis", 'expected "lng,lat", got'),
        ({"positive_passages": passage(gis=["30,120"])}, "positive_passages[1].gis", "lng and lat look swapped"),
        ({"query_gis": ["somewhere"]}, "query_gis", 'expected "lng,lat", got'),
    ],
)
def test_invalid_records_are_reported_by_line(tmp_path: Path, changes: dict[str, Any], where: str, words: str) -> None:
    path = lines(tmp_path, a_row(), "", "  ", a_row(**changes))
    error = refused(path)
    assert error.where == f"{path}:4: {where}"
    assert words in error.what


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_readers_convert_the_datum(tmp_path: Path, datum: Any) -> None:
    def moved(lng: float, lat: float) -> tuple[float, ...]:
        return tuple(map(float, from_wgs84(lng, lat, datum)))

    passages = [Passage("市图书馆", 120.11, 30.21, "7"), Passage("东门", 120.2, 30.3)]
    shifted = [Passage(p.text, *moved(p.lng, p.lat), p.docid) for p in passages]
    records = [Record("a", shifted[:1], shifted[1:], "q", *moved(120.1, 30.2)), Record("b", shifted[1:], [])]
    write_records(records, tmp_path / "r.jsonl")
    first, second = read_records(tmp_path / "r.jsonl", datum)
    assert [(p.text, p.docid) for p in first.passages] == [(p.text, p.docid) for p in passages]
    coordinates = [(p.lng, p.lat) for p in first.passages] + [(first.lng, first.lat)]
    np.testing.assert_allclose(np.array(coordinates, float), [(120.11, 30.21), (120.2, 30.3), (120.1, 30.2)], atol=2e-7)
    assert (second.lng, second.lat) == (None, None)
    assert type(first.passages[0].lng) is float


def test_the_query_distance_is_that_of_the_nearest_positive() -> None:
    positives = [Passage("a", 0.0, 1.0), Passage("b", 0.0, 0.5)]
    records = [Record("q", positives, [], None, 0.0, 0.0), Record("q", positives, [])]
    metres = module.query_distances_m(records)
    assert metres[0] == pytest.approx(0.5 * METRES_PER_DEGREE)
    assert np.isnan(metres[1])
