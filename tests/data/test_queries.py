"""Queries of every format: their fields, the position and message of errors, and batches of a live stream."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.data.lines import MAX_LINE_BYTES, Lines, open_lines
from m3gal_cli.data.queries import BadQuery, Query, QueryStream, format_of
from m3gal_cli.errors import InputError


def lines_of(text: str | bytes, chunk: int = 7, live: bool = True, max_bytes: int | None = MAX_LINE_BYTES) -> Lines:
    """Lines of a text that arrives in chunks of so many bytes."""
    file = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return Lines(lambda: file.read(chunk), "q", live, max_bytes)


def queries_of(text: str | bytes, form: Any, skip_bad: bool = False, chunk: int = 7) -> list[Any]:
    return list(QueryStream(lines_of(text, chunk), form, skip_bad))


def error_of(text: str | bytes, form: Any, skip_bad: bool = False, chunk: int = 7) -> InputError:
    with pytest.raises(InputError) as caught:
        queries_of(text, form, skip_bad, chunk)
    return caught.value


def feature(query: Any, coordinates: Any = None, **properties: Any) -> dict[str, Any]:
    geometry = None if coordinates is None else {"type": "Point", "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"query": query} | properties}


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1, ensure_ascii=False)


QUERIES = [
    Query(1, "north gate"),
    Query("b", "莫干山路, 3", 120.5, 30.25),
    Query(3, 'the "Castle"', -180.0, 90.0),
    Query("0", "x"),
]
JSONL = (
    '\nnorth gate\r\n{"query": "莫干山路, 3", "id": "b", "lng": 120.5, "lat": 30.25}\n \t\r\n'
    '{"query": "the \\"Castle\\"", "lng": -180, "lat": "90"}\n{"query": "x", "id": "0"}'
)
CSV = 'id,query,lat,more,lng\n,north gate,,,\nb,"莫干山路, 3",30.25,m,120.5\n\n,"the ""Castle""",90,,-180\r\n0,x\n'
FEATURES = [
    feature("north gate"),
    feature("莫干山路, 3", [120.5, 30.25], id="b"),
    feature('the "Castle"', [-180, 90, 12.5]),
    feature("x", id="ignored") | {"id": "0"},
]
FORMS: dict[str, tuple[Any, str]] = {
    "lines, some blank": ("jsonl", JSONL),
    "csv": ("csv", CSV),
    "collection": ("geojson", collection(*FEATURES)),
    "features": ("geojson", "\n".join(json.dumps(f) for f in FEATURES)),
    "sequence": ("geojson", "".join(f"\x1e{json.dumps(f)}\n\n" for f in FEATURES)),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
@pytest.mark.parametrize("form", list(FORMS))
def test_every_format_gives_the_same_queries(form: str, chunk: int, mark: bytes) -> None:
    name, text = FORMS[form]
    assert queries_of(mark + text.encode(), name, chunk=chunk) == QUERIES
    assert queries_of('query\n"a\n\nb"\nc\n', "csv", chunk=chunk) == [Query(1, "a\n\nb"), Query(2, "c")]


def test_the_suffix_gives_the_format() -> None:
    names = ("a.txt", "a", "a.jsonl.gz", "a.CSV", "a.csv.gz", "a.geojson", "a.geojsonl.gz")
    assert [format_of(Path(name)) for name in names] == ["jsonl"] * 3 + ["csv"] * 2 + ["geojson"] * 2


def test_further_columns_are_kept_with_the_query() -> None:
    table = "query,order_no,id,note,\na,A17,x,,\nb,A18,,late,\n"
    csv_queries, json_text = queries_of(table, "csv"), '{"query": "a", "order_no": 17, "tags": ["x"]}\nb\n'
    assert [q.extra for q in csv_queries] == [{"order_no": "A17", "note": ""}, {"order_no": "A18", "note": "late"}]
    assert [q.id for q in csv_queries] == ["x", 2]
    assert [q.extra for q in queries_of(json_text, "jsonl")] == [{"order_no": 17, "tags": ["x"]}, {}]
    own = feature("a", [24.9, 60.1]) | {"id": 4}
    own["properties"] |= {"order_no": "A17", "lat": "unused"}
    (query,) = queries_of(json.dumps(own), "geojson")
    assert query.extra == {"order_no": "A17"}
    assert (query.id, query.lng, query.lat) == (4, 24.9, 60.1)


def test_the_query_column_may_have_another_usual_name() -> None:
    assert queries_of("id,search_term\nx,a\n", "csv") == [Query("x", "a")]
    (query,) = queries_of('{"query": "a", "text": "b"}', "jsonl")
    assert (query.text, query.extra) == ("a", {"text": "b"})


@pytest.mark.parametrize("names", ["lon,lat", "Longitude,Latitude", "long,LAT", "lng,lat"])
def test_other_names_of_the_coordinates_are_known(names: str) -> None:
    (query,) = queries_of(f"Query,{names}\na,24.9,60.1\n", "csv")
    assert (query.lng, query.lat, query.extra) == (24.9, 60.1, {})
    lng, lat = names.split(",")
    (query,) = queries_of(json.dumps({"query": "a", lng: 24.9, lat: 60.1}), "jsonl")
    assert (query.lng, query.lat, query.extra) == (24.9, 60.1, {})


@pytest.mark.parametrize("delimiter", list(",;\t|"))
def test_the_delimiter_is_recognised_from_the_header(delimiter: str) -> None:
    rows = [
        ["order_no", '"query"', "lng", "lat"],
        ["A17", f'"a {delimiter} b"', "24.9" if delimiter == "," else "24,9", "60"],
    ]
    (query,) = queries_of("\n".join(map(delimiter.join, rows)), "csv")
    assert (query.text, query.lng, query.extra) == (f"a {delimiter} b", 24.9, {"order_no": "A17"})


def test_a_column_with_the_plain_name_comes_before_other_names() -> None:
    (query,) = queries_of("query,lon,lng,lat\na,1,24.9,60.1\n", "csv")
    assert (query.lng, query.extra) == (24.9, {"lon": "1"})


INVALID: dict[str, tuple[Any, str, str, str]] = {  # format, text of the second query, where, what
    "no object": ("jsonl", '{"query": "a"', "q:2", "not JSON: Expecting ',' delimiter"),
    "no query": ("jsonl", '{"id": "z"}', "q:2: query", "expected a query, got None"),
    "empty": ("jsonl", '{"id": "z", "query": " "}', "q:2: query", "empty query"),
    "lng only": ("jsonl", '{"id": "z", "query": "a", "lng": 3}', "q:2: lng, lat", "lng 3 is given without lat"),
    "swapped": ("jsonl", '{"id": "z", "query": "a", "lng": 30, "lat": 120}', "q:2: lng, lat", "look swapped"),
    "surrogate": ("jsonl", '{"id": "z", "query": "\\ud83d"}', "q:2: query", "a lone surrogate in '\\ud83d'"),
    "csv north": ("csv", "a,1,north,z", "q:3: lng, lat", "got '1,north'"),
    "csv wide": ("csv", "a,1,2,3,4", "q:3", "the row has 5 cells, the header 4"),
    "csv quote": ("csv", '"a"b,1,2,3', "q:3", "no CSV row (',' expected after '\"')"),
    "feature": ("geojson", '{"type": "Point"}', "q:2", "expected a Feature, got {'type': 'Point'}"),
    "feature's query": ("geojson", json.dumps(feature(3, id="z")), "q:2: properties.query", "expected a query, got 3"),
    "feature's point": ("geojson", json.dumps(feature("a", 3)), "q:2: geometry", "expected a Point, got {'type': "),
}
FIRST = {"jsonl": "first", "csv": "query,lng,lat,id\nfirst", "geojson": json.dumps(feature("first"))}
LAST = {"jsonl": "last", "csv": "last", "geojson": json.dumps(feature("last"))}


@pytest.mark.parametrize("what", list(INVALID))
def test_an_invalid_query_is_reported_with_position_and_value(what: str) -> None:
    """The queries before it come first; with skip_bad a BadQuery takes its place."""
    form, text, where, words = INVALID[what]
    whole = "\n".join([FIRST[form], text, LAST[form]])
    batches = QueryStream(lines_of(whole, 1000), form).batches()
    assert next(batches) == [Query(1, "first")]
    with pytest.raises(InputError) as caught:
        next(batches)
    assert caught.value.where == where
    assert words in caught.value.what
    assert caught.value.hint
    first, bad, last = queries_of(whole, form, skip_bad=True)
    assert (first, last) == (Query(1, "first"), Query(3, "last"))
    line = 3 if form == "csv" else 2
    column = where.partition(f"q:{line}: ")[2]
    error = (f"{column}: " if column else "") + caught.value.what
    assert bad == BadQuery("z" if '"z"' in text or text.endswith(",z") else 2, line, error)


def test_an_invalid_feature_of_a_collection_is_reported_by_its_number() -> None:
    broken = {"type": "Feature", "geometry": {}, "properties": None}
    text = collection(feature("a"), feature("b", [200, 1], id=9), broken)
    assert error_of(text, "geojson").where == "q: feature 2: lng, lat"
    first, *bad = queries_of(text, "geojson", skip_bad=True)
    assert first == Query(1, "a")
    assert [(b.id, b.line) for b in bad] == [(9, 2), (3, 3)]
    assert bad[0].error.startswith("lng, lat: longitude 200 is not between")
    assert bad[1].error == "geometry: expected a Point, got {}"


FIRST_LINES = {  # no feature and no beginning of a collection, and the error
    b"hello": "not JSON: Expecting value: line 1 column 1 (char 0)",
    b'{"type": "Feature", "id": NaN}': "not JSON: NaN is no JSON number",
    b"\xff": "the line is not UTF-8",
}


@pytest.mark.parametrize("head", list(FIRST_LINES), ids=str)
@pytest.mark.parametrize("chunk", [1, 10_000])
def test_an_invalid_first_line_before_features_is_one_invalid_query(head: bytes, chunk: int) -> None:
    a, b = (json.dumps(feature(name)).encode() for name in "ab")
    text = b"\n".join([b"", head, b"", a, b'{"type": "Feature",', b])
    found = queries_of(text, "geojson", chunk=chunk, skip_bad=True)
    assert [found[1], found[3]] == [Query(2, "a"), Query(4, "b")]
    assert [(bad.id, bad.line) for bad in found if isinstance(bad, BadQuery)] == [(1, 2), (3, 5)]
    assert found[0].error.startswith(FIRST_LINES[head])
    assert error_of(text, "geojson", chunk=chunk).where == "q:2"


def test_an_invalid_first_line_does_not_make_the_reader_wait_for_the_end() -> None:
    arriving = iter([b"hello\n"])
    batches = QueryStream(Lines(lambda: next(arriving), "q", True), "geojson", skip_bad=True).batches()
    assert [type(item) for item in next(batches)] == [BadQuery]


def test_an_error_in_a_collection_names_the_line_of_the_file() -> None:
    text = "\n\n" + collection(*FEATURES).replace('"b"', '"b', 1)
    number = collection(*FEATURES).partition('"b"')[0].count("\n") + 3
    error = error_of(text, "geojson", True)
    assert f"not JSON: Invalid control character at: line {number} column" in error.what


@pytest.mark.parametrize(("form", "head"), [("jsonl", b""), ("csv", b"query\n"), ("geojson", b"\n")])
def test_reading_goes_on_after_a_line_that_is_too_long_or_not_utf8(form: Any, head: bytes) -> None:
    whole = json.dumps(feature("a")) if form == "geojson" else "a"
    line = head.count(b"\n") + 2
    text = head + f"{whole}\n".encode() + b"\xff\xfe\n" + f"{whole}\n".encode()
    first, bad, last = queries_of(text, form, skip_bad=True)
    assert (first, last) == (Query(1, "a"), Query(3, "a"))
    assert (bad.id, bad.line) == (2, line)
    assert "not UTF-8" in bad.error
    if form != "geojson":
        long = text.replace(b"\xff\xfe", b"x" * 3_000)
        first, bad, last = QueryStream(lines_of(long, 64, max_bytes=2_000), form, True)
        assert (first, last) == (Query(1, "a"), Query(3, "a"))
        assert bad == BadQuery(2, line, f"a line of more than 2,000 bytes, beginning {b'x' * 40!r}")


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("form", "text", "where", "words"),
    [
        ("jsonl", "\n \n", "q", "no queries"),
        ("csv", "query,id\n", "q", "no queries"),
        ("csv", "name,lng\na,1\n", "q:1", "no column query (the columns are: name, lng)"),
        ("geojson", collection(), "q", "no queries"),
        ("geojson", '{"type": "FeatureCollection",\n "features": [', "q", "not JSON: Expecting value: line 2"),
        ("geojson", '{"features": 3}', "q", "no FeatureCollection"),
        ("geojson", '{"features": [], "crs": {"properties": {"name": "EPSG:3067"}}}', "q: crs", "are in 'EPSG:3067'"),
    ],
)
def test_a_source_without_queries_is_an_error(form: Any, text: str, where: str, words: str, skip_bad: bool) -> None:
    error = error_of(text, form, skip_bad)
    assert error.where == where
    assert words in error.what


