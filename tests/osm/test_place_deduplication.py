"""Deduplication: OSM objects that are one place, and unnamed parts of compounds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import shapely

from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.tags import part_ref
from m3gal_cli.text.normalise import reading_key
from tests.helpers.extracts import LNG0, Town, small_town, square


def places_of(town: Town, tmp_path: Path) -> list[Place]:
    return deduplicate_places(read_extract(town.write(tmp_path / "t.osm")))


def test_one_place_drawn_twice_is_one_and_two_namesakes_are_two(tmp_path: Path) -> None:
    town = Town()
    town.way(square(0, 0, 20), closed=True, building="yes", name="Grand Hotel")
    hotel = town.node(5, 5, tourism="hotel", name="Grand Hotel")
    town.node(0, 60, highway="bus_stop", name="Main Stop")
    town.node(20, 60, public_transport="platform", name="Main  Stop")
    near, far = town.node(0, 200, shop="kiosk", name="Kiosk"), town.node(0, 1200, shop="kiosk", name="KIOSK")
    places = places_of(town, tmp_path)
    assert sorted(reading_key(p.name) for p in places) == ["grandhotel", "kiosk", "kiosk", "mainstop"]
    assert f"n{hotel}" in {p.poi_id for p in places}  # the hotel is described better than the building
    assert {f"n{near}", f"n{far}"} <= {p.poi_id for p in places}


def test_a_relation_with_a_hole_has_its_point_outside_the_hole(tmp_path: Path) -> None:
    town = small_town()
    outer, inner = town.way(square(2000, 0, 100), closed=True), town.way(square(2000, 0, 60), closed=True)
    relation = town.relation([outer], [inner], type="multipolygon", building="yes", name="Ring House")
    ring = next(p for p in places_of(town, tmp_path) if p.name == "Ring House")
    assert ring.poi_id == f"r{relation}"
    shape = shapely.Polygon([town.at(*p) for p in square(2000, 0, 100)], [[town.at(*p) for p in square(2000, 0, 60)]])
    assert shape.contains(shapely.Point(ring.lng, ring.lat))


def test_unnamed_parts_with_different_kind_direction_or_number_are_places(tmp_path: Path) -> None:
    town = Town()
    town.way(square(0, 0, 100), closed=True, landuse="residential", name="Sunny Court")
    town.way(square(60, -60, 15), closed=True, building="apartments", ref="3")
    town.way(square(-60, -60, 15), closed=True, building="apartments", ref="4")
    town.way(square(-60, 60, 15), closed=True, building="apartments")
    for east, north, more in ((0, 100, {}), (5, 99, {}), (115, 0, {}), (125, 0, {"ref": "9"}), (-100, 0, {"ref": "W"})):
        town.node(east, north, barrier="gate", **more)
    town.node(3, 98, entrance="main")  # the north gate again, better described
    town.node(-97, 2, barrier="gate", ref="w")  # the same number as W
    town.node(-97, 4, barrier="gate")
    town.node(0, -95, entrance="staircase", ref="B")
    town.node(40, 5, amenity="parking")
    town.node(500, 500, amenity="parking")  # in no area
    town.node(20, 20, amenity="bench")
    places = places_of(town, tmp_path)
    assert places[0].name == "Sunny Court"
    assert all(p.is_unnamed_part and p.name == p.label == "" for p in places[1:])
    scale = town.at(1, 0)[0] - LNG0
    assert Counter((p.category, part_ref(p.tags), round((p.lng - LNG0) / scale)) for p in places[1:]) == Counter(
        [
            (("entrance", "main"), "", 3),
            (("barrier", "gate"), "", 115),
            (("barrier", "gate"), "W", -100),
            (("barrier", "gate"), "", -97),
            (("entrance", "staircase"), "B", 0),
            (("amenity", "parking"), "", 40),
            (("building", "apartments"), "3", 60),
            (("building", "apartments"), "4", -60),
        ]
    )
