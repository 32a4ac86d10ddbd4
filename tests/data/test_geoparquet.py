"""GeoParquet files against the specification of GeoParquet 1.1 and against geopandas."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3gal_cli.data.geoparquet import point_writer

SCHEMA = pa.schema([("lng", pa.float64()), ("lat", pa.float64()), ("n", pa.int32())])


def geo_column(path: Path) -> dict[str, object]:
    """The metadata of the geometry column, checked against the specification for one column of points."""
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])
    assert (geo["version"], geo["primary_column"], list(geo["columns"])) == ("1.1.0", "geometry", ["geometry"])
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["geometry_types"], column["edges"]) == ("WKB", ["Point"], "planar")
    assert "crs" not in column  # the default is OGC:CRS84
    file = pq.ParquetFile(path)
    assert file.schema_arrow.field("geometry").type == pa.binary()  # at the root, not repeated
    assert file.schema.column(file.schema.names.index("geometry")).physical_type == "BYTE_ARRAY"
    return dict(column)


def test_geopandas_reads_any_schema_with_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with point_writer(path, SCHEMA) as writer:
        writer.write({"lng": [1.0, 3.0], "lat": [2.0, 5.0], "n": [7, 8]})
        writer.write({"lng": [], "lat": [], "n": []})
        writer.write({"lng": [-4.0], "lat": [9.0], "n": [9]})
    frame = geopandas.read_parquet(path)
    assert frame.crs.to_authority() == ("OGC", "CRS84")
    assert frame["n"].tolist() == [7, 8, 9]
    assert (frame.geometry.x.tolist(), frame.geometry.y.tolist()) == ([1.0, 3.0, -4.0], [2.0, 5.0, 9.0])
    assert geo_column(path)["bbox"] == [-4.0, 2.0, 3.0, 9.0]


def test_a_table_without_rows_is_valid_and_a_writer_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError), point_writer(tmp_path / "t.parquet", SCHEMA) as writer:
        writer.write({"lng": [1.0], "lat": [2.0]})
    assert list(tmp_path.iterdir()) == []
    with point_writer(tmp_path / "none.parquet", SCHEMA):
        pass
    assert "bbox" not in geo_column(tmp_path / "none.parquet")
    assert len(geopandas.read_parquet(tmp_path / "none.parquet")) == 0
