"""Facts tables as others read them: geopandas, DuckDB, and the rules of the GeoParquet 1.1 specification by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3gal_cli.data.geoparquet import PointWriter, point_writer, wkb_points
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.errors import InputError
from m3gal_cli.osm import facts_table
from m3gal_cli.osm.extract import Extract, read_extract
from m3gal_cli.osm.facts import FactTable, gather_facts
from m3gal_cli.osm.facts_table import FactsWriter
from m3gal_cli.osm.places import Place, distinct_places
from tests.helpers.extracts import small_town


def test_wkb_is_what_struct_packs() -> None:
    lng, lat = np.array([24.9, -179.5]), np.array([60.1, -33.25])
    expected = [struct.pack("<BIdd", 1, 1, x, y) for x, y in zip(lng, lat, strict=True)]
    assert wkb_points(lng, lat).to_pylist() == expected
    assert wkb_points(lng[:0], lat[:0]).to_pylist() == []


def gathered(path: Path) -> tuple[Extract, list[Place], FactTable]:
    extract = read_extract(path)
    places = distinct_places(extract)
    return extract, places, gather_facts(places, extract, [False] * len(places))


def write_all(path: Path, places: list[Place], facts: FactTable) -> Path:
    with FactsWriter(path) as writer:
        for i, (place, fact) in enumerate(zip(places, facts, strict=True)):
            writer.add(place, fact, {"words": ("thing", "stuff"), "name": (place.name,) if place.name else ()}, i // 2)
    return path


@pytest.fixture(scope="module")
def helsinki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Place], FactTable]:
    folder = tmp_path_factory.mktemp("facts")
    _, places, facts = gathered(copy_sample(folder))
    return write_all(folder / "facts_osm.parquet", places, facts), places, facts


def check_geo(path: Path) -> dict[str, object]:
    """What the specification of GeoParquet 1.1.0 demands of a file with one column of points."""
    metadata = pq.read_schema(path).metadata
    assert b"geo" in metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["primary_column"] == "geometry"
    assert list(geo["columns"]) == ["geometry"]
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["Point"]
    assert column["edges"] == "planar"
    assert "crs" not in column  # so: OGC:CRS84
    field = pq.read_schema(path).field("geometry")
    assert field.type == pa.binary()  # at the root, not repeated
    file = pq.ParquetFile(path)
    assert file.schema.column(file.schema.names.index("geometry")).physical_type == "BYTE_ARRAY"
    if "bbox" in column:
        west, south, east, north = column["bbox"]
        assert -180 <= west <= east <= 180
        assert -90 <= south <= north <= 90
    return column


def test_the_metadata_keep_to_the_specification(helsinki: tuple[Path, list[Place], FactTable]) -> None:
    path, places, _ = helsinki
    column = check_geo(path)
    lnglat = np.round([(p.lng, p.lat) for p in places], 7)
    assert column["bbox"] == pytest.approx([*lnglat.min(axis=0), *lnglat.max(axis=0)], abs=1e-12)


def test_geopandas_reads_the_points_and_the_facts(helsinki: tuple[Path, list[Place], FactTable]) -> None:
    path, places, facts = helsinki
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_authority() == ("OGC", "CRS84")
    assert frame.geometry.geom_type.eq("Point").all()
    assert np.allclose(frame.geometry.x, [p.lng for p in places], atol=1e-7, rtol=0)
    assert np.allclose(frame.geometry.y, [p.lat for p in places], atol=1e-7, rtol=0)
    for i in range(0, len(places), 17):
        row, fact = frame.iloc[i], facts[i]
        assert row["poi_id"] == places[i].poi_id
        assert (row["street"] or None) == (fact.street["name"].split(";")[0] if fact.street else None)
        assert row["street_by_address"] == fact.by_address
        if fact.landmark is None:
            assert row["landmark_id"] is None
        else:
            assert row["landmark_id"] == places[fact.landmark.who].poi_id
            assert row["landmark_metres"] == pytest.approx(fact.landmark.metres, rel=1e-6)
    near = frame.cx[24.93:24.95, 60.16:60.18]
    assert 0 < len(near) < len(frame)


def test_duckdb_queries_the_columns(helsinki: tuple[Path, list[Place], FactTable]) -> None:
    path, places, facts = helsinki

    def one(query: str) -> object:
        return duckdb.sql(query.replace("FACTS", f"'{path}'")).fetchall()[0][0]

    assert one("SELECT count(*) FROM FACTS") == len(places)
    assert one("SELECT count(*) FROM FACTS WHERE crossing_metres < 100") == sum(
        f.crossing is not None and f.crossing[2].metres < 100 for f in facts
    )
    assert one("SELECT count(*) FROM FACTS WHERE area IS NULL") == sum(f.area is None for f in facts)
    assert one('SELECT max("group") FROM FACTS') == (len(places) - 1) // 2
    swedish = sum("name:sv" in p.tags for p in places)
    assert swedish > 100
    # JSON by plain text: the extension need not be there
    assert one("SELECT count(*) FROM FACTS WHERE alt_names LIKE '%\"name:sv\": %'") == swedish


def test_what_is_not_known_is_null_and_never_empty(helsinki: tuple[Path, list[Place], FactTable]) -> None:
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


def test_a_drawn_town_reads_as_drawn(tmp_path: Path) -> None:
    _, places, facts = gathered(small_town().write(tmp_path / "town.osm"))
    table = pq.read_table(write_all(tmp_path / "facts.parquet", places, facts))
    rows = {row["name"]: row for row in table.to_pylist()}
    cafe, page = rows["Corner Cafe"], rows["Page"]
    assert {cafe["crossing_a"], cafe["crossing_b"]} == {"First Street", "Second Street"}
    assert cafe["crossing_metres"] == pytest.approx(70 * 2**0.5, abs=0.2)
    assert cafe["crossing_bearing"] == pytest.approx(45.0, abs=0.1)
    assert json.loads(cafe["admin"]) == {"8": "Testville", "10": "Old Town"}
    assert (cafe["category"], cafe["words"], cafe["area"]) == ("amenity=cafe", "thing", None)
    assert (page["street"], page["street_by_address"], page["housenumber"]) == ("First Street", True, "12")
    assert page["street_metres"] is None  # 500 m off
    kiosk = rows["School Kiosk"]
    school = next(p for p in places if p.name == "Park School")
    assert (kiosk["area"], kiosk["area_id"]) == ("Park School", school.poi_id)


def test_row_groups_bound_the_memory_and_change_nothing(
    helsinki: tuple[Path, list[Place], FactTable], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, places, facts = helsinki
    monkeypatch.setattr(facts_table, "ROW_GROUP", 500)
    small = write_all(tmp_path / "small.parquet", places, facts)
    assert pq.ParquetFile(path).num_row_groups == 1
    assert pq.ParquetFile(small).num_row_groups == -(-len(places) // 500)
    assert pq.read_table(small).equals(pq.read_table(path))
    assert check_geo(small)["bbox"] == check_geo(path)["bbox"]


def test_no_rows_make_a_valid_table(tmp_path: Path) -> None:
    with FactsWriter(tmp_path / "none.parquet"):
        pass
    assert "bbox" not in check_geo(tmp_path / "none.parquet")
    assert len(geopandas.read_parquet(tmp_path / "none.parquet")) == 0


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    _, places, facts = gathered(small_town().write(tmp_path / "town.osm"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(IndexError), FactsWriter(tmp_path / "facts.parquet") as writer:  # noqa: PT012
        writer.add(places[0], facts[0], {}, 0)
        writer.add(places[0], facts[len(places)], {}, 0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot write there"), FactsWriter(tmp_path / "file" / "facts.parquet"):
        pass


def test_any_schema_with_coordinates_can_be_written(tmp_path: Path) -> None:
    schema = pa.schema([("lng", pa.float64()), ("lat", pa.float64()), ("n", pa.int32())])
    with point_writer(tmp_path / "t.parquet", schema) as writer:
        assert isinstance(writer, PointWriter)
        writer.write({"lng": [1.0, 3.0], "lat": [2.0, 5.0], "n": [7, 8]})
        writer.write({"lng": [], "lat": [], "n": []})
        writer.write({"lng": [-4.0], "lat": [9.0], "n": [9]})
    frame = geopandas.read_parquet(tmp_path / "t.parquet")
    assert frame["n"].tolist() == [7, 8, 9]
    assert check_geo(tmp_path / "t.parquet")["bbox"] == [-4.0, 2.0, 3.0, 9.0]
