"""Queries of every format: what they say, what is refused and where, and when one would have to wait."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.data.lines import LONGEST, Lines, open_lines
from m3gal_cli.data.queries import BadQuery, Query, QueryStream, format_of
from m3gal_cli.errors import InputError


def lines_of(text: str | bytes, at_once: int = 7, live: bool = True, longest: int | None = LONGEST) -> Lines:
    """Lines of a text that arrives so many bytes at a time."""
    file = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return Lines(lambda: file.read(at_once), "q", live, longest)


def queries_of(text: str | bytes, form: Any, skip_bad: bool = False, at_once: int = 7) -> list[Any]:
    return list(QueryStream(lines_of(text, at_once), form, skip_bad))


def feature(query: Any, place: Any = None, **more: Any) -> dict[str, Any]:
    geometry = None if place is None else {"type": "Point", "coordinates": place}
    return {"type": "Feature", "geometry": geometry, "properties": {"query": query} | more}


def collection(*features: Any) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features}, indent=1, ensure_ascii=False)


# --- what queries say ----------------------------------------------------------------------------------------------

ASKED = [
    Query(1, "north gate"),
    Query("b", "莫干山路, 3", 120.5, 30.25),
    Query(3, 'the "Castle"', -180.0, 90.0),
    Query("0", "x"),
]
JSONL = (
    'north gate\r\n{"query": "莫干山路, 3", "id": "b", "lng": 120.5, "lat": 30.25}\n'
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
    "lines": ("jsonl", JSONL),
    "csv": ("csv", CSV),
    "collection": ("geojson", collection(*FEATURES)),
    "a line of a collection": ("geojson", json.dumps({"features": FEATURES, "type": "FeatureCollection"})),
    "features": ("geojson", "\n".join(json.dumps(f) for f in FEATURES)),
    "sequence": ("geojson", "".join(f"\x1e{json.dumps(f)}\n\n" for f in FEATURES)),
}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
@pytest.mark.parametrize("at_once", [1, 7, 10_000])
@pytest.mark.parametrize("form", list(FORMS))
def test_queries(form: str, at_once: int, mark: bytes) -> None:
    name, text = FORMS[form]
    assert queries_of(mark + text.encode(), name, at_once=at_once) == ASKED


def test_line_breaks_in_a_cell() -> None:
    assert queries_of('query\n"a\nb"\nc\n', "csv") == [Query(1, "a\nb"), Query(2, "c")]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("a.txt", "jsonl"), ("a", "jsonl"), ("a.jsonl.gz", "jsonl"), ("a.CSV", "csv"), ("a.csv.gz", "csv")),
        *(("a.geojson", "geojson"), ("a.geojsonl.gz", "geojson")),
    ],
)
def test_formats_by_suffix(name: str, form: str) -> None:
    assert format_of(Path(name)) == form


# --- what is refused -----------------------------------------------------------------------------------------------

BROKEN: dict[str, tuple[Any, str, str, str]] = {  # format, text of the second query, where, what
    "blank": ("jsonl", "  ", "q:2", "empty query"),
    "no object": ("jsonl", '{"query": "a"', "q:2", "not JSON: Expecting ',' delimiter"),
    "no number": ("jsonl", '{"query": "a", "id": NaN}', "q:2", "not JSON: NaN is no JSON number"),
    "no query": ("jsonl", '{"id": "z"}', "q:2: query", "expected a query, got None"),
    "empty": ("jsonl", '{"id": "z", "query": " "}', "q:2: query", "empty query"),
    "a list": ("jsonl", '{"id": "z", "query": ["a"]}', "q:2: query", "expected a query, got ['a']"),
    "half": ("jsonl", '{"id": "z", "query": "a", "lng": 3}', "q:2: lng, lat", "got '3,None'"),
    "swapped": ("jsonl", '{"id": "z", "query": "a", "lng": 30, "lat": 120}', "q:2: lng, lat", "look swapped"),
    "words": ("jsonl", '{"id": "z", "query": "a", "lng": "east", "lat": 3}', "q:2: lng, lat", "got 'east,3'"),
    "half a character": ("jsonl", '{"id": "z", "query": "\\ud83d"}', "q:2: query", "half a character in '\\ud83d'"),
    "half an id": ("jsonl", '{"id": ["\\ud83d"], "query": "a"}', "q:2: id", "half a character in ['\\ud83d']"),
    "csv empty": ("csv", ",1,2,z", "q:3: query", "empty query"),
    "csv half": ("csv", "a,1,,z", "q:3: lng, lat", "got '1,None'"),
    "csv north": ("csv", "a,1,north,z", "q:3: lng, lat", "got '1,north'"),
    "csv wide": ("csv", "a,1,2,3,4", "q:3", "the row has 5 cells, the header 4"),
    "csv quote": ("csv", '"a"b,1,2,3', "q:3", "no CSV row (',' expected after '\"')"),
    "csv cell": ("csv", "a" * 140_000, "q:3", "no CSV row (field larger than field limit"),
    "feature": ("geojson", '{"type": "Point"}', "q:2", "expected a Feature, got {'type': 'Point'}"),
    "feature's query": ("geojson", json.dumps(feature(3, id="z")), "q:2: properties.query", "expected a query, got 3"),
    "feature's place": ("geojson", json.dumps(feature("a", [1, 91])), "q:2: lng, lat", "(1, 91) is no place"),
    "feature's point": ("geojson", json.dumps(feature("a", 3)), "q:2: geometry", "expected a Point, got {'type': "),
    "feature's json": ("geojson", '{"type": "Feature",', "q:2", "not JSON: "),
}
FIRST = {"jsonl": "first", "csv": "query,lng,lat,id\nfirst", "geojson": json.dumps(feature("first"))}
LAST = {"jsonl": "last", "csv": "last", "geojson": json.dumps(feature("last"))}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_broken_line(what: str) -> None:
    """Named with its place and value; those before it come first; or an error takes its place."""
    form, text, where, words = BROKEN[what]
    whole = "\n".join([FIRST[form], text, LAST[form]])
    stream = QueryStream(lines_of(whole, 1000), form)
    batches = stream.batches()
    assert next(batches) == [Query(1, "first")]
    with pytest.raises(InputError) as caught:
        next(batches)
    assert caught.value.where == where
    assert words in caught.value.what
    assert caught.value.hint
    first, bad, last = queries_of(whole, form, skip_bad=True)
    assert (first, last) == (Query(1, "first"), Query(3, "last"))
    line = 3 if form == "csv" else 2
    assert isinstance(bad, BadQuery)
    assert (bad.id, bad.line) == ("z" if '"z"' in text or text.endswith(",z") else 2, line)
    column = where.partition(f"q:{line}: ")[2]
    assert bad.error == (f"{column}: " if column else "") + caught.value.what


def test_a_broken_feature_of_a_collection() -> None:
    text = collection(
        feature("a"), feature("b", [200, 1], id=9), {"type": "Feature", "geometry": {}, "properties": None}
    )
    with pytest.raises(InputError) as caught:
        queries_of(text, "geojson")
    assert caught.value.where == "q: feature 2: lng, lat"
    found = queries_of(text, "geojson", skip_bad=True)
    assert found[0] == Query(1, "a")
    assert found[1] == BadQuery(9, 2, "lng, lat: (200, 1) is no place in degrees")
    assert found[2] == BadQuery(3, 3, "geometry: expected a Point, got {}")


FIRST_LINES = {  # what is no feature and no beginning of a collection, and what is told of it
    b"hello": "not JSON: Expecting value: line 1 column 1 (char 0)",
    b'{"type": "Feature", "properties": {"query": "ca': "not JSON: Unterminated string starting at",
    b'{"type": "Feature", "properties": ': "not JSON: Expecting value: line 1 column 34",
    b'{"type": "Point"}': "expected a Feature, got {'type': 'Point'}",
    b'{"type": "Feature", "id": NaN}': "not JSON: NaN is no JSON number",
    b"7": "expected a Feature, got 7",
    b"\xff": "no UTF-8 text",
}


@pytest.mark.parametrize("head", list(FIRST_LINES), ids=str)
@pytest.mark.parametrize("at_once", [1, 10_000])
def test_a_broken_first_feature(head: bytes, at_once: int) -> None:
    """Is one broken line, as any other is, where the next line is a feature."""
    a, b = (json.dumps(feature(name)).encode() for name in "ab")
    lines = [b"", head, b"", a, b'{"type": "Feature",', b]
    found = queries_of(b"\n".join(lines), "geojson", at_once=at_once, skip_bad=True)
    assert [found[1], found[3]] == [Query(2, "a"), Query(4, "b")]
    assert [(bad.id, bad.line) for bad in found if isinstance(bad, BadQuery)] == [(1, 2), (3, 5)]
    assert found[0].error.startswith(FIRST_LINES[head])
    with pytest.raises(InputError) as caught:
        queries_of(b"\n".join(lines), "geojson", at_once=at_once)
    assert caught.value.where == "q:2"


def test_a_broken_first_feature_is_answered_as_it_comes() -> None:
    """One whose JSON goes wrong within the line; of one that is cut short, the rest might be a collection."""
    arriving = iter([b"hello\n", json.dumps(feature("a")).encode() + b"\n"])
    stream = QueryStream(Lines(lambda: next(arriving), "q", True), "geojson", skip_bad=True)
    batches = stream.batches()
    assert [type(item) for item in next(batches)] == [BadQuery, Query]
    with pytest.raises(StopIteration):
        next(arriving)


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_broken_collection(skip_bad: bool) -> None:
    """Errors tell where in the file, blank lines before it included."""
    with pytest.raises(InputError) as caught:
        queries_of("\n\n" + collection(*FEATURES).replace('"b"', '"b', 1), "geojson", skip_bad)
    number = collection(*FEATURES).partition('"b"')[0].count("\n") + 3
    assert f"not JSON: Invalid control character at: line {number} column" in caught.value.what


@pytest.mark.parametrize(("form", "head"), [("jsonl", b""), ("csv", b"query\n"), ("geojson", b"\n")])
def test_lines_that_are_no_text_or_too_long(form: Any, head: bytes) -> None:
    whole = json.dumps(feature("a")) if form == "geojson" else "a"
    line, number = head.count(b"\n") + 2, 2
    text = head + f"{whole}\n".encode() + b"\xff\xfe\n" + f"{whole}\n".encode()
    found = queries_of(text, form, skip_bad=True)
    assert [found[0], found[2]] == [Query(1, "a"), Query(3, "a")]
    assert (found[1].id, found[1].line) == (number, line)
    assert "no UTF-8 text" in found[1].error
    if form != "geojson":
        long = text.replace(b"\xff\xfe", b"x" * 3_000)
        found = list(QueryStream(lines_of(long, 64, longest=2_000), form, True))
        assert [found[0], found[2]] == [Query(1, "a"), Query(3, "a")]
        assert found[1] == BadQuery(number, line, f"a line of more than 2,000 bytes, beginning {b'x' * 40!r}")


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("form", "text", "where", "words"),
    [
        ("jsonl", "", "q", "no queries"),
        ("csv", "", "q", "no queries"),
        ("csv", "query,id\n", "q", "no queries"),
        ("csv", "name,lng\na,1\n", "q:1", "no column query (there is: name, lng)"),
        ("csv", '"query"x\na\n', "q:1", "no CSV row"),
        ("geojson", "", "q", "no queries"),
        ("geojson", collection(), "q", "no queries"),
        ("geojson", '{"type": "FeatureCollection",\n "features": [', "q", "not JSON: Expecting value: line 2"),
        ("geojson", "[1, 2]", "q", "no FeatureCollection"),
        ("geojson", '{"features": [], "crs": {"properties": {"name": "EPSG:3067"}}}', "q: crs", "are in 'EPSG:3067'"),
    ],
)
def test_what_cannot_be_read_at_all(form: Any, text: str, where: str, words: str, skip_bad: bool) -> None:
    with pytest.raises(InputError) as caught:
        queries_of(text, form, skip_bad)
    assert caught.value.where == where
    assert words in caught.value.what


def test_the_crs_that_geopandas_writes(tmp_path: Path) -> None:
    geopandas = pytest.importorskip("geopandas")
    path = tmp_path / "q.geojson"
    places = geopandas.points_from_xy([24.9, 25.0], [60.1, 60.2])
    geopandas.GeoDataFrame({"query": ["a", "b"]}, geometry=places, crs=4326).to_file(path)
    with open_lines(path, "file", None) as lines:
        assert list(QueryStream(lines, "geojson")) == [Query(1, "a", 24.9, 60.1), Query(2, "b", 25.0, 60.2)]


# --- as they come --------------------------------------------------------------------------------------------------


def sizes(text: str, **given: Any) -> list[int]:
    return [len(batch) for batch in QueryStream(lines_of(text, **given), "jsonl").batches(4, 16)]


def test_batches_grow() -> None:
    text = "".join(f"query {i}\n" for i in range(100))
    assert sizes(text, live=False) == [4, 8, 16, 16, 16, 16, 16, 8]
    assert sizes(text, at_once=10_000) == [4, 8, 16, 16, 16, 16, 16, 8]


def test_what_has_arrived_is_answered() -> None:
    """Nobody waits for the next query before the last one is answered."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as file, os.fdopen(writer, "wb", buffering=0) as typed:
        batches = QueryStream(Lines(lambda: file.read1(1 << 16), "q", True), "jsonl").batches()  # type: ignore[attr-defined]
        for count in (1, 3, 2):
            typed.write(b"".join(b"typed %d\n" % i for i in range(count)) + b"half a li")
            assert [q.text.partition("li")[2] or q.text for q in next(batches)][-1] == f"typed {count - 1}"
            typed.write(b"ne\n")
            assert [q.text for q in next(batches)] == ["half a line"]
        typed.close()
        assert list(batches) == []


