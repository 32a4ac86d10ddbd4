"""Random tables: columns with known names and values of any type give POIs or an InputError, nothing else."""

from __future__ import annotations

import datetime
import decimal
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from m3gal_cli.data.poi_reader import PoiOptions, read_pois
from m3gal_cli.data.schemas.names import NAMES, OSM_KEYS, PAIRS
from m3gal_cli.errors import InputError

COLUMNS = [name for groups in NAMES.values() for group in groups for name in group] + [*PAIRS, *OSM_KEYS]
COLUMNS += ["names", "addresses", "operating_status", "fsq_place_id", "display_name", "osm_id", "osm_key", "osm_value"]
COLUMNS += ["centroid", "geonameid", "feature code", "name_en", "name:sv", "phone", "date_closed"]
TEXTS = [
    "Foo",
    "超市",
    "a, b",
    "",
    "  ",
    "12",
    "60,1",
    "60.1, 24.9",
    "POINT (1 2)",
    "x" * 60,
    "\0",
    "é=;|>a",
    "nan",
    "01",
]
TEXTS += ["POLYGON ((inf 0, 1 1, 2 2, inf 0))", "CIRCULARSTRING (0 0, 1 1, 2 0)", "9" * 5000, "1e999"]
TEXTS += ['{"type": "Point", "coordinates": [1, 2]}', "amenity=cafe", "{", "Foo"]
STRUCT = {"primary": "P", "name": "q", "lat": 1.0, "x": 2.0, "y": 3.0, "freeform": "z"}
POINT = {"type": "Point", "coordinates": [decimal.Decimal("24.5"), decimal.Decimal("60.5")]}
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.int32(), [-200, 0, 7, 60]),
    (pa.float64(), [float("nan"), float("inf"), 60.1, 1e300, 12.0]),
    (pa.bool_(), [True, False]),
    (pa.binary(), [b"", b"\x01", b"\xff\xfe", shapely.Point(1, 2).wkb]),
    (pa.date32(), [datetime.date(2020, 1, 1)]),
    (pa.timestamp("us"), [datetime.datetime(2020, 1, 1)]),
    (pa.decimal128(10, 2), [decimal.Decimal("12.50")]),
    (pa.list_(pa.string()), [[], ["a; b", None], ["c"]]),
    (pa.list_(pa.float64()), [[], [1.0], [24.9, 60.1]]),
    (pa.struct({k: pa.string() if isinstance(v, str) else pa.float64() for k, v in STRUCT.items()}), [STRUCT]),
    (pa.list_(pa.struct({"freeform": pa.string()})), [[], [{"freeform": "S 1"}], [None]]),
    (pa.map_(pa.string(), pa.string()), [[], [("en", "E"), ("sv", None)]]),
    (pa.dictionary(pa.int32(), pa.string()), ["u", "v"]),
    (pa.null(), [None]),
    (pa.float16(), [1.0, 2.5]),
    (pa.uuid(), [bytes(16), b"\xff" * 16]),
    (pa.binary(3), [b"\xff\xfe\xfd"]),
    (pa.large_binary(), [b"\xff\xfe", shapely.Point(1, 2).wkb]),
    (pa.string_view(), TEXTS),
    (pa.struct({"x": pa.float64()}), [{"x": 1.0}]),
    (pa.struct({"type": pa.string(), "coordinates": pa.list_(pa.decimal128(5, 1))}), [POINT]),
]


@pytest.mark.parametrize("seed", range(4))
def test_any_table_gives_valid_pois_or_an_input_error(tmp_path: Path, seed: int) -> None:
    rng, path, read, refused = random.Random(seed), tmp_path / "t.parquet", 0, 0
    for _ in range(100):
        names = [*rng.sample(COLUMNS, rng.randint(1, 7)), *(["lat", "lng", "name"] if rng.random() < 0.9 else [])]
        columns, rows = {}, rng.choice([0, 1, 2, 7])
        for name in dict.fromkeys(names):
            kind, values = rng.choice(VALUES) if rng.random() < 0.5 else VALUES[0]
            if name in ("lat", "lng") and rng.random() < 0.9:
                kind, values = pa.int32(), [1, 2]
            drawn = [None if rng.random() < 0.1 else rng.choice(values) for _ in range(rows)]
            columns[name] = pa.array(drawn, kind)
        pq.write_table(pa.table(columns), path)
        a, b = names[0], names[-1]
        given = [None, "id=", f"name={{{a}}} {{{b}}}", f"address={{{a}}}, {{{b}}}", f"other_names={a}, category={b}"]
        given += [f"geometry={a}", f"lat_lng={a}", f"id={{{a}}}-{{{b}}}", f"closed={a}", None, None, None]
        try:
            pois = read_pois(path, PoiOptions(columns=rng.choice(given), bad_rows=tmp_path / "bad.jsonl"))
        except InputError:
            refused += 1
            continue
        read += 1
        assert all(isinstance(text, str) and text.strip() for text in pois["address"])
        assert pois["lng"].between(-180, 180).all()
        assert pois["lat"].between(-90, 90).all()
        assert not pois["poi_id"].duplicated().any()
    assert min(read, refused) > 10
