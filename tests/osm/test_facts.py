"""Facts of places on drawn towns and against loops on real extracts; the table of facts in three libraries."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import NEIGHBOURS, Facts, FactTable, Reference, gather_facts
from m3gal_cli.osm.facts_table import facts_row, facts_writer
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place, name_in, projection_of
from m3gal_cli.osm.tags import ADDRESS, is_landmark
from m3gal_cli.text.normalise import reading_key
from tests.helpers.extracts import Town, small_town, three_towns
from tests.osm.conftest import ExtractPath, slow

Real = tuple[Extract, list[Place], list[bool], FactTable]


def reference(found: Reference | None) -> Reference:
    return found or pytest.fail("no such object")


def gathered(path: Path) -> tuple[list[Place], FactTable]:
    extract = read_extract(path)
    places = deduplicate_places(extract)
    return places, gather_facts(places, extract, [False] * len(places))


def name_of(found: Reference | None) -> str:
    return found.name if found else ""


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Place], FactTable]:
    return gathered(three_towns().write(tmp_path_factory.mktemp("country") / "c.osm"))


@pytest.mark.parametrize("letter", ["A", "B", "C"])
def test_metres_are_true_in_every_town_of_a_country(country: tuple[list[Place], FactTable], letter: str) -> None:
    places, facts = country
    by_name = {p.name: f for p, f in zip(places, facts, strict=True)}
    pharmacy, books, bar = (by_name[f"{name} {letter}"] for name in ("Pharmacy", "Books", "Bar"))
    way = reference(pharmacy.crossing)
    assert way.metres == pytest.approx(140 * 2**0.5, rel=2e-3)
    assert way.bearing == pytest.approx(135.0, abs=0.1)
    assert reference(pharmacy.street).metres == pytest.approx(140, rel=2e-3)
    assert (bar.street, bar.crossing) == (None, None)  # 500 m and 860 m off: on an unscaled plane not so in the south
    landmark = reference(books.landmark)
    assert landmark.name == f"Museum {letter}"
    assert landmark.metres == pytest.approx(np.hypot(200, 290), rel=2e-3)
    assert landmark.bearing == pytest.approx(np.degrees(np.arctan2(-200, 290)) % 360, abs=0.2)
    assert name_of(bar.area) == f"Park {letter}"
    assert reference(bar.area).metres == pytest.approx(200, rel=2e-3)
    assert reference(bar.area).bearing == pytest.approx(180, abs=0.2)
    gates = {name_of(f.area): f.area for p, f in zip(places, facts, strict=True) if p.is_unnamed_part}
    gate = gates[f"Park {letter}"]
    assert reference(gate).metres == pytest.approx(np.hypot(16, 216), rel=2e-3)  # the fence is 15 m away
    assert reference(gate).bearing == pytest.approx(np.degrees(np.arctan2(16, 216)), abs=0.2)


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Facts]:
    town = Town()
    town.way([(0, 0), (500, 0)], highway="residential", name="Near Street", name__xx="Nah")
    town.way([(500, 0), (900, 0)], highway="residential", name="Near Street")
    town.way([(0, 200), (900, 200)], highway="residential", name="Own  Street;Other")
    for name, east, north, more in (
        ("Walker", 250, 40, {}),
        ("Dweller", 250, 40, {"addr__street": "Own Street", "addr__housenumber": "3"}),
        ("Owner", 250, 30, {"addr__street": "Near Street", "addr__housenumber": "5"}),
        ("Stander", 700, 2, {"addr__street": "Near Street"}),
        ("Stranger", 100, 40, {"addr__street": "Elsewhere Street"}),
        ("Far", 400, -151, {}),
        ("Edge", 400, -149, {}),
        ("Distant", 400, 610, {"addr__street": "Own Street"}),
    ):
        town.node(east, north, amenity="cafe", name=name, **more)
    places, facts = gathered(town.write(tmp_path_factory.mktemp("streets") / "s.osm"))
    return {p.name: f for p, f in zip(places, facts, strict=True)}


def test_the_street_has_distance_and_bearing(streets: dict[str, Facts]) -> None:
    nan = np.nan
    for name, street, by_address, metres, bearing in (
        ("Walker", "Near Street", False, 40, 0),
        ("Dweller", "Own  Street;Other", True, 160, 180),  # not the nearest: the one that its address names
        ("Owner", "Near Street", True, 30, 0),
        ("Stander", "Near Street", True, 2, nan),
        ("Stranger", "Elsewhere Street", True, nan, nan),
        ("Edge", "Near Street", False, 149, 180),
        ("Distant", "Own  Street;Other", True, nan, nan),
    ):
        fact, found = streets[name], reference(streets[name].street)
        assert (found.tags["name"], fact.by_address) == (street, by_address), name
        assert [found.metres, found.bearing] == pytest.approx([metres, bearing], abs=0.1, nan_ok=True), name
        assert "name:xx" in found.tags or street != "Near Street"  # the tags of the best described piece
    assert (streets["Far"].street, streets["Far"].by_address) == (None, False)


@pytest.fixture(scope="module", params=["helsinki", "nanjing_center", *slow("liechtenstein")])
def real(request: pytest.FixtureRequest, extract_path: ExtractPath) -> Real:
    path = extract_path(request.param)
    extract = read_extract(path)
    places = deduplicate_places(extract)
    sub = [bool(re.fullmatch("(?i)parking|entrance.*|停车场|.门", p.name)) for p in places]
    return extract, places, sub, gather_facts(places, extract, sub)


def close(one: str, two: str) -> bool:
    return two in one or (one != "" and one in two)


def test_landmarks_and_neighbours_are_those_of_a_loop(real: Real) -> None:
    _, places, sub, facts = real
    names = [reading_key(p.name) for p in places]
    lng, lat = np.array([p.lng for p in places]), np.array([p.lat for p in places])
    own = [bool(n) and not s and names.count(n) == 1 for n, s in zip(names, sub, strict=True)]
    for wanted, reach in ((1, 1200.0), (NEIGHBOURS, 400.0)):
        known = [is_landmark(p.tags) if wanted == 1 else p.category[0] != ADDRESS for p in places]
        among = np.flatnonzero(np.array(own) & np.array(known))
        seen = 0
        for i in range(0, len(places), 23):
            away = haversine_m(lng[i], lat[i], lng, lat)
            order = among[np.argsort(away[among], kind="stable")][: wanted + 5].tolist()
            expected = [j for j in order if away[j] <= reach and j != i and not close(names[i], names[j])][:wanted]
            found = [r for r in [facts[i].landmark] if r] if wanted == 1 else facts[i].neighbours
            assert [r.metres for r in found] == pytest.approx(away[expected].tolist(), rel=3e-3, abs=0.5)
            for one in found:
                assert (one.name, one.osm_id) == (places[one.index].name, places[one.index].poi_id)
                assert own[one.index]
                assert away[one.index] == pytest.approx(one.metres, rel=3e-3, abs=0.5)
            seen += len(found) == wanted
        assert seen > 5


def test_areas_and_boundaries_are_those_of_a_loop(real: Real) -> None:
    extract, places, _, facts = real
    frame = projection_of(places)
    seen = 0
    for i in range(0, len(places), 13):
        place, point = places[i], shapely.Point(places[i].lng, places[i].lat)
        holding = [
            n for n, a in enumerate(extract.areas)
            if a.shape.contains(point) and a.osm_id != place.poi_id
            and reading_key(name_in(a.tags)) != reading_key(place.name)
        ]  # fmt: skip
        sizes = {n: shapely.transform(extract.areas[n].shape, frame.metres).area for n in holding}
        sizes = {n: size for n, size in sizes.items() if size < 2e7}
        if sizes:
            seen += 1
            area = reference(facts[i].area)
            assert area.index == min(sizes, key=lambda n: sizes[n])
            assert area.osm_id == extract.areas[area.index].osm_id
        elif not place.is_unnamed_part:
            assert facts[i].area is None or reference(facts[i].area).metres > 0
        admins: dict[int, dict[str, str]] = {}
        for boundary in extract.admins:
            if boundary.shape.contains(point):
                admins.setdefault(int(boundary.tags["admin_level"]), boundary.tags)
        assert facts[i].admins == admins
    assert seen > 3


def test_crossings_are_those_of_a_loop(real: Real) -> None:
    extract, places, _, facts = real
    pieces = zip(extract.roads.tags, extract.roads.lines(), strict=True)
    roads = [(reading_key(name_in(tags)), line, tags) for tags, line in pieces]
    spots = []
    tree = shapely.STRtree([shape for _, shape, _ in roads])
    for n, (name, shape, tags) in enumerate(roads):
        for m in tree.query(shape).tolist():
            other, line, more = roads[m]
            level = [(t.get("layer", "0"), "bridge" in t, "tunnel" in t) for t in (tags, more)]
            if m > n and not close(name, other) and other != "" and level[0] == level[1]:
                meet = shape.intersection(line)
                if meet.geom_type in ("Point", "MultiPoint") and not meet.is_empty:
                    spots += [(*xy, frozenset((name, other))) for xy in shapely.get_coordinates(meet).tolist()]
    assert len(spots) > 30
    lng, lat = np.array([s[0] for s in spots]), np.array([s[1] for s in spots])
    for i in range(0, len(places), 7):
        away = haversine_m(places[i].lng, places[i].lat, lng, lat)
        found = facts[i].crossing
        if away.min() > 600.0:
            assert found is None
            continue
        assert reference(found).metres == pytest.approx(away.min(), rel=3e-3, abs=0.5)
        assert frozenset(reading_key(name_in(t)) for t in facts[i].crossing_streets or ()) in {
            spots[n][2] for n in np.flatnonzero(away < away.min() + 1)
        }


Table = tuple[Path, list[Place], FactTable]


def write_all(path: Path, places: list[Place], facts: FactTable) -> Path:
    with facts_writer(path, row_group=500) as add:
        for i, (place, fact) in enumerate(zip(places, facts, strict=True)):
            slots = {"words": ("thing", "stuff"), "name": (place.name,) if place.name else ()}
            add(facts_row(place, fact, slots, i // 2))
    return path


@pytest.fixture(scope="module")
def helsinki(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("facts")
    places, facts = gathered(copy_sample(folder))
    return write_all(folder / "facts_osm.parquet", places, facts), places, facts


def test_geopandas_reads_the_points_and_the_facts(helsinki: Table) -> None:
    path, places, facts = helsinki
    frame = geopandas.read_parquet(path)
    assert pq.ParquetFile(path).num_row_groups == -(-len(places) // 500)
    assert frame["poi_id"].tolist() == [p.poi_id for p in places]
    assert np.allclose(frame.get_coordinates(), [(p.lng, p.lat) for p in places], atol=1e-7, rtol=0)
    geo = json.loads(pq.read_schema(path).metadata[b"geo"])["columns"]["geometry"]
    assert frame.total_bounds == pytest.approx(geo["bbox"])
    for i in range(0, len(places), 17):
        row, fact, near = frame.iloc[i], facts[i], facts[i].landmark
        assert (row["street"] or None) == (fact.street.name if fact.street else None)
        assert row["street_by_address"] == fact.by_address
        assert row["landmark_id"] == (places[near.index].poi_id if near else None)
        assert row["landmark_metres"] == pytest.approx(near.metres if near else np.nan, rel=1e-6, nan_ok=True)


def test_unknown_values_are_null_and_never_empty(helsinki: Table) -> None:
    path, places, _ = helsinki
    table = pq.read_table(path)
    count = duckdb.sql(f"""SELECT count(*) FROM '{path}' WHERE alt_names LIKE '%"name:sv": %'""").fetchall()
    assert count == [(sum("name:sv" in p.tags for p in places),)]
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


def test_a_writer_that_fails_leaves_no_file(helsinki: Table, tmp_path: Path) -> None:
    _, places, facts = helsinki
    with pytest.raises(KeyError), facts_writer(tmp_path / "facts.parquet") as add:  # noqa: PT012
        add(facts_row(places[0], facts[0], {}, 0))
        add({})
    assert list(tmp_path.iterdir()) == []