def test_the_crs_that_geopandas_writes_is_accepted(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / "q.geojson"
    points = geopandas.points_from_xy([24.9, 25.0], [60.1, 60.2])
    geopandas.GeoDataFrame({"query": ["a", "b"]}, geometry=points, crs=4326).to_file(path)
    with open_lines(path, "file", None) as lines:
        assert list(QueryStream(lines, "geojson")) == [Query(1, "a", 24.9, 60.1), Query(2, "b", 25.0, 60.2)]


def test_batches_grow() -> None:
    text = "".join(f"query {i}\n" for i in range(100))
    for lines in (lines_of(text, live=False), lines_of(text, chunk=10_000)):
        sizes = [len(batch) for batch in QueryStream(lines, "jsonl").batches(4, 16)]
        assert sizes == [4, 8, 16, 16, 16, 16, 16, 8]


@pytest.mark.parametrize("end", ["", "\n", " \r\n\n"])
@pytest.mark.parametrize("form", ["jsonl", "csv", "geojson"])
def test_a_batch_ends_where_the_next_query_has_not_arrived(form: Any, end: str) -> None:
    """Nobody waits for the next query before the last one is answered; blank lines behind it are not the next query."""
    line = {"geojson": json.dumps(feature("half a query"))}.get(form, "half a query")
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb", buffering=0) as typed:
        batches = QueryStream(Lines(lambda: file.read1(1 << 16), "q", True), form).batches()  # type: ignore[attr-defined]
        typed.write(b"query\n" if form == "csv" else b"")
        for count in (1, 3, 2):
            typed.write(f"{line}\n".encode() * count + end.encode() + line[:9].encode())
            assert len(next(batches)) == count
            typed.write(line[9:].encode() + b"\n" + end.encode())
            assert [item.text for item in next(batches)][-1:] == ["half a query"]  # type: ignore[union-attr]
        typed.close()
        assert list(batches) == []


def test_named_pipes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = threading.Thread(target=lambda: path.write_text("a\nb\n"))
    writing.start()
    with open_lines(path, "file") as lines:
        assert [q.text for q in QueryStream(lines, "jsonl")] == ["a", "b"]  # type: ignore[union-attr]
    writing.join()


def test_a_damaged_gzip_file_is_an_input_error(tmp_path: Path) -> None:
    path, data = tmp_path / "q.jsonl.gz", gzip.compress(b"".join(b"query %d\n" % i for i in range(500)))
    for damaged in (data[:-9], b"PK" + data, data[:30] + b"\xff" * 9):
        path.write_bytes(damaged)
        with open_lines(path, "file") as lines, pytest.raises(InputError, match=r"cannot read|not UTF-8"):
            list(QueryStream(lines, "jsonl"))
