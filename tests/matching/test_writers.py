"""Answers written by the writers and read again by independent readers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.matching.writers import answer_writer, match_columns, output_format


def match(rank: int, **more: Any) -> dict[str, Any]:
    known = {"poi_id": f"p{rank}", "address": f'"莫干山路", {rank}\n号', "lng": 120.1 + rank, "lat": 30.2}
    return {"rank": rank, **known, "score": 1 / rank, **more}


ANSWERS: list[Any] = [
    {"id": 1, "query": 'a "b", c', "matches": [match(1, distance_m=12.5), match(2, distance_m=99.0)]},
    {"id": {"x": [1]}, "query": "北门", "matches": [match(1)]},
    {"id": "none", "query": "far out", "matches": []},
]
COLUMNS = match_columns(named=False, further=[])
FAILURE: Any = {"id": 4, "line": 7, "error": "empty query"}


def pieces(form: Any, answers: list[Any], failures: bool) -> list[str]:
    """Return the text of each answer, and the end."""
    writer = answer_writer(form, COLUMNS, failures)
    return [*(writer.text([answer]) for answer in answers), writer.end()]


@pytest.mark.parametrize("form", ["jsonl", "csv", "geojson"])
def test_batches_do_not_change_the_text_and_end_with_whole_lines(form: Any) -> None:
    answers = [*ANSWERS, FAILURE]
    parts = pieces(form, answers, True)
    writer = answer_writer(form, COLUMNS, True)
    assert "".join(parts) == writer.text(answers) + writer.text([]) + writer.end()
    assert all(part.endswith("\n") for part in parts if part)
    assert "".join(pieces(form, [], False)) == ""


def test_json_lines() -> None:
    lines = "".join(pieces("jsonl", [*ANSWERS, FAILURE], True)).splitlines()
    assert [json.loads(line) for line in lines] == [*ANSWERS, FAILURE]
    assert "北门" in lines[1]


@pytest.mark.parametrize("failures", [False, True])
def test_csv(failures: bool) -> None:
    text = "".join(pieces("csv", [*ANSWERS, *([FAILURE] if failures else [])], failures))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["id", "query", *COLUMNS, *(["line", "error"] if failures else [])]
    expected: list[dict[str, Any]] = []
    for answer, query_id in zip(ANSWERS, ("1", '{"x": [1]}', "none"), strict=True):
        query = dict.fromkeys(rows[0], "") | {"id": query_id, "query": answer["query"]}
        expected += [query | {k: str(v) for k, v in m.items()} for m in answer["matches"] or [{}]]
    if failures:
        expected.append(dict.fromkeys(rows[0], "") | {"id": "4", "line": "7", "error": "empty query"})
    assert rows == expected


def test_geojson_is_valid_after_any_number_of_batches() -> None:
    parts = pieces("geojson", [*ANSWERS, FAILURE], True)
    for count in range(1, 5):
        found = json.loads("".join(parts[:count]) + parts[-1])
        assert found["type"] == "FeatureCollection"
    features = found["features"]
    expected = [(answer["id"], m) for answer in ANSWERS for m in answer["matches"] or [None]]
    for feature, (own, m) in zip(features[:-1], expected, strict=True):
        assert feature["properties"]["id"] == own
        assert feature["geometry"] == (m and {"type": "Point", "coordinates": [m["lng"], m["lat"]]})
        assert {k: v for k, v in (m or {}).items() if k not in ("lng", "lat")}.items() <= feature["properties"].items()
    assert features[-1] == {"type": "Feature", "geometry": None, "properties": FAILURE}


def csv_rows(columns: list[str], *batches: list[Any], warn: Any = None) -> list[dict[str, str]]:
    writer = answer_writer("csv", columns, True, warn)
    return list(csv.DictReader(io.StringIO("".join([*map(writer.text, batches), writer.end()]))))


def test_columns_of_queries_and_pois_are_columns_of_the_csv() -> None:
    columns = match_columns(named=True, further=["phone", "rank"])
    assert columns == ["rank", "poi_id", "name", "address", "lng", "lat", "score", "phone", "poi_rank", "distance_m"]
    found = match(1, name="A", phone="+358", poi_rank=7)
    answers = [{"id": 1, "query": "a", "order_no": "A17", "address": "typed", "matches": [found]}]
    answers.append({"id": 2, "query": "b", "order_no": "A18", "address": "typed, too", "matches": []})
    first, second = csv_rows(columns, answers)
    assert list(first)[:5] == ["id", "query", "order_no", "query_address", "rank"]
    assert (first["order_no"], first["query_address"], first["address"]) == ("A17", "typed", found["address"])
    assert (first["phone"], first["poi_rank"], first["name"]) == ("+358", "7", "A")
    assert (second["query_address"], second["address"], second["rank"]) == ("typed, too", "", "")


def test_the_csv_header_waits_for_the_first_answer_and_later_columns_are_named_once() -> None:
    writer, warnings = answer_writer("csv", COLUMNS, True), list[str]()
    assert writer.text([FAILURE]) == ""
    assert writer.text([ANSWERS[0] | {"order_no": 5}]).splitlines()[0] == "id,query,order_no," + ",".join(
        [*COLUMNS, "line", "error"]
    )
    rows = csv_rows(COLUMNS, [ANSWERS[1]], [ANSWERS[2] | {"late": 1}], [ANSWERS[2] | {"late": 2}], warn=warnings.append)
    assert len(rows) == 3
    assert warnings == ["query columns that the first queries lack are not in the output: late"]
    assert [row["error"] for row in csv_rows(COLUMNS, [FAILURE])] == ["empty query"]


def test_geopandas_reads_geojson(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / "answers.geojson"
    path.write_text("".join(pieces("geojson", [*ANSWERS[:1], ANSWERS[2]], False)), encoding="utf-8")
    frame = geopandas.read_file(path)
    assert frame.crs.to_epsg() == 4326
    assert [(p.x, p.y) if p is not None else None for p in frame.geometry] == [(121.1, 30.2), (122.1, 30.2), None]
    assert frame["query"].tolist() == ['a "b", c', 'a "b", c', "far out"]
    assert frame["address"][0] == ANSWERS[0]["matches"][0]["address"]
    assert frame["distance_m"].tolist()[:2] == [12.5, 99.0]


def test_the_suffix_decides_the_format() -> None:
    forms = {"a.jsonl": "jsonl", "a": "jsonl", "a.json": "jsonl", "a.CSV.gz": "csv", "a.geojson": "geojson"}
    assert {name: output_format(Path(name)) for name in forms} == forms
    for name in ("a.xlsx.gz", "a.geojsonl"):
        with pytest.raises(InputError, match="no output format has the suffix"):
            output_format(Path(name))
