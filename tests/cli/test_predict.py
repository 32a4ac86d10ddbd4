"""``m3gal predict``: index, geographic filters, file formats and broken lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from m3gal_cli import poi_source
from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.geo.datums import wgs84_to_gcj02
from m3gal_cli.geo.distances import haversine_m
from tests.helpers.cli import done, file_contents, m3gal
from tests.helpers.sample_town import PLACES, place, town_with_run, write_csv, write_lines

INDEX = "runs/only/index/poi_database_town"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return town_with_run(tmp_path_factory.mktemp("predict"))


def test_a_complete_index_needs_no_table(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = done(m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="cafe\n"))
    before = file_contents(tmp_path)
    monkeypatch.setattr(poi_source, "open_pois", lambda *_: pytest.fail("read"))
    again = done(m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="cafe\n"))
    assert again.out == first.out
    assert again.err == "checkpoint: runs/only/checkpoints/step-00000001 (the model of the index)\n"
    assert file_contents(tmp_path) == before
    assert m3gal("predict", "-", "--index-dir", tmp_path / "i", stdin="\n").code == 2


def test_the_index_is_in_the_run_or_for_a_published_file_in_the_working_folder(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(m3gal("predict", "-", stdin="cafe\n"))
    assert (here / INDEX / "manifest.json").is_file()
    path = tmp_path / "c.pth.tar"
    save_published(path, load_checkpoint(here / "runs/only/last"), {}, {})
    monkeypatch.chdir(tmp_path)
    encoder = here / "runs/only/last/query_encoder"
    given = ("--checkpoint", path, "-c", here / "data/tiny.yaml", "--text-encoder", encoder)
    done(m3gal("predict", "--build-only", *given))
    assert (tmp_path / "index/poi_database_town/manifest.json").is_file()
    other = m3gal("predict", "--build-only", *given, "--set", "model.max_length=9")
    assert "index index/poi_database_town was built with another model: building it again" in done(other).err
    prefix = m3gal("predict", "--build-only", *given, "--set", "model.max_length=9", "--set", "model.query_prefix=q: ")
    assert "building it again" not in done(prefix).err, "the query prefix does not change POI vectors"


def test_an_index_follows_its_table_with_a_message(here: Path, tmp_path: Path) -> None:
    table = tmp_path / "some.pois.csv"
    write_csv(table, ["address", "lng", "lat"], [list(place(i)) for i in range(8)])
    given = ("predict", "-", "-k", PLACES, "--pois", table)
    index = here / "runs/only/index/some.pois"
    assert len(done(m3gal(*given, stdin="cafe\n")).lines()[0]["matches"]) == 8
    write_csv(table, ["address", "lng", "lat"], [list(place(i)) for i in range(9)])
    found = done(m3gal(*given, stdin="cafe\n"))
    assert len(found.lines()[0]["matches"]) == 9
    message = f"index {index.relative_to(here)}: brought up to date with some.pois.csv: "
    assert f"{message}1 added; 1 text encoded\n" in found.err
    again = done(m3gal(*given, "--datum", "gcj02", stdin="cafe\n"))
    assert f"{message}no POI changed\n" in again.err, "the places lie outside China"
    assert "up to date" not in done(m3gal(*given, "--datum", "gcj02", stdin="cafe\n")).err
    table.unlink()
    without_table = done(m3gal(*given, stdin="cafe\n"))
    assert without_table.lines() == again.lines(), "a complete index suffices"
    message = f"index {index.relative_to(here)}: used without its POI table (some.pois.csv), which is missing"
    assert message in without_table.err
    (here / index).rename(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    moved = ("predict", "-", "-k", PLACES, "--data-dir", tmp_path / "empty", "--index-dir", tmp_path / "elsewhere")
    moved = (*moved, "--checkpoint", "runs/only")
    assert done(m3gal(*moved, stdin="cafe\n")).lines() == again.lines(), "no table is named at all"
    assert "some.pois.csv: no such table" in m3gal(*given, stdin="cafe\n").err


def test_a_folder_of_parts_is_one_table_whose_columns_can_be_added_to_the_matches(here: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    shops = pd.DataFrame([place(i) for i in range(8)], columns=["street", "lon", "latitude"])
    shops = shops.assign(
        name=[f"Shop {i}" for i in range(8)], shop_no=range(100, 108), phone=[f"+{i}" for i in range(8)]
    )
    for number, rows in enumerate((shops[:5], shops[5:])):
        rows.to_parquet(parts / f"{number}.parquet", index=False)
    (tmp_path / "q.csv").write_bytes("订单;查询\nA17;Shop 3 北门\n".encode("gb18030"))
    given = ("predict", tmp_path / "q.csv", "-k", 8, "--pois", parts)
    (answer,) = (found := done(m3gal(*given, "--with", "phone"))).lines()
    assert answer["订单"] == "A17"
    assert {m["poi_id"]: (m["name"], m["phone"]) for m in answer["matches"]} == {
        100 + i: (f"Shop {i}", f"+{i}") for i in range(8)
    }
    assert "parts: own table: id = shop_no, name = name, street = street, lng = lon, lat = latitude" in found.err
    assert "q.csv: read as GB18030" in found.err
    shops[5:].drop(index=6).to_parquet(parts / "1.parquet", index=False)
    assert "brought up to date with parts: 1 removed\n" in done(m3gal(*given)).err
    refused = m3gal(*given, "--with", "fax")
    assert (refused.code, "--with: the POI table has no column 'fax'" in refused.err) == (2, True)


def test_unreadable_reranker_weights_are_refused_before_the_index_is_built(here: Path, tmp_path: Path) -> None:
    path = here / "runs/only/best/reranker.safetensors"
    path.write_bytes(b"{}")
    try:
        answer = m3gal("predict", "-", "--index-dir", tmp_path / "i", "--rerank", stdin="cafe\n")
        assert (answer.code, answer.out) == (2, "")
        assert "reranker.safetensors: cannot be read (" in answer.err
        assert not (tmp_path / "i").exists()
        done(m3gal("predict", "-", "--index-dir", tmp_path / "i", "--no-rerank", stdin="cafe\n"))
    finally:
        path.unlink()


def test_filters_keep_what_brute_force_keeps(here: Path) -> None:
    here_lng, here_lat = place(9)[1:]
    lines = "".join(
        json.dumps({"query": f"cafe {i}", "id": i} | ({"lng": here_lng, "lat": here_lat} if i % 3 else {})) + "\n"
        for i in range(6)
    )
    everything = done(m3gal("predict", "-", "-k", PLACES, stdin=lines)).lines()
    for within, west in ((1.3, -180.0), (99.0, 24.91), (1.3, 24.91), (0.001, -180.0)):
        given = ("--within-km", within, "--bbox", f"{west},60.0,24.94,60.14")
        found = done(m3gal("predict", "-", "-k", PLACES, *given, stdin=lines))
        for answer, whole in zip(found.lines(), everything, strict=True):
            wanted = []
            for match in whole["matches"]:
                inside = west <= match["lng"] <= 24.94 and 60.0 <= match["lat"] <= 60.14
                if inside and match.get("distance_m", 0) <= 1000 * within:
                    wanted.append(match | {"rank": len(wanted) + 1})
            assert answer["matches"] == wanted
        assert found.err.endswith(f"2 of 6 queries have no location; --within-km {within:g} was not applied\n")


def test_a_table_in_gcj02_is_matched_in_wgs84(here: Path, tmp_path: Path) -> None:
    lng, lat = 120.15, 30.27
    shifted = [float(v) for v in wgs84_to_gcj02(lng, lat)]
    table = write_csv(tmp_path / "t.csv", ["address", "lng", "lat"], [["cafe", *shifted]])
    lines = json.dumps({"query": "cafe", "lng": lng, "lat": lat + 0.001}) + "\n"
    given = ("predict", "-", "--poi-database-filepath", table, "--datum", "gcj02", "--index-dir", tmp_path / "i")
    (match,) = done(m3gal(*given, stdin=lines)).lines()[0]["matches"]
    assert (match["lng"], match["lat"]) == pytest.approx((lng, lat), abs=1e-8)
    assert match["distance_m"] == pytest.approx(float(haversine_m(lng, lat, lng, lat + 0.001)), abs=0.06)
    assert done(m3gal(*given, "--within-km", 0.12, stdin=lines)).lines()[0]["matches"] == [match]
    assert done(m3gal(*given, "--within-km", 0.1, stdin=lines)).lines()[0]["matches"] == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--within-km", 0), "--within-km 0 is not a distance"),
        (("--bbox", "0,9,1,8"), "south is greater than north"),
        (("--index", "annoy"), "--index: "),
        (("--table", "--output-format", "csv"), "--table and --output-format exclude each other"),
    ],
)
def test_wrong_options_are_refused(here: Path, given: tuple[object, ...], words: str) -> None:
    answer = m3gal("predict", "-", *given, stdin="cafe\n")
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_suffixes_choose_the_formats_of_files(here: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": "a", "query": "cafe, mill lane"}, {"id": "b", "query": "北门"}]
    rows[1] |= {"lng": 24.92, "lat": 60.11}
    wanted = done(m3gal("predict", write_lines(tmp_path / "q.jsonl", rows), "-k", 2)).lines()
    with gzip.open(tmp_path / "q.csv.gz", "wt", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["lat", "lng", "id", "query"])
        table.writeheader()
        table.writerows(rows)
    for name in ("a.jsonl", "a.csv", "a.geojson.gz"):
        assert done(m3gal("predict", tmp_path / "q.csv.gz", "-k", 2, "-o", tmp_path / name)).out == ""
    flat = [{"id": a["id"], "query": a["query"]} | m for a in wanted for m in a["matches"]]
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").open(encoding="utf-8")] == wanted
    found = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))
    assert [{k: v for k, v in row.items() if v} for row in found] == [{k: str(v) for k, v in r.items()} for r in flat]
    features = json.loads(gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()))["features"]
    assert [f["geometry"]["coordinates"] for f in features] == [[r["lng"], r["lat"]] for r in flat]
    assert [f["properties"]["poi_id"] for f in features] == [r["poi_id"] for r in flat]


def test_the_formats_of_stdin_and_stdout_are_options(here: Path) -> None:
    plain = done(m3gal("predict", "-", "-k", 1, stdin="cafe\nhotel\n"))
    given = ("predict", "-", "-k", 1, "--format", "csv", "--output-format", "csv")
    rows = list(csv.DictReader(io.StringIO(done(m3gal(*given, stdin="query\ncafe\nhotel\n")).out)))
    wanted = [(str(a["id"]), a["query"], str(a["matches"][0]["poi_id"])) for a in plain.lines()]
    assert [(r["id"], r["query"], r["poi_id"]) for r in rows] == wanted


BROKEN = 'cafe\n{"query": "hotel", "id": "h", "lng": "east", "lat": 1}\n{"query": " "}\nlibrary\n'


@pytest.mark.parametrize("form", ["jsonl", "geojson"])
def test_answers_before_a_broken_line_are_written(here: Path, tmp_path: Path, form: str) -> None:
    answer = m3gal("predict", "-", "--output-format", form, stdin=BROKEN)
    assert answer.code == 2
    assert "error: <stdin>:2: lng, lat: expected \"lng,lat\", got 'east,1'\n" in answer.err
    assert answer.out == done(m3gal("predict", "-", "--output-format", form, stdin="cafe\n")).out
    assert m3gal("predict", "-", "--output-format", form, "-o", tmp_path / "o", stdin=BROKEN).code == 2
    assert os.listdir(tmp_path) == []


def test_the_first_lines_of_a_file_are_checked_before_the_index_is_built(here: Path, tmp_path: Path) -> None:
    path = tmp_path / "q.txt"
    path.write_text(BROKEN)
    answer = m3gal("predict", path, "--index-dir", tmp_path / "i")
    assert (answer.code, answer.out) == (2, "")
    assert f"{path}:2: lng, lat: " in answer.err
    assert os.listdir(tmp_path) == ["q.txt"]


def test_skip_bad_answers_broken_lines_with_errors(here: Path, tmp_path: Path) -> None:
    plain = done(m3gal("predict", "-", stdin="cafe\nlibrary\n")).lines()
    path = tmp_path / "q.txt"
    path.write_text(BROKEN)
    found = done(m3gal("predict", path, "--skip-bad"))
    wanted = [
        plain[0],
        {"id": "h", "line": 2, "error": "lng, lat: expected \"lng,lat\", got 'east,1'"},
        {"id": 3, "line": 3, "error": "query: empty query"},
        plain[1] | {"id": 4},
    ]
    assert found.lines() == wanted
    assert "2 of 4 queries are broken; their answers have an error instead of matches\n" in found.err
    assert "line 3" in done(m3gal("predict", path, "--skip-bad", "--table")).out
    only = done(m3gal("predict", "-", "--skip-bad", stdin='\n{"query": ""}\n'))
    assert only.lines() == [{"id": 1, "line": 2, "error": "query: empty query"}]


def test_a_box_with_lat_before_lng_gives_a_warning(here: Path) -> None:
    first = done(m3gal("predict", "-", stdin="cafe\n")).lines()[0]["matches"][0]
    lng, lat = first["lng"], first["lat"]
    swapped = f"{lat - 0.1},{lng - 0.1},{lat + 0.1},{lng + 0.1}"
    answer = done(m3gal("predict", "-", "--bbox", swapped, stdin="cafe\n"))
    assert answer.lines()[0]["matches"] == []
    assert "with longitude and latitude swapped" in answer.err
