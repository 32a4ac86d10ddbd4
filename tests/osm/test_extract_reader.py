"""Reading extracts: kept objects and tags, shapes, datums, progress, the node store; objects that are one place."""

from __future__ import annotations

import gc
import re
from collections import Counter
from pathlib import Path
from typing import Any

import osmium
import pytest
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum, wgs84_to_gcj02
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.osm import extract_reader
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import inner_points, read_extract
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.tags import KEPT_KEYS, NAME_PREFIX, category_of, is_named_area, part_category_of, part_ref
from m3gal_cli.text.normalise import reading_key
from tests.helpers.datums import gcj02_to_bd09
from tests.helpers.extracts import BENT, LNG0, Town, small_town, square
from tests.osm.conftest import ExtractPath, slow

REAL = ["helsinki", "nanjing_center", *slow("monaco", "liechtenstein", "beijing_tsinghua")]

Expected = dict[str, dict[str, tuple[dict[str, str], Any]]]


def read_without_filters(path: Path) -> Expected:
    """Return the expected objects by a pass over all objects and tags: list -> id -> (tags, shape)."""
    factory = osmium.geom.WKBFactory()
    found: Expected = {n: {} for n in ("places", "parts", "areas", "admins", "roads")}
    for entity in osmium.FileProcessor(str(path)).with_areas():
        tags = dict(entity.tags)
        named = bool(tags.get("name", "").strip())
        if entity.is_node():
            key, shape = f"n{entity.id}", shapely.Point(entity.location.lon, entity.location.lat)
        elif entity.is_area():
            key = f"{'w' if entity.from_way() else 'r'}{entity.orig_id()}"
            shape = shapely.from_wkb(bytes.fromhex(factory.create_multipolygon(entity)))
            if named and tags.get("boundary") == "administrative" and tags.get("admin_level", "").isdigit():
                found["admins"][key] = (tags, shape)
                continue
            if named and is_named_area(tags):
                found["areas"][key] = (tags, shape)
        elif entity.is_way() and (not entity.is_closed() or "highway" in tags):
            key = f"w{entity.id}"
            points = [(n.location.lon, n.location.lat) for n in entity.nodes if n.location.valid()]
            if len(set(points)) < 2:
                continue
            shape = shapely.LineString(points)
            if "highway" in tags and (shape.is_closed or category_of(tags) is None):
                if named:
                    found["roads"][key] = (tags, shape)
                continue
        else:
            continue
        if category_of(tags) is not None:
            found["places"][key] = (tags, shape)
        elif part_category_of(tags) is not None:
            found["parts"][key] = (tags, shape)
    return found


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, extract_path: ExtractPath) -> tuple[Expected, Extract]:
    path = extract_path(request.param)
    return read_without_filters(path), read_extract(path, batch=7)


def test_the_filters_lose_nothing_and_every_point_is_inside_its_shape(real: tuple[Expected, Extract]) -> None:
    expected, extract = real
    for name in ("places", "parts"):
        objects: list[Place] = getattr(extract, name)
        assert Counter(p.poi_id for p in objects) == Counter(expected[name].keys()), name
        for place in objects:
            tags, shape = expected[name][place.poi_id]
            assert place.category == (category_of(tags) or part_category_of(tags))
            kept = {k: v for k, v in tags.items() if k in KEPT_KEYS or k.startswith(NAME_PREFIX)}
            assert place.tags.items() <= kept.items()
            assert place.tags == kept or not place.name
            assert {k for k in kept if k.startswith("addr:")} <= place.tags.keys()
            point = shapely.Point(place.lng, place.lat)
            if shape.geom_type in ("Polygon", "MultiPolygon"):
                assert shape.contains(point), place.poi_id
            else:
                assert shape.distance(point) < 1e-9
    for name in ("areas", "admins"):
        assert {f.osm_id for f in getattr(extract, name)} == expected[name].keys()
        for feature in getattr(extract, name):
            assert shapely.equals(feature.shape, expected[name][feature.osm_id][1])
    assert len(extract.places) > 50
    assert len(extract.areas) > 5
    lines = [(tags["name"], shape) for tags, shape in expected["roads"].values()]
    assert len(extract.roads) == len(lines) > 50
    for tags, found, (name, shape) in zip(extract.roads.tags, extract.roads.lines(), lines, strict=True):
        assert tags["name"] == name
        assert shapely.remove_repeated_points(shape).equals_exact(found)  # osmium drops repeated points


