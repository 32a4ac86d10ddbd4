"""Reading: what is kept and what is passed over, shapes, datums, progress by bytes, the node store, parts."""

from __future__ import annotations

import ast
import gc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import osmium
import pytest
import shapely

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import Datum, gcj02_to_bd09, haversine_m, wgs84_to_gcj02
from m3gal_cli.osm import extract as module
from m3gal_cli.osm.extract import Extract, inner_points, read_extract
from m3gal_cli.osm.places import Place, distinct_places
from m3gal_cli.osm.tags import KEPT, NAME_PREFIX, category_of, is_named_area, part_of, part_ref
from tests.helpers.extracts import BENT, LNG0, Town, small_town, square

REAL = ["helsinki", "monaco", "liechtenstein", "nanjing_center", "beijing_tsinghua"]


Plain = dict[str, dict[str, tuple[dict[str, str], Any]]]


def plainly(path: Path) -> Plain:
    """What reading must find, by a pass without filters over all tags: list -> id -> (tags, shape)."""
    factory = osmium.geom.WKBFactory()
    found: Plain = {n: {} for n in ("places", "parts", "areas", "admins")}
    found["roads"] = {}
    for thing in osmium.FileProcessor(str(path)).with_areas():
        tags = dict(thing.tags)
        named = bool(tags.get("name", "").strip())
        if thing.is_node():
            key, shape = f"n{thing.id}", shapely.Point(thing.location.lon, thing.location.lat)
        elif thing.is_area():
            key = f"{'w' if thing.from_way() else 'r'}{thing.orig_id()}"
            shape = shapely.from_wkb(bytes.fromhex(factory.create_multipolygon(thing)))
            if named and tags.get("boundary") == "administrative" and tags.get("admin_level", "").isdigit():
                found["admins"][key] = (tags, shape)
                continue
            if named and is_named_area(tags):
                found["areas"][key] = (tags, shape)
        elif thing.is_way() and (not thing.is_closed() or "highway" in tags):
            key = f"w{thing.id}"
            spots = [(n.location.lon, n.location.lat) for n in thing.nodes if n.location.valid()]
            if len(set(spots)) < 2:
                continue
            shape = shapely.LineString(spots)
            if "highway" in tags and (shape.is_closed or category_of(tags) is None):
                if named:
                    found["roads"][key] = (tags, shape)
                continue
        else:
            continue
        if category_of(tags) is not None:
            found["places"][key] = (tags, shape)
        elif part_of(tags) is not None:
            found["parts"][key] = (tags, shape)
    return found


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plain, Extract]:
    if request.param == "helsinki":
        path = copy_sample(tmp_path_factory.mktemp("sample"))
    else:
        path = request.getfixturevalue("shared") / "data" / "osm" / f"{request.param}.osm.pbf"
    return plainly(path), read_extract(path)


def test_the_filters_lose_nothing_and_every_point_is_inside_its_shape(real: tuple[Plain, Extract]) -> None:
    expected, extract = real
    for name in ("places", "parts"):
        things: list[Place] = getattr(extract, name)
        assert Counter(p.poi_id for p in things) == Counter(expected[name].keys()), name
        for place in things:
            tags, shape = expected[name][place.poi_id]
            assert place.category == (category_of(tags) or part_of(tags))
            assert place.tags.items() <= tags.items()
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


def test_roads_are_those_of_a_plain_pass(real: tuple[Plain, Extract]) -> None:
    expected, extract = real
    lines = [(tags["name"], shape) for tags, shape in expected["roads"].values()]
    assert len(extract.roads) == len(lines) > 50
    for tags, found, (name, shape) in zip(extract.roads.tags, extract.roads.lines(), lines, strict=True):
        assert tags["name"] == name
        assert shapely.remove_repeated_points(shape).equals_exact(found)  # osmium leaves out a point that comes twice


def test_named_things_keep_the_tags_that_somebody_reads(real: tuple[Plain, Extract]) -> None:
    expected, extract = real[0]["places"], real[1]
    named = [p for p in extract.places if p.name]
    for place in named:
        full = expected[place.poi_id][0]
        assert place.tags == {k: v for k, v in full.items() if k in KEPT or k.startswith(NAME_PREFIX)}
    for place in extract.places:
        full = expected[place.poi_id][0]
        assert {k: v for k, v in place.tags.items() if k.startswith("addr:")} == {
            k: v for k, v in full.items() if k.startswith("addr:") and k in KEPT
        }


