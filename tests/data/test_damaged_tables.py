"""``m3gal data pois`` on damaged tables of every format: it writes a POI table or one error, nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers.cli import m3gal
from tests.helpers.damage import damaged
from tests.helpers.poi_tables import write_foursquare, write_overture
from tests.helpers.table_files import FILES

TABLES = 1000
POIS = pd.DataFrame(
    {
        "poi_id": [f"n{i}" for i in range(8)],
        "name": [f"Kahvila {i}" for i in range(8)],
        "category": "amenity=cafe",
        "street": "Kasarmikatu",
        "housenumber": [str(i) for i in range(8)],
        "city": "Helsinki",
        "lng": [24.9 + i / 100 for i in range(8)],
        "lat": 60.17,
    }
)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    overture = write_overture(POIS, folder / "overture.parquet").read_bytes()
    foursquare = write_foursquare(POIS, folder / "foursquare.parquet").read_bytes()
    return {name: make() for name, make in FILES.items()} | {"overture.parquet": overture, "fsq.parquet": foursquare}


@pytest.mark.integration
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_damaged_table_becomes_a_poi_table_or_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_files: dict[str, bytes], skip_bad: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    generator, codes = random.Random(int(skip_bad)), list[int]()
    for number in range(TABLES // 2):
        name = list(whole_files)[number % len(whole_files)]
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / name).write_bytes(damaged(whole_files[name], generator))
        out = folder / "out" / "pois.parquet"
        answer = m3gal("data", "pois", folder / name, "-o", out, *(["--skip-bad"] if skip_bad else []))
        codes.append(answer.code)
        assert answer.code in (0, 2)
        written = {path.name for path in folder.rglob("*") if path.is_file()} - {name}
        if answer.code == 0:
            pois = pd.read_parquet(out)
            assert {"poi_id", "address", "lng", "lat"} <= set(pois.columns)
            assert pois["lat"].between(-90, 90).all()
            assert pois["lng"].between(-180, 180).all()
        else:
            assert "error: " in answer.err
            assert "Traceback" not in answer.err
            assert "pois.parquet" not in written
        assert {path for path in written if path.endswith((".tmp", ".old"))} == set()
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []
    assert codes.count(0) > TABLES // 20
    assert codes.count(2) > TABLES // 20
