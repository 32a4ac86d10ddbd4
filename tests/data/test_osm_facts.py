"""Facts of places against analytic values on a town drawn by hand, and against loops and shapely on real extracts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from drawn import BENT, LAT0, LNG0, Town, small_town, square

from m3gal_cli.data.osm.extract import Extract, read_extract
from m3gal_cli.data.osm.facts import Facts, gather_facts
from m3gal_cli.data.osm.frame import Frame, bearing_deg
from m3gal_cli.data.osm.places import Place, distinct_places, reads
from m3gal_cli.data.osm.streets import Streets, find_crossings


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, list[Place], dict[str, Facts]]:
    extract = read_extract(small_town().write(tmp_path_factory.mktemp("town") / "town.osm"))
    places = distinct_places(extract)
    facts = gather_facts(places, extract, [False] * len(places))
    return extract, places, {p.reading: f for p, f in zip(places, facts, strict=True)}


def test_places_are_what_people_look_for(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    names = {p.reading for p in drawn[1]}
    assert {"Corner Cafe", "Bent House", "Green Park", "Page", "First Street 14"} <= names
    assert "Bench" not in names
    assert "First Street 12" not in names  # the bookshop has it


def test_crossing_has_the_distance_and_bearing_of_geometry(
    drawn: tuple[Extract, list[Place], dict[str, Facts]],
) -> None:
    one, two, way = drawn[2]["Corner Cafe"].crossing or pytest.fail("no crossing")
    assert {one["name"], two["name"]} == {"First Street", "Second Street"}
    assert way.metres == pytest.approx(70 * 2**0.5, abs=0.2)
    assert way.bearing == pytest.approx(45.0, abs=0.1)
    way = (drawn[2]["Far Pharmacy"].crossing or pytest.fail("no crossing"))[2]
    assert way.metres == pytest.approx(np.hypot(400, 60), abs=0.5)
    assert way.bearing == pytest.approx(np.degrees(np.arctan2(400, -60)), abs=0.1)


def test_a_bridge_is_no_crossing(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    extract, places, _ = drawn
    frame = Frame(places)
    streets = Streets(extract.roads, frame)
    found = find_crossings(streets)
    assert {frozenset(streets.names[code] for code in pair) for pair in found.codes} == {
        frozenset({"First Street", "Second Street"})
    }
    origin = frame.metres(np.array([[LNG0, LAT0]]))
    assert found.where == pytest.approx(origin, abs=0.05)


@pytest.mark.parametrize(
    ("end", "degrees"), [((0, 1), 0), ((1, 1), 45), ((1, 0), 90), ((0, -1), 180), ((-1, 0), 270), ((-1, 1), 315)]
)
def test_bearings(end: tuple[float, float], degrees: float) -> None:
    assert float(bearing_deg(np.zeros(2), np.array(end))) == pytest.approx(degrees)


def test_a_bent_house_has_its_point_inside(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    house = next(p for p in drawn[1] if p.name == "Bent House")
    shape = shapely.Polygon([Town().at(*p) for p in BENT])
    assert not shape.contains(shape.centroid)  # or this test shows nothing
    assert shape.contains(shapely.Point(house.lng, house.lat))


def test_the_street_is_the_nearest_named_one_and_the_address_wins(
    drawn: tuple[Extract, list[Place], dict[str, Facts]],
) -> None:
    facts = drawn[2]
    assert (facts["Far Pharmacy"].street or {})["name"] == "First Street"
    assert facts["Far Pharmacy"].street_bearing == pytest.approx(180.0, abs=0.1)
    assert (facts["Red Bar"].street or {})["name"] == "Second Street"
    assert facts["Red Bar"].street_bearing == pytest.approx(270.0, abs=0.1)
    assert (facts["Page"].street or {})["name"] == "First Street"  # 500 m off, but so says its address
    assert facts["Old Fountain"].street is None


def test_the_smallest_area_around_a_place(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    facts = drawn[2]
    assert (facts["School Kiosk"].area or {})["name"] == "Park School"
    assert (facts["Old Fountain"].area or {})["name"] == "Green Park"
    assert (facts["Park School"].area or {})["name"] == "Green Park"  # not itself
    assert facts["Corner Cafe"].area is None


def test_administration(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    facts = drawn[2]
    assert {k: v["name"] for k, v in facts["Corner Cafe"].admins.items()} == {8: "Testville", 10: "Old Town"}
    assert {k: v["name"] for k, v in facts["Old Fountain"].admins.items()} == {8: "Testville"}


def test_the_landmark_and_the_way_from_it(drawn: tuple[Extract, list[Place], dict[str, Facts]]) -> None:
    _, places, facts = drawn
    landmark = facts["Red Bar"].landmark or pytest.fail("no landmark")
    assert places[landmark.who].name == "Town Museum"
    assert landmark.metres == pytest.approx(np.hypot(30, 100), abs=0.2)
    assert landmark.bearing == pytest.approx(np.degrees(np.arctan2(-30, -100)) % 360, abs=0.1)
    museum = facts["Town Museum"].landmark
    assert museum is None or places[museum.who].name != "Town Museum"


def test_a_relation_with_a_hole_is_a_place_with_its_point_outside_the_hole(tmp_path: Path) -> None:
    town = small_town()
    outer, inner = town.way(square(2000, 0, 100), closed=True), town.way(square(2000, 0, 60), closed=True)
    relation = town.relation([outer], [inner], type="multipolygon", building="yes", name="Ring House")
    ring = next(p for p in distinct_places(read_extract(town.write(tmp_path / "t.osm"))) if p.name == "Ring House")
    assert ring.poi_id == f"r{relation}"
    shape = shapely.Polygon([town.at(*p) for p in square(2000, 0, 100)], [[town.at(*p) for p in square(2000, 0, 60)]])
    assert shape.contains(shapely.Point(ring.lng, ring.lat))


def test_one_place_drawn_twice_is_one_and_two_namesakes_are_two(tmp_path: Path) -> None:
    town = Town()
    town.way(square(0, 0, 20), closed=True, building="yes", name="Grand Hotel")
    hotel = town.node(5, 5, tourism="hotel", name="Grand Hotel")
    town.node(0, 60, highway="bus_stop", name="Main Stop")
    town.node(20, 60, public_transport="platform", name="Main  Stop")
    near, far = town.node(0, 200, shop="kiosk", name="Kiosk"), town.node(0, 1200, shop="kiosk", name="KIOSK")
    places = distinct_places(read_extract(town.write(tmp_path / "t.osm")))
    assert sorted(reads(p.name) for p in places) == ["grandhotel", "kiosk", "kiosk", "mainstop"]
    assert f"n{hotel}" in {p.poi_id for p in places}  # the hotel says more than the building
    assert {f"n{near}", f"n{far}"} <= {p.poi_id for p in places}