def literals(path: Path) -> set[str]:
    """The texts that a file looks up in something that is called like tags: tags.get("x"), tags["x"], "x" in tags."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            owner, keys = node.func.value, node.args[:1]
        elif isinstance(node, ast.Subscript):
            owner, keys = node.value, [node.slice]
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            owner, keys = node.comparators[0], [node.left]
        else:
            continue
        name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
        if name in ("tags", "t"):
            found |= {k.value for k in keys if isinstance(k, ast.Constant) and isinstance(k.value, str)}
    return found


def test_no_code_reads_a_tag_that_reading_drops() -> None:
    folder = Path(module.__file__).parent
    read = {key: path.name for path in folder.glob("*.py") for key in literals(path)}
    assert {"name", "addr:housenumber", "brand", "layer", "wikidata"} <= read.keys()  # or the test sees nothing
    assert {key: file for key, file in read.items() if key not in KEPT} == {}


# ---- shapes ----


@pytest.mark.parametrize(
    "shape",
    [
        shapely.Polygon(BENT),
        shapely.Polygon(square(0, 0, 9), [square(0, 0, 8)]),
        shapely.MultiPolygon([shapely.Polygon(square(0, 0, 1)), shapely.Polygon(square(9, 0, 1))]),
        shapely.Polygon([(0, 0), (10, 0), (10, 0.001), (5, 0.0005), (0, 10)]),
    ],
)
def test_a_point_inside_where_the_centroid_is_not(shape: shapely.Geometry) -> None:
    assert not shape.contains(shape.centroid) or shape.geom_type == "Polygon"
    ((x, y),) = inner_points([shape])
    assert shape.contains(shapely.Point(x, y))


def test_points_of_points_lines_and_nothing() -> None:
    line = shapely.LineString([(0, 0), (4, 0), (4, 2)])
    assert inner_points([shapely.Point(3, 4), line]).tolist() == [[3, 4], [3, 0]]
    assert inner_points([]).shape == (0, 2)


def test_shapes_that_are_none_are_left_out(tmp_path: Path) -> None:
    town = Town()
    town.way([(0, 0), (10, 10), (10, 0), (0, 10)], closed=True, building="yes", name="Bow Tie")
    town.way([(0, 0), (10, 0), (20, 0)], closed=True, building="yes", name="Flat House")
    town.ways.append(
        '<way id="900"><nd ref="77777"/><nd ref="88888"/><tag k="highway" v="path"/><tag k="name" v="Out"/></way>'
    )
    town.node(5, 5, amenity="cafe", name="Cafe")
    extract = read_extract(town.write(tmp_path / "t.osm"))
    assert [p.name for p in extract.places] == ["Cafe"]
    assert len(extract.roads) == 0


def test_a_street_that_leaves_the_extract_keeps_what_is_inside(tmp_path: Path) -> None:
    town = Town()
    town.way([(0, 0), (100, 0), (200, 0)], highway="residential", name="Long Road")
    town.ways[-1] = town.ways[-1].replace("<tag", '<nd ref="77777"/><tag', 1)
    (road,) = read_extract(town.write(tmp_path / "t.osm")).roads.lines()
    assert len(road.coords) == 3
    assert road.coords[2] == pytest.approx(town.at(200, 0), abs=1e-7)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_everything_is_converted_at_the_door(tmp_path: Path, datum: Datum) -> None:
    def shift(lng: float, lat: float) -> tuple[float, float]:
        x, y = wgs84_to_gcj02(lng, lat)
        x, y = gcj02_to_bd09(x, y) if datum == "bd09" else (x, y)
        return float(x), float(y)

    class Shifted(Town):
        def at(self, east: float, north: float) -> tuple[float, float]:
            return shift(*super().at(east, north))

    def draw(town: Town) -> Town:
        town.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
        town.way(square(0, 300, 100), closed=True, amenity="school", name="学校")
        town.way(square(0, 0, 5000), closed=True, boundary="administrative", admin_level="6", name="西湖区")
        town.way(square(2000, 0, 500), closed=True, place="town", name="镇")
        town.node(50, 50, place="village", name="村")
        town.node(30, 40, barrier="gate")
        town.node(0, 700, shop="books", name="晓风书屋")
        return town

    true = read_extract(draw(Town(120.1, 30.28)).write(tmp_path / "true.osm"))
    back = read_extract(draw(Shifted(120.1, 30.28)).write(tmp_path / "shifted.osm"), datum)
    assert shapely.hausdorff_distance(true.roads.lines()[0], back.roads.lines()[0]) < 1e-6
    for name in ("areas", "admins", "regions", "settlements"):
        one, two = getattr(true, name)[0].shape, getattr(back, name)[0].shape
        assert shapely.hausdorff_distance(one, two) < 1e-6, name  # degrees: a decimetre
    for name in ("places", "parts"):
        for one, two in zip(getattr(true, name), getattr(back, name), strict=True):
            assert one.poi_id == two.poi_id
            assert haversine_m(one.lng, one.lat, two.lng, two.lat) < 0.1
    raw = read_extract(tmp_path / "shifted.osm").places[0]
    assert haversine_m(raw.lng, raw.lat, true.places[0].lng, true.places[0].lat) > 300


# ---- progress, memory, files ----


def test_progress_goes_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 1)
    plain = tmp_path / "nodes.osm.pbf"  # more blocks than osmium reads ahead
    writer = osmium.SimpleWriter(str(plain))
    for n in range(1, 400_001):
        tags = {"amenity": "bench"} if n % 1000 == 0 else None
        writer.add_node(osmium.osm.mutable.Node(id=n, location=(n % 97 / 10, n % 89 / 10), tags=tags))
    writer.close()
    told: list[tuple[str, int, int]] = []
    assert read_extract(plain, progress=lambda *step: told.append(step)).places == []
    size = plain.stat().st_size
    assert {(step, total) for step, _, total in told} == {("reading", size)}
    done = [n for _, n, _ in told]
    assert (done[0], done[-1]) == (0, size)
    assert done == sorted(done)
    assert len({n for n in done if 0 < n < size}) >= 3


def test_the_node_store_changes_nothing_and_goes_in_the_end(tmp_path: Path) -> None:
    path = small_town().write(tmp_path / "t.osm")
    store = tmp_path / "new" / "nodes.bin"
    there = []
    found = read_extract(path, node_store=store, progress=lambda *step: there.append(store.exists()))
    assert there[0]
    assert not store.exists()
    assert found.places == read_extract(path).places
    assert [a.shape.wkt for a in found.areas] == [a.shape.wkt for a in read_extract(path).areas]
    assert len(found.roads) == 3


def test_a_planet_gets_an_array_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_town().write(tmp_path / "t.osm")
    kinds: list[str] = []
    make = osmium.index.create_map
    monkeypatch.setattr(osmium.index, "create_map", lambda kind: kinds.append(kind) or make(kind))
    read_extract(path, node_store=tmp_path / "a.bin")
    monkeypatch.setattr(module, "DENSE_FROM_BYTES", 100)
    dense = read_extract(path, node_store=tmp_path / "b.bin")
    read_extract(path)
    assert [kind.partition(",")[0] for kind in kinds] == ["sparse_file_array", "dense_file_array", "flex_mem"]
    assert dense.places == read_extract(path).places


def test_a_node_store_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = small_town().write(tmp_path / "t.osm")
    (tmp_path / "precious.bin").write_bytes(b"mine")
    with pytest.raises(InputError, match="the node store exists already"):
        read_extract(path, node_store=tmp_path / "precious.bin")
    assert (tmp_path / "precious.bin").read_bytes() == b"mine"
    with pytest.raises(InputError, match="cannot write there"):
        read_extract(path, node_store=tmp_path / "precious.bin" / "nodes.bin")


def test_a_broken_extract_leaves_no_node_store(tmp_path: Path) -> None:
    (tmp_path / "a.osm.pbf").write_bytes(b"this is no map" * 50)
    with pytest.raises(InputError, match="truncated or corrupt"):
        read_extract(tmp_path / "a.osm.pbf", node_store=tmp_path / "nodes.bin")
    assert not (tmp_path / "nodes.bin").exists()
    assert gc.isenabled()


def test_the_collector_of_cycles_is_as_before(tmp_path: Path) -> None:
    path = small_town().write(tmp_path / "t.osm")
    on = []
    read_extract(path, progress=lambda *step: on.append(gc.isenabled()))
    assert (on[0], gc.isenabled()) == (False, True)
    gc.disable()
    try:
        read_extract(path)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_pieces_of_a_street_share_their_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)  # several batches
    town = Town()
    drawn = [[(0, 0), (10 * n + 5, 0), (10 * n + 5, 7)][: 2 + n % 2] for n in range(7)]
    for n, points in enumerate(drawn):
        town.way(points, highway="residential", name=f"Road {n // 2}", layer="1")
    roads = read_extract(town.write(tmp_path / "t.osm")).roads
    assert len(roads) == len(roads.tags) == len(roads.lines()) == 7
    for line, points in zip(roads.lines(), drawn, strict=True):
        assert np.allclose(shapely.get_coordinates(line), [town.at(*p) for p in points], atol=1e-7, rtol=0)
    assert [tags["name"] for tags in roads.tags] == [f"Road {n // 2}" for n in range(7)]
    assert len({id(tags) for tags in roads.tags}) == 4
    assert roads.coordinates()[1].tolist() == [len(points) for points in drawn]


# ---- parts of compounds without a name ----


@pytest.mark.parametrize(
    ("tags", "part", "ref"),
    [
        ({"barrier": "gate"}, ("barrier", "gate"), ""),
        ({"barrier": "gate", "ref": " 3 "}, ("barrier", "gate"), "3"),
        ({"barrier": "fence"}, None, ""),
        ({"barrier": "gate", "name": "East Gate"}, None, ""),
        ({"entrance": "main", "barrier": "gate"}, ("entrance", "main"), ""),
        ({"entrance": "emergency"}, None, ""),
        ({"amenity": "parking"}, ("amenity", "parking"), ""),
        ({"amenity": "bench"}, None, ""),
        ({"amenity": "parcel_locker"}, ("amenity", "parcel_locker"), ""),
        ({"amenity": "vending_machine", "vending": "parcel_mail_in;parcel_pickup"}, ("amenity", "parcel_locker"), ""),
        ({"amenity": "vending_machine", "vending": "parking_tickets"}, None, ""),
        ({"building": "yes", "ref": "B"}, ("building", "yes"), "B"),
        ({"building": "apartments", "addr:housename": "12"}, ("building", "apartments"), "12"),
        ({"building": "yes", "addr:unit": "4", "addr:housenumber": "9"}, ("building", "yes"), "4"),
        ({"building": "yes"}, None, ""),
        ({"building": "no", "ref": "1"}, None, "1"),
    ],
)
def test_what_is_a_part(tags: dict[str, str], part: tuple[str, str] | None, ref: str) -> None:
    assert part_of(tags) == part
    assert part_ref(tags) == ref


def compound() -> Town:
    """A compound of 200 m with gates north and east, and things that cannot be told from them, or lie elsewhere."""
    town = Town()
    town.way(square(0, 0, 100), closed=True, landuse="residential", name="Sunny Court")
    town.way(square(60, -60, 15), closed=True, building="apartments", ref="3")
    town.way(square(-60, -60, 15), closed=True, building="apartments", ref="4")
    town.way(square(-60, 60, 15), closed=True, building="apartments")
    for east, north, more in ((0, 100, {}), (5, 99, {}), (115, 0, {}), (125, 0, {"ref": "9"}), (-100, 0, {"ref": "W"})):
        town.node(east, north, barrier="gate", **more)
    town.node(3, 98, entrance="main")  # of the north gate's kind and direction, and tells more
    town.node(-97, 2, barrier="gate", ref="w")  # reads like the other W
    town.node(-97, 4, barrier="gate")
    town.node(0, -95, entrance="staircase", ref="B")
    town.node(40, 5, amenity="parking")
    town.node(500, 500, amenity="parking")
    town.node(20, 20, amenity="bench")
    return town


def test_parts_that_can_be_told_apart_are_places(tmp_path: Path) -> None:
    places = distinct_places(read_extract(compound().write(tmp_path / "t.osm")))
    assert places[0].name == "Sunny Court"
    town = Town()
    told = Counter(
        (p.category, part_ref(p.tags), round((p.lng - LNG0) / (town.at(1, 0)[0] - LNG0))) for p in places if p.is_part
    )
    assert told == Counter(
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
    assert all(p.name == p.reading == "" for p in places if p.is_part)


def test_parts_come_after_the_named_and_need_an_area(tmp_path: Path) -> None:
    town = Town()
    town.node(0, 0, barrier="gate")
    town.node(0, 50, amenity="cafe", name="Cafe")
    extract = read_extract(town.write(tmp_path / "t.osm"))
    assert len(extract.parts) == 1
    assert [p.name for p in distinct_places(extract)] == ["Cafe"]
    named = distinct_places(read_extract(compound().write(tmp_path / "c.osm")))
    assert [p.is_part for p in named] == [False] + [True] * (len(named) - 1)
