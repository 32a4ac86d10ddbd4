"""``m3gal data pois``, ``--columns`` and ``--skip-bad`` on the command line, and an extract as POI table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from m3gal_cli.data.poi_reader import PoiOptions
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.errors import InputError
from m3gal_cli.poi_source import open_pois, read_pois
from tests.helpers.cli import done, m3gal
from tests.helpers.poi_tables import write_foursquare, write_overture

SHOPS = "title;street;no;lat;lng;shop_no\nFoo;Katu;1;60,1;24,9;007\n;;;60,1;24,9;8\nBar;Tie;2;60,2;24,8;9\n"


@pytest.fixture
def shops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shops.csv"
    path.write_text(SHOPS)
    return path


def test_a_table_is_converted_and_the_columns_in_use_are_printed(shops: Path) -> None:
    answer = done(m3gal("data", "pois", shops, "-o", "out/p.csv", "--skip-bad"))
    assert answer.out == ""
    rows = {cells[1].strip(): cells[2].strip() for line in answer.err.splitlines() if len(cells := line.split("│")) > 3}
    assert (
        rows.items() >= {"name": "title", "number": "no", "id": "shop_no", "POIs": "2", "schema": "own table"}.items()
    )
    assert "1 of 3 rows is invalid and left out; see out/shops.bad.jsonl" in answer.err
    read = pd.read_csv("out/p.csv", dtype=str)
    assert read["address"].tolist() == ["Foo, Katu 1", "Bar, Tie 2"]
    assert read["poi_id"].tolist() == ["007", "9"]
    assert json.loads(Path("out/shops.bad.jsonl").read_text())["where"] == f"{shops}:3: title"


def test_json_has_counts_and_schema(shops: Path) -> None:
    answer = done(
        m3gal("data", "pois", shops, "--skip-bad", "--json", "--columns", "name=title, address={no} {street}")
    )
    report = json.loads(answer.out)
    assert (report["path"], report["rows"], report["skipped"], report["closed"]) == ("pois.parquet", 2, 1, 0)
    assert report["schema"]["columns"]["address"] == ["{no} {street}"]
    assert pd.read_parquet("pois.parquet")["address"].tolist() == ["Foo, 1 Katu", "Bar, 2 Tie"]


def test_an_invalid_row_ends_the_command_and_leaves_no_file(shops: Path) -> None:
    answer = m3gal("data", "pois", shops)
    assert answer.code == 2
    assert f"{shops}:3: title: expected text, got nothing" in answer.err
    assert "--skip-bad" in answer.err
    assert [p.name for p in shops.parent.iterdir()] == ["shops.csv"]


def test_inspection_shows_the_schema_and_accepts_the_same_options(shops: Path) -> None:
    report = json.loads(done(m3gal("data", "inspect", shops, "--skip-bad", "--json")).out)
    assert (report["kind"], report["facts"]["schema"], report["facts"]["schema: name"]) == (
        "POI table",
        "own table",
        "title",
    )
    assert report["facts"]["format"] == "delimiter semicolon, decimal comma"
    assert report["numbers"]["rows"] == 2
    assert Path("shops.bad.jsonl").exists()
    given = done(m3gal("data", "inspect", shops, "--skip-bad", "--json", "--columns", "name=shop_no"))
    assert json.loads(given.out)["facts"]["schema: name"] == "shop_no"


def test_views_are_made_of_any_table(tmp_path: Path) -> None:
    pois = read_pois(copy_sample(tmp_path))
    table = write_foursquare(pois.head(300), tmp_path / "f.parquet")
    few = ("--train-queries", 9, "--val-queries", 5, "--test-queries", 5, "--limit", 60, "--skip-bad")
    done(m3gal("data", "table", table, "-o", tmp_path / "out", *few))
    made = pd.read_parquet(tmp_path / "out/poi_database_f.parquet")
    assert len(made) == 60
    assert set(made["poi_id"]) <= set(pd.read_parquet(table)["fsq_place_id"])


def test_an_extract_gives_the_rows_of_data_osm(tmp_path: Path) -> None:
    extract = copy_sample(tmp_path)
    done(m3gal("data", "osm", extract, "-o", tmp_path / "data", "--train-queries", 5, "--val-queries", 5))
    written = pd.read_parquet(next((tmp_path / "data").glob("poi_database_*.parquet")))
    read = read_pois(extract)
    assert read.columns.tolist()[:5] == ["poi_id", "address", "name", "lng", "lat"]
    pd.testing.assert_frame_equal(read[written.columns], written)
    with pytest.raises(InputError, match="--columns does not apply to an extract"):
        open_pois(extract, PoiOptions(columns="name=title"))


def test_overture_and_foursquare_tables_give_the_texts_of_the_table_that_they_were_made_of(tmp_path: Path) -> None:
    pois = read_pois(copy_sample(tmp_path))
    named = pois[pois["name"] != ""].head(200)
    expected = [
        [name, words.replace("_", " "), " ".join(filter(None, (street, number))), city]
        for name, words, street, number, city in zip(
            named["name"].str.replace(",", ""),
            named["category"].str.partition("=")[2].replace("yes", ""),
            named["street"].str.replace(",", ""),
            named["housenumber"],
            named["city"],
            strict=True,
        )
    ]
    for write in (write_overture, write_foursquare):
        with open_pois(write(named, tmp_path / "t.parquet")) as stream:
            table = pa.concat_tables(stream.batches())
        texts = [text.casefold() for text in table["address"].to_pylist()]
        assert texts == [", ".join(filter(None, parts)).casefold() for parts in expected], stream.schema.name
