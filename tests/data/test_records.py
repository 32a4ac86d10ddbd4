"""Candidate records: what is refused and where, what comes back, which places are the same."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.data import records as records_module
from m3gal_cli.data.records import (
    Passage,
    Record,
    passages_frame,
    poi_key,
    read_records,
    record_to_json,
    write_records,
)
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import gcj02_to_bd09, parse_lnglat, wgs84_to_gcj02


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
        Record(
            "磨坊 or 东门", [mill, Passage("东门", 120.25, 30.35, "9")], [library], None, None, None, {"source": [1]}
        ),
        Record("alone", [mill], []),
    ]


def awkward_records() -> list[Record]:
    """What could come out otherwise if a line is put together from kept pieces."""
    zero, minus = Passage("零", 0.0, 10.0, "0"), Passage("零", -0.0, 10.0, "0")
    whole, tenth = Passage("整", 1, 2), Passage("整", 1.0, 2.00000004)
    quoted = Passage('a "b" \\ \n\t\x01 \u2028 </x> 😀 {"gis": []}', 120.123456789, -89.99999999, 'd"\n')
    return [
        Record("q", [zero], [minus, zero, minus, whole, tenth, quoted]),
        Record('"\n', [quoted, whole], [], "", -0.0, 1e-9, {}),
        Record("own keys", [zero], [quoted], "id", 1.0, None, {"query": "other", "a": None, "negative_passages": 3}),
        Record("an id aside", [zero], [quoted], None, None, None, {"query_id": 7}),
        Record("more", [tenth], [minus], None, 5e-324, 2.5, {"é": [1.5, {"b": True}], "n": float("nan"), "": {}}),
    ]


def lines(tmp_path: Path, *rows: Any, name: str = "records.jsonl") -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def refused(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        read_records(path)
    return caught.value


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_records_come_back_equal(tmp_path: Path, name: str) -> None:
    write_records(some_records(), tmp_path / name)
    assert read_records(tmp_path / name) == some_records()
    assert os.listdir(tmp_path) == [name]


def dumped(records: list[Record]) -> bytes:
    return "".join(json.dumps(record_to_json(r), ensure_ascii=False) + "\n" for r in records).encode()


def test_lines_are_byte_for_byte_the_json_of_the_file_form(tmp_path: Path) -> None:
    records = some_records() + awkward_records() + some_records()
    write_records(records, tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == dumped(records)


@pytest.mark.parametrize("kept", [1, 2, 7])
def test_a_stream_of_passages_that_do_not_last_is_written_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """Passages that die give their ids to later ones, and the writer forgets what it has kept."""
    monkeypatch.setattr("m3gal_cli.data.records._Lines._KEPT", kept)

    def stream() -> Iterator[Record]:
        for i in range(300):
            yield Record(f"q{i}", [Passage(f"p{i}", i / 7, i / 11)], [Passage(f"n{i * j}", 1.0, j) for j in range(3)])

    write_records(stream(), tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == dumped(list(stream()))


def test_a_shared_passage_is_written_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    once = records_module._Lines._passage
    monkeypatch.setattr(records_module._Lines, "_passage", lambda s, p: made.append(p.text) or once(s, p))
    shared_ones = [Passage(f"p{i}", 1.0, i) for i in range(6)]
    write_records([Record("q", shared_ones[:1], shared_ones[1:])] * 20, tmp_path / "r.jsonl")
    assert made == [p.text for p in shared_ones]


def test_degrees_are_written_as_repr_of_round_writes_them() -> None:
    rng = np.random.default_rng(2)
    values = [*rng.uniform(-180, 180, 20_000), *(10.0 ** rng.uniform(-12, 4, 20_000) * rng.choice([-1, 1], 20_000))]
    values += [round(v, n) for n in range(8) for v in values[:2_000]]
    values += [0.0, -0.0, 180.0, -180.0, 1e-4, 0.00009999999, 0.00009999995, 99.99999995, 1e16, float("inf")]
    plain = [float(v) for v in values]
    for value in [*plain, *(np.nextafter(v, 0.0).item() for v in plain), 7, np.float64(1.5), True]:
        assert records_module._degrees(value) == repr(round(value, 7)), value


def test_real_records_are_written_byte_for_byte(tmp_path: Path, shared: Path) -> None:
    records = read_records(shared / "data" / "geotes" / "train_dataset.jsonl")
    write_records(records, tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == dumped(records)


def test_the_file_form_is_the_published_one() -> None:
    row = record_to_json(some_records()[0])
    assert list(row) == ["query_id", "query", "query_gis", "positive_passages", "negative_passages"]
    assert row["query_gis"][-1] == "120.1,30.2"
    assert row["positive_passages"][0]["docid"] == "7"
    assert row["positive_passages"][0]["gis"][-1] == "120.11,30.21"
    assert "docid" not in row["negative_passages"][0]


def test_what_the_file_form_says(tmp_path: Path) -> None:
    (record,) = read_records(lines(tmp_path, a_row(extra_key=3)))
    assert (record.query, record.query_id, record.lng, record.lat) == ("湖边路图书馆", "q1", 120.1, 30.2)
    assert record.positives == [Passage("市图书馆,湖边路3号", 120.11, 30.21, "7")]
    assert record.passages == record.positives + record.negatives
    assert record.gold == {("市图书馆,湖边路3号", 120.11, 30.21)}
    assert record.extra == {"extra_key": 3}


@pytest.mark.parametrize("gis", [None, [], ["", None], [[], []], [[], ""]])
def test_a_query_without_a_place(tmp_path: Path, gis: Any) -> None:
    (record,) = read_records(lines(tmp_path, a_row(query_gis=gis)))
    assert (record.lng, record.lat) == (None, None)


def passage(**changes: Any) -> list[Any]:
    return [{"text": "东门", "gis": ["120,30"]}, {"text": "北门", "gis": ["120,30"]} | changes]


@pytest.mark.parametrize(
    ("changes", "where", "words"),
    [
        ({"query": None}, "query", "expected a query, got None"),
        ({"query": "  "}, "query", "expected a query"),
        ({"positive_passages": []}, "positive_passages", "no positive passage"),
        ({"positive_passages": "东门"}, "positive_passages", "expected a list, got str"),
        ({"negative_passages": {}}, "negative_passages", "expected a list, got dict"),
        ({"negative_passages": ["东门"]}, "negative_passages[0]", "expected a passage with a text"),
        ({"negative_passages": passage(text="")}, "negative_passages[1]", "expected a passage with a text"),
        ({"negative_passages": passage(text=None)}, "negative_passages[1]", "expected a passage with a text"),
        ({"negative_passages": passage(gis=None)}, "negative_passages[1].gis", 'expected gis[-1]="lng,lat", got'),
        ({"negative_passages": passage(gis=[])}, "negative_passages[1].gis", 'expected gis[-1]="lng,lat", got'),
        (
            {"negative_passages": passage(gis=[[120, 30]])},
            "negative_passages[1].gis",
            'expected gis[-1]="lng,lat", got',
        ),
        ({"positive_passages": passage(gis=["120 30"])}, "positive_passages[1].gis", 'expected "lng,lat", got'),
        ({"positive_passages": passage(gis=["1,2,3"])}, "positive_passages[1].gis", 'expected "lng,lat", got'),
        ({"positive_passages": passage(gis=["nan,30"])}, "positive_passages[1].gis", "is no place in degrees"),
        ({"positive_passages": passage(gis=["30,120"])}, "positive_passages[1].gis", "lng and lat look swapped"),
        ({"positive_passages": passage(gis=["190,95"])}, "positive_passages[1].gis", "is no place in degrees"),
        ({"query_gis": ["somewhere"]}, "query_gis", 'expected "lng,lat", got'),
        ({"query_gis": "120,30"}, "query_gis", 'expected query_gis[-1]="lng,lat", got'),
        ({"query_gis": [120.1]}, "query_gis", 'expected query_gis[-1]="lng,lat", got'),
    ],
)
@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz"])
def test_a_bad_record_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], where: str, words: str, name: str
) -> None:
    path = lines(tmp_path, a_row(), "", "  ", a_row(**changes), name=name)
    error = refused(path)
    assert error.where == f"{path}:4: {where}"
    assert words in error.what


def test_lists_of_passages_may_be_absent_but_not_the_positive(tmp_path: Path) -> None:
    row = a_row()
    del row["negative_passages"]
    assert read_records(lines(tmp_path, row))[0].negatives == []
    del row["positive_passages"]
    assert "no positive passage" in refused(lines(tmp_path, row)).what


def test_broken_lines_and_files(tmp_path: Path) -> None:
    path = lines(tmp_path, a_row(), "{'query':", a_row())
    assert refused(path).where == f"{path}:2"
    path = lines(tmp_path, a_row(), "", [a_row()])
    assert refused(path).where == f"{path}:3"
    assert "got list" in refused(path).what
    assert "no such candidate records" in refused(tmp_path / "none.jsonl").what
    (tmp_path / "empty.jsonl").touch()
    assert "is empty" in refused(tmp_path / "empty.jsonl").what
    packed = lines(tmp_path, *[a_row(query=f"query {i}") for i in range(50)], name="cut.jsonl.gz")
    packed.write_bytes(packed.read_bytes()[:-30])
    assert "cannot read" in refused(packed).what


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_the_datum_is_converted_at_the_door(tmp_path: Path, datum: Any) -> None:
    def there(lng: float | None, lat: float | None) -> tuple[Any, Any]:
        if lng is None:
            return None, None
        x, y = wgs84_to_gcj02(lng, lat or 0.0)
        x, y = gcj02_to_bd09(x, y) if datum == "bd09" else (x, y)
        return float(x), float(y)

    def moved(p: Passage) -> Passage:
        return Passage(p.text, *there(p.lng, p.lat), p.docid)

    records = some_records()
    shifted = [
        Record(
            r.query, [moved(p) for p in r.positives], [moved(p) for p in r.negatives], r.query_id, *there(r.lng, r.lat)
        )
        for r in records
    ]
    write_records(shifted, tmp_path / "r.jsonl")
    for record, read in zip(records, read_records(tmp_path / "r.jsonl", datum), strict=True):
        assert [p.text for p in read.passages] == [p.text for p in record.passages]
        assert [p.docid for p in read.passages] == [p.docid for p in record.passages]
        places = [(p.lng, p.lat) for p in read.passages]
        np.testing.assert_allclose(places, [(p.lng, p.lat) for p in record.passages], atol=2e-7)
        if record.lng is None:
            assert read.lng is None
        else:
            np.testing.assert_allclose([read.lng, read.lat], [record.lng, record.lat], atol=2e-7)  # type: ignore[list-item]
        assert type(read.passages[0].lng) is float


def test_one_place_is_one_text_and_one_point_to_a_decimetre() -> None:
    assert poi_key(" 东门 ", 120.12345601, 30.0) == poi_key("东门", 120.123456, 30.0)
    assert poi_key("东门", 120.123457, 30.0) != poi_key("东门", 120.123456, 30.0)
    assert poi_key("东门", 120.123456, 30.0) != poi_key("北门", 120.123456, 30.0)


def test_the_distinct_passages_in_order_of_first_appearance() -> None:
    frame = passages_frame(some_records())
    assert frame["address"].tolist() == ["市图书馆,湖边路3号", "水磨坊", "东门"]
    assert frame.columns.tolist() == ["address", "lng", "lat"]


def test_a_pth_that_is_not_there_gives_way_to_its_jsonl_twin(tmp_path: Path) -> None:
    write_records(some_records(), tmp_path / "x.jsonl")
    assert read_records(tmp_path / "x.pth") == some_records()


def test_parse_lnglat() -> None:
    assert parse_lnglat(" 24.9384 , 60.1699 ", "here") == (24.9384, 60.1699)
    x, y = wgs84_to_gcj02(120.1, 30.2)
    np.testing.assert_allclose(parse_lnglat(f"{float(x)!r},{float(y)!r}", "here", "gcj02"), (120.1, 30.2), atol=1e-9)


def test_the_writer_fails_whole(tmp_path: Path) -> None:
    write_records(some_records(), tmp_path / "r.jsonl")
    before = (tmp_path / "r.jsonl").read_bytes()

    def midway() -> Any:
        yield some_records()[0]
        raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        write_records(midway(), tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == before
    assert os.listdir(tmp_path) == ["r.jsonl"]
