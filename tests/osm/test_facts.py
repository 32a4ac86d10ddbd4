"""Facts of places against analytic values on drawn towns, and against loops on real extracts."""

from __future__ import annotations

import re

import numpy as np
import pytest
import shapely

from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import NEIGHBOURS, Facts, FactTable, Reference, gather_facts
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place, name_in, projection_of
from m3gal_cli.osm.tags import ADDRESS, is_landmark
from m3gal_cli.text.normalise import reading_key
from tests.helpers.extracts import Town, three_towns
from tests.osm.conftest import ExtractPath, slow

Real = tuple[Extract, list[Place], list[bool], FactTable]


def reference(found: Reference | None) -> Reference:
    return found or pytest.fail("no such object")


def name_of(found: Reference | None) -> str:
    return found.name if found else ""


# ---- three towns, one of them far in the north ----


@pytest.fixture(scope="module")
def country(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Place], FactTable]:
    extract = read_extract(three_towns().write(tmp_path_factory.mktemp("country") / "c.osm"))
    places = deduplicate_places(extract)
    return places, gather_facts(places, extract, [False] * len(places))


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


def test_a_gate_belongs_to_an_area_within_20_m(country: tuple[list[Place], FactTable]) -> None:
    places, facts = country
    parts = [(p, f) for p, f in zip(places, facts, strict=True) if p.is_unnamed_part]
    assert [p.category for p, _ in parts] == [("barrier", "gate")] * 3
    for (_, fact), letter in zip(parts, "ABC", strict=True):
        assert name_of(fact.area) == f"Park {letter}"
        assert reference(fact.area).bearing == pytest.approx(np.degrees(np.arctan2(16, 216)), abs=0.2)
        assert reference(fact.area).metres == pytest.approx(np.hypot(16, 216), rel=2e-3)
        assert name_of(fact.landmark) in (f"Park {letter}", f"Museum {letter}")


def test_a_fact_table_has_a_row_for_each_place(country: tuple[list[Place], FactTable]) -> None:
    places, facts = country
    assert len(facts) == len(places) == len(list(facts))
    assert len(gather_facts([], Extract(), [])) == 0


# ---- streets ----


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
    extract = read_extract(town.write(tmp_path_factory.mktemp("streets") / "s.osm"))
    places = deduplicate_places(extract)
    facts = gather_facts(places, extract, [False] * len(places))
    return {p.name: f for p, f in zip(places, facts, strict=True)}


@pytest.mark.parametrize(
    ("name", "street", "by_address", "metres", "bearing"),
    [
        ("Walker", "Near Street", False, 40, 0),
        ("Dweller", "Own  Street;Other", True, 160, 180),  # not the nearest: the one that its address names
        ("Owner", "Near Street", True, 30, 0),
        ("Stander", "Near Street", True, 2, np.nan),
        ("Stranger", "Elsewhere Street", True, np.nan, np.nan),
        ("Far", None, False, np.nan, np.nan),
        ("Edge", "Near Street", False, 149, 180),
        ("Distant", "Own  Street;Other", True, np.nan, np.nan),
    ],
)
def test_the_street_has_distance_and_bearing(
    streets: dict[str, Facts],
    name: str,
    street: str | None,
    by_address: bool,
    metres: float,
    bearing: float,
) -> None:
    fact = streets[name]
    assert fact.by_address == by_address
    assert (fact.street.tags["name"] if fact.street else None) == street
    if fact.street:
        assert [fact.street.metres, fact.street.bearing] == pytest.approx([metres, bearing], abs=0.1, nan_ok=True)
        assert "name:xx" in fact.street.tags or street != "Near Street"  # the tags of the best described piece


# ---- against loops on real extracts ----


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
            assert len({one.index for one in found}) == len(found)
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
