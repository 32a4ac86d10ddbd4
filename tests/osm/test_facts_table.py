"""Facts tables: the facts of every place, read with geopandas, DuckDB and pyarrow."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import FactTable, gather_facts
from m3gal_cli.osm.facts_table import facts_row, facts_writer
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from tests.helpers.extracts import small_town

Facts = tuple[Path, list[Place], FactTable]


def gathered(path: Path) -> tuple[list[Place], FactTable]:
    extract = read_extract(path)
    places = deduplicate_places(extract)
    return places, gather_facts(places, extract, [False] * len(places))


def write_all(path: Path, places: list[Place], facts: FactTable) -> Path:
    with facts_writer(path, row_group=500) as add:
        for i, (place, fact) in enumerate(zip(places, facts, strict=True)):
            slots = {"words": ("thing", "stuff"), "name": (place.name,) if place.name else ()}
            add(facts_row(place, fact, slots, i // 2))
    return path


@pytest.fixture(scope="module")
def helsinki(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = tmp_path_factory.mktemp("facts")
    places, facts = gathered(copy_sample(folder))
    return write_all(folder / "facts_osm.parquet", places, facts), places, facts


def test_geopandas_reads_the_points_and_the_facts(helsinki: Facts) -> None:
    path, places, facts = helsinki
    frame = geopandas.read_parquet(path)
    assert pq.ParquetFile(path).num_row_groups == -(-len(places) // 500)
    assert frame["poi_id"].tolist() == [p.poi_id for p in places]
    assert np.allclose(frame.geometry.x, [p.lng for p in places], atol=1e-7, rtol=0)
    assert np.allclose(frame.geometry.y, [p.lat for p in places], atol=1e-7, rtol=0)
    assert frame.total_bounds == pytest.approx(
        json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]["bbox"]
    )
    for i in range(0, len(places), 17):
        row, fact = frame.iloc[i], facts[i]
        assert (row["street"] or None) == (fact.street.name if fact.street else None)
        assert row["street_by_address"] == fact.by_address
        assert row["landmark_id"] == (places[fact.landmark.index].poi_id if fact.landmark else None)
        assert row["landmark_metres"] == pytest.approx(
            fact.landmark.metres if fact.landmark else np.nan, rel=1e-6, nan_ok=True
        )


def test_duckdb_queries_the_columns(helsinki: Facts) -> None:
    path, places, facts = helsinki
    counts = {
        "crossing_metres < 100": sum(f.crossing is not None and f.crossing.metres < 100 for f in facts),
        "area IS NULL": sum(f.area is None for f in facts),
        "alt_names LIKE '%\"name:sv\": %'": sum("name:sv" in p.tags for p in places),
    }
    for condition, count in counts.items():
        assert duckdb.sql(f"SELECT count(*) FROM '{path}' WHERE {condition}").fetchall() == [(count,)]
        assert count > 100


def test_unknown_values_are_null_and_never_empty(helsinki: Facts) -> None:
    table = pq.read_table(helsinki[0])
    for field in table.schema:
        if field.type == pa.string():
            assert "" not in set(table[field.name].to_pylist()), field.name
        if not field.nullable:
            assert table[field.name].null_count == 0, field.name
    for name in ("name", "brand", "area", "housenumber"):
        assert 0 < table[name].null_count < len(table), name
    assert not any(np.isnan(v) for v in table["street_metres"].to_pylist() if v is not None)
    assert (table["area"].is_null().to_pylist()) == table["area_bearing"].is_null().to_pylist()


def test_the_facts_of_a_small_town_are_those_of_its_map(tmp_path: Path) -> None:
    places, facts = gathered(small_town().write(tmp_path / "town.osm"))
    table = pq.read_table(write_all(tmp_path / "facts.parquet", places, facts))
    rows = {row["name"]: row for row in table.to_pylist()}
    cafe, page = rows["Corner Cafe"], rows["Page"]
    assert {cafe["crossing_a"], cafe["crossing_b"]} == {"First Street", "Second Street"}
    assert cafe["crossing_metres"] == pytest.approx(70 * 2**0.5, abs=0.2)
    assert cafe["crossing_bearing"] == pytest.approx(45.0, abs=0.1)
    assert json.loads(cafe["admin"]) == {"8": "Testville", "10": "Old Town"}
    assert (cafe["category"], cafe["words"], cafe["area"]) == ("amenity=cafe", "thing", None)
    assert (page["street"], page["street_by_address"], page["housenumber"]) == ("First Street", True, "12")
    assert page["street_metres"] is None  # 500 m away
    kiosk = rows["School Kiosk"]
    school = next(p for p in places if p.name == "Park School")
    assert (kiosk["area"], kiosk["area_id"]) == ("Park School", school.poi_id)


def test_a_writer_that_fails_leaves_no_file(helsinki: Facts, tmp_path: Path) -> None:
    _, places, facts = helsinki
    with pytest.raises(KeyError), facts_writer(tmp_path / "facts.parquet") as add:  # noqa: PT012
        add(facts_row(places[0], facts[0], {}, 0))
        add({})
    assert list(tmp_path.iterdir()) == []