def test_reading_keeps_every_tag_that_the_code_uses() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in Path(extract_reader.__file__).parent.glob("*.py"))
    keys = re.findall(
        r"""\b(?:tags|t)(?:\.get\(|\[)"([\w:]+)"|"([\w:]+)" (?:not )?in (?:\w+\.)?(?:tags|t)\b(?!\.)""", code
    )
    used = {one or other for one, other in keys}
    assert {"name", "addr:housenumber", "brand", "layer", "bridge", "wikidata"} <= used  # or the test finds nothing
    assert used <= KEPT_KEYS


def test_points_lie_inside_a_polygon_and_in_the_middle_of_a_line() -> None:
    """Real extracts have polygons with holes and of several pieces."""
    bent, line = shapely.Polygon(BENT), shapely.LineString([(0, 0), (4, 0), (4, 2)])
    *others, inside = inner_points([shapely.Point(3, 4), line, bent]).tolist()
    assert others == [[3, 4], [3, 0]]
    assert bent.contains(shapely.Point(inside))


def test_unnamed_parts_and_their_numbers() -> None:
    for tags, part, ref in (
        ({"barrier": "gate", "ref": " 3 "}, ("barrier", "gate"), "3"),
        ({"barrier": "gate", "name": "East Gate"}, None, ""),
        ({"amenity": "vending_machine", "vending": "parcel_mail_in;parcel_pickup"}, ("amenity", "parcel_locker"), ""),
        ({"building": "yes", "addr:unit": "4", "addr:housenumber": "9"}, ("building", "yes"), "4"),
        ({"building": "no", "ref": "1"}, None, "1"),
    ):
        assert (part_category_of(tags), part_ref(tags)) == (part, ref)


def test_broken_shapes_are_left_out_and_cut_streets_keep_the_part_inside(tmp_path: Path) -> None:
    town = Town()
    town.way([(0, 0), (10, 10), (10, 0), (0, 10)], closed=True, building="yes", name="Bow Tie")
    town.way([(0, 0), (10, 0), (20, 0)], closed=True, building="yes", name="Flat House")
    town.node(5, 5, amenity="cafe", name="Cafe")
    town.way([(0, 0), (100, 0), (200, 0)], highway="residential", name="Long Road")
    town.ways[-1] = town.ways[-1].replace("<tag", '<nd ref="77777"/><tag', 1)
    town.ways.append(
        '<way id="900"><nd ref="77777"/><nd ref="88888"/><tag k="highway" v="path"/><tag k="name" v="Out"/></way>'
    )
    extract = read_extract(town.write(tmp_path / "t.osm"))
    assert [p.name for p in extract.places] == ["Cafe"]
    (road,) = extract.roads.lines()
    assert len(road.coords) == 3
    assert road.coords[2] == pytest.approx(town.at(200, 0), abs=1e-7)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_every_object_is_converted_to_wgs84(tmp_path: Path, datum: Datum) -> None:
    class Shifted(Town):
        def at(self, east: float, north: float) -> tuple[float, float]:
            shifted = wgs84_to_gcj02(*super().at(east, north))
            x, y = gcj02_to_bd09(*shifted) if datum == "bd09" else shifted
            return float(x), float(y)

    def draw(town: Town) -> Path:
        town.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
        town.way(square(0, 300, 100), closed=True, amenity="school", name="学校")
        town.way(square(0, 0, 5000), closed=True, boundary="administrative", admin_level="6", name="西湖区")
        town.way(square(2000, 0, 500), closed=True, place="town", name="镇")
        town.node(50, 50, place="village", name="村")
        town.node(30, 40, barrier="gate")
        town.node(0, 700, shop="books", name="晓风书屋")
        return town.write(tmp_path / f"{type(town).__name__}.osm")

    true, back = read_extract(draw(Town(120.1, 30.28))), read_extract(path := draw(Shifted(120.1, 30.28)), datum)
    shapes = [(true.roads.lines()[0], back.roads.lines()[0])]
    for name in ("areas", "admins", "regions", "settlements"):
        shapes += [(getattr(true, name)[0].shape, getattr(back, name)[0].shape)]
    assert max(shapely.hausdorff_distance(*pair) for pair in shapes) < 1e-6  # degrees: a decimetre
    for one, two in zip([*true.places, *true.parts], [*back.places, *back.parts], strict=True):
        assert one.poi_id == two.poi_id
        assert haversine_m(one.lng, one.lat, two.lng, two.lat) < 0.1
    raw = read_extract(path).places[0]
    assert haversine_m(raw.lng, raw.lat, true.places[0].lng, true.places[0].lat) > 300