def test_a_named_pipe_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writing = threading.Thread(target=lambda: path.write_text("a\nb\n"))
    writing.start()
    with open_lines(path, "file") as lines:
        assert [q.text for q in QueryStream(lines, "jsonl")] == ["a", "b"]  # type: ignore[union-attr]
    writing.join()
    packed = tmp_path / "q.csv.gz"
    with gzip.open(packed, "wt", newline="") as file:
        csv.writer(file).writerows([["query"], ["a"], ["b, c"]])
    with open_lines(packed, "file") as lines:
        assert list(QueryStream(lines, "csv")) == [Query(1, "a"), Query(2, "b, c")]


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-9], lambda data: b"PK" + data, lambda data: data[:30] + b"\xff" * 9]
)
def test_a_damaged_gzip(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "q.jsonl.gz"
    path.write_bytes(spoil(gzip.compress(b"".join(b"query %d\n" % i for i in range(500)))))
    with open_lines(path, "file") as lines, pytest.raises(InputError, match=r"cannot read|no UTF-8"):
        list(QueryStream(lines, "jsonl"))


@pytest.mark.parametrize("state", ["missing", "empty", "folder"])
def test_a_file_that_is_none(tmp_path: Path, state: str) -> None:
    path = tmp_path / "q"
    if state == "empty":
        path.touch()
    elif state == "folder":
        path.mkdir()
    with pytest.raises(InputError) as caught, open_lines(path, "file of queries"):
        pass
    assert caught.value.where == str(path)