def test_progress_is_in_bytes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.osm.pbf"  # more blocks than osmium reads ahead
    writer = osmium.SimpleWriter(str(path))
    for n in range(1, 400_001):
        tags = {"amenity": "bench"} if n % 1000 == 0 else None
        writer.add_node(osmium.osm.mutable.Node(id=n, location=(n % 97 / 10, n % 89 / 10), tags=tags))
    writer.close()
    done: list[int] = []
    assert read_extract(path, progress=lambda _, n, total: done.append(n), progress_every=1).places == []
    size = path.stat().st_size
    assert (done[0], done[-1]) == (0, size)
    assert done == sorted(done)
    assert len({n for n in done if 0 < n < size}) >= 3


@pytest.mark.parametrize("dense_from_bytes", [100, 1e9])
def test_a_node_store_changes_nothing_and_is_removed_unless_it_existed(tmp_path: Path, dense_from_bytes: float) -> None:
    path, store = small_town().write(tmp_path / "t.osm"), tmp_path / "new" / "nodes.bin"
    stored = read_extract(path, node_store=store, dense_from_bytes=dense_from_bytes)
    assert stored.places == read_extract(path).places
    assert len(stored.roads) == 3
    assert store.parent.is_dir()
    assert not store.exists()
    assert gc.isenabled(), "it is disabled while an extract is read"
    (tmp_path / "a.osm.pbf").write_bytes(b"this is no map" * 50)
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_extract(tmp_path / "a.osm.pbf", node_store=store)
    assert not store.exists()
    store.write_bytes(b"mine")
    for other, message in ((store, "the node store exists already"), (store / "nodes.bin", "cannot write there")):
        with pytest.raises(InputError, match=message):
            read_extract(path, node_store=other)
    assert store.read_bytes() == b"mine"


def test_one_place_drawn_twice_is_one_and_two_namesakes_are_two(tmp_path: Path) -> None:
    town = Town()
    town.way(square(0, 0, 20), closed=True, building="yes", name="Grand Hotel")
    hotel = town.node(5, 5, tourism="hotel", name="Grand Hotel")
    town.node(0, 60, highway="bus_stop", name="Main Stop")
    town.node(20, 60, public_transport="platform", name="Main  Stop")
    near, far = town.node(0, 200, shop="kiosk", name="Kiosk"), town.node(0, 1200, shop="kiosk", name="KIOSK")
    places = deduplicate_places(read_extract(town.write(tmp_path / "t.osm")))
    assert sorted(reading_key(p.name) for p in places) == ["grandhotel", "kiosk", "kiosk", "mainstop"]
    assert f"n{hotel}" in {p.poi_id for p in places}  # the hotel is described better than the building
    assert {f"n{near}", f"n{far}"} <= {p.poi_id for p in places}


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
    places = deduplicate_places(read_extract(town.write(tmp_path / "t.osm")))
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
