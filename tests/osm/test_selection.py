"""Selections against loops over drawn places; shares of a limit against the whole."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import shapely

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import haversine_m
from m3gal_cli.osm.extract import Extract, read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.places import Place, distinct_places
from m3gal_cli.osm.selection import Selection, find_boundary, parse_bbox, parse_count, read_polygon, select_places
from tests.helpers.extracts import Town, square

KINDS = [("amenity", "cafe"), ("shop", "books"), ("tourism", "museum"), ("office", "lawyer")]


def scattered(n: int = 3000, seed: int = 3) -> list[Place]:
    """Places in three clumps of unlike density, kinds in unlike parts of them."""
    rng = np.random.default_rng(seed)
    clump = rng.choice(3, n, p=[0.7, 0.25, 0.05])
    lng = np.array([10.0, 10.4, 11.0])[clump] + rng.normal(0, 1, n) * np.array([0.01, 0.05, 0.2])[clump]
    lat = np.array([50.0, 50.1, 50.6])[clump] + rng.normal(0, 1, n) * np.array([0.01, 0.05, 0.2])[clump]
    kind = rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])
    return [Place(f"n{i}", {"name": f"P{i}"}, KINDS[kind[i]], float(lng[i]), float(lat[i])) for i in range(n)]


def refused(message: str, *args: object, **options: object) -> InputError:
    with pytest.raises(InputError, match=message) as caught:
        Selection(*args, **options).check()  # type: ignore[arg-type]
    assert len(caught.value.render().splitlines()) <= 2
    return caught.value


# ---- words to numbers ----


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("5000", 5000),
        ("100k", 100_000),
        ("2.5m", 2_500_000),
        ("1K", 1000),
        (" 7 ", 7),
        ("0.001M", 1000),
        ("1.5k", 1500),
    ],
)
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "k", "10kk", "1e3", "1,000", "0.0001k", "many", "0k", "nan"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(InputError, match="is not a number of places"):
        parse_count(text)


def test_a_box_is_west_south_east_north() -> None:
    assert parse_bbox("24.9,60.15, 24.99,60.2") == (24.9, 60.15, 24.99, 60.2)
    assert parse_bbox("-180,-90,180,90") == (-180, -90, 180, 90)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a bounding box"),
        ("1,2,3", "is not a bounding box"),
        ("1,2,3,4,5", "is not a bounding box"),
        ("a,b,c,d", "is not a bounding box"),
        ("nan,1,2,3", "leaves the globe"),
        ("0,0,inf,1", "leaves the globe"),
        ("0,-91,1,1", "leaves the globe"),
        ("170,0,181,1", "leaves the globe"),
        ("2,0,1,1", "is empty"),
        ("0,1,1,1", "is empty"),
        ("0,2,1,1", "is empty"),
    ],
)
def test_boxes_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_bbox(text)


# ---- where ----


def test_nothing_selected_is_everything() -> None:
    places = scattered(50)
    assert select_places(places, Extract(), Selection(), None, 1) == list(range(50))
    assert select_places([], Extract(), Selection(), None, 1) == []


def test_a_box_takes_what_lies_in_it_and_on_its_edge() -> None:
    places = scattered()
    places.append(Place("n_edge", {}, KINDS[0], 9.99, 50.0))
    box = (9.99, 49.99, 10.02, 50.01)
    expected = [i for i, p in enumerate(places) if 9.99 <= p.lng <= 10.02 and 49.99 <= p.lat <= 50.01]
    assert 100 < len(expected) < len(places)
    assert select_places(places, Extract(), Selection(bbox=box), None, 1) == expected
    assert len(places) - 1 in expected


TRIANGLE = [[9.98, 49.98], [10.03, 49.99], [10.0, 50.03], [9.98, 49.98]]
HOLE = [[9.995, 49.995], [10.005, 49.995], [10.005, 50.005], [9.995, 50.005], [9.995, 49.995]]
FAR = [[10.3, 50.0], [10.5, 50.0], [10.5, 50.2], [10.3, 50.2], [10.3, 50.0]]


def in_ring(x: float, y: float, ring: list[list[float]]) -> bool:
    """The even-odd rule."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise(ring):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


@pytest.mark.parametrize(
    ("data", "rings"),
    [
        ({"type": "Polygon", "coordinates": [TRIANGLE, HOLE]}, [TRIANGLE, HOLE]),
        ({"type": "MultiPolygon", "coordinates": [[TRIANGLE], [FAR]]}, [TRIANGLE, FAR]),
        ({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [FAR]}}, [FAR]),
        (
            {
                "type": "FeatureCollection",
                "features": [
                    {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [TRIANGLE]}},
                    {
                        "type": "Feature",
                        "geometry": {
                            "type": "GeometryCollection",
                            "geometries": [{"type": "Polygon", "coordinates": [FAR]}],
                        },
                    },
                ],
            },
            [TRIANGLE, FAR],
        ),
    ],
)
def test_polygons_of_every_wrapping(tmp_path: Path, data: dict[str, object], rings: list[list[list[float]]]) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps(data))
    Selection(polygon=path).check()
    places = scattered()
    expected = [i for i, p in enumerate(places) if sum(in_ring(p.lng, p.lat, ring) for ring in rings) % 2 == 1]
    assert 20 < len(expected) < len(places)
    assert select_places(places, Extract(), Selection(polygon=path), None, 1) == expected
    packed = tmp_path / "area.geojson.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert select_places(places, Extract(), Selection(polygon=packed), None, 1) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "something without a type"),
        ("null", "something without a type"),
        ('{"type": "Point", "coordinates": [1, 2]}', "a Point where"),
        ('{"type": "Feature", "geometry": null}', "something without a type"),
        ('{"type": "FeatureCollection"}', "a FeatureCollection where"),
        ('{"type": "FeatureCollection", "features": []}', "no polygon with an area"),
        ('{"type": "Polygon", "coordinates": []}', "no polygon with an area"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "broken Polygon"),
        ('{"type": "Polygon", "coordinates": "x"}', "a Polygon where"),
        ('{"type": "Polygon", "coordinates": [[["a", "b"], [1, 1], [0, 1], [0, 0]]]}', "broken Polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 1], [0, 0]]]}', "off the globe"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}', "no polygon with an area"),
        (
            '{"type": "Polygon", "crs": {"properties": {"name": "EPSG:3857"}}, "coordinates": []}',
            "another system than WGS-84",
        ),
    ],
)
def test_files_that_are_no_polygon(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(text)
    refused(message, polygon=path)


def test_polygon_files_that_are_not_there(tmp_path: Path) -> None:
    refused("no such GeoJSON file", polygon=tmp_path / "no.geojson")
    refused("is a folder", polygon=tmp_path)
    (tmp_path / "binary.geojson").write_bytes(b"\xff\xfe\x00")
    refused("is no JSON", polygon=tmp_path / "binary.geojson")


def test_the_union_of_polygons_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "two.geojson"
    boxes = [[[0, 0], [2, 0], [2, 1], [0, 1], [0, 0]], [[1, 0], [3, 0], [3, 1], [1, 1], [1, 0]]]
    path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": [[b] for b in boxes]}))
    assert read_polygon(path).area == pytest.approx(3.0)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, list[Place]]:
    """A county with two towns, each with a Station Road; a village twice; a park; a town that has but a polygon."""
    town = Town()
    town.way(square(0, 0, 9000), closed=True, boundary="administrative", admin_level="6", name="Shire", name__xx="Gau")
    for name, east in (("Westham", -4000), ("Eastham", 4000)):
        town.way(square(east, 0, 2000), closed=True, boundary="administrative", admin_level="8", name=name)
        town.way([(east - 500, 0), (east + 500, 0)], highway="residential", name=f"{name} Road")
        for n in range(4):
            town.node(east + 100 * n, 50, shop="kiosk", name=f"{name} Kiosk {n}")
    for north in (-5000, 5000):
        town.way(square(0, north, 300), closed=True, boundary="administrative", admin_level="10", name="Twin")
        town.node(0, north, amenity="pub", name=f"Pub {'north' if north > 0 else 'south'}")
    town.way(square(0, 0, 400), closed=True, leisure="park", name="Royal Park", alt_name="The Green;Crown Park")
    town.node(0, 0, amenity="fountain", name="Lion")
    town.way(square(6500, 6500, 800), closed=True, place="town", name="Newton", name__zh="新屯")
    town.node(6500, 6500, amenity="cafe", name="New Cafe")
    town.way(square(0, 0, 9000), closed=True, boundary="administrative", admin_level="5", name="GRAND SHIRE;Gross-Gau")
    extract = read_extract(town.write(tmp_path_factory.mktemp("realm") / "realm.osm"))
    return extract, distinct_places(extract)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("Westham", {f"Westham Kiosk {n}" for n in range(4)}),
        ("  EASTHAM ", {f"Eastham Kiosk {n}" for n in range(4)}),
        ("royal park", {"Lion", "Royal Park"}),
        ("crown park", {"Lion", "Royal Park"}),
        ("Newton", {"New Cafe", "Newton"}),
        ("新屯", {"New Cafe", "Newton"}),
    ],
)
def test_a_boundary_by_name(realm: tuple[Extract, list[Place]], name: str, inside: set[str]) -> None:
    extract, places = realm
    rows = select_places(places, extract, Selection(place=name), None, 1)
    assert {places[row].name for row in rows} == inside
    assert rows == sorted(rows)


@pytest.mark.parametrize("name", ["Gau", "shire", "grand shire", "Gross-Gau"])
def test_a_county_holds_all(realm: tuple[Extract, list[Place]], name: str) -> None:
    extract, places = realm
    assert select_places(places, extract, Selection(place=name), None, 1) == list(range(len(places)))


def test_two_boundaries_of_one_name_are_told_apart_by_id(realm: tuple[Extract, list[Place]]) -> None:
    extract, places = realm
    with pytest.raises(InputError, match="several boundaries are called 'twin': w") as caught:
        find_boundary(extract, "twin")
    one = next(a for a in extract.admins if a.tags["name"] == "Twin")
    assert one.osm_id in str(caught.value)
    rows = select_places(places, extract, Selection(place=one.osm_id.upper()), None, 1)
    assert [places[row].name for row in rows] == ["Pub south"]


def test_an_unknown_boundary_gets_a_hint(realm: tuple[Extract, list[Place]]) -> None:
    with pytest.raises(InputError, match="no boundary of the extract is called 'Westhan'") as caught:
        find_boundary(realm[0], "Westhan")
    assert "Westham" in (caught.value.hint or "")
    with pytest.raises(InputError, match="no boundary"):
        find_boundary(Extract(), "Anything")
    refused("is empty", place="  ")


def test_all_that_is_given_must_be_met(realm: tuple[Extract, list[Place]]) -> None:
    extract, places = realm
    west = (9.0, 49.0, 10.0, 51.0)  # the west half
    names = {places[row].name for row in select_places(places, extract, Selection(bbox=west, place="Shire"), None, 1)}
    assert {f"Westham Kiosk {n}" for n in range(4)} <= names
    assert not any("Eastham" in name for name in names)
    with pytest.raises(InputError, match="nothing of the extract is selected") as caught:
        select_places(places, extract, Selection(bbox=west, place="Eastham"), None, 1)
    assert "Its places lie in 9.9" in (caught.value.hint or "")


def test_what_lies_outside_still_counts(realm: tuple[Extract, list[Place]]) -> None:
    """Choosing rows changes no fact: the facts are gathered over the whole extract."""
    extract, places = realm
    rows = select_places(places, extract, Selection(place="Westham"), None, 1)
    facts = gather_facts(places, extract, [False] * len(places))
    assert {(facts[row].street or {})["name"] for row in rows} == {"Westham Road"}
    assert {facts[row].admins[6]["name"] for row in rows} == {"Shire"}


def test_a_window_holds_all_that_can_be_told(tmp_path: Path) -> None:
    """Of three towns far apart one is read, and its places have the facts that they have when all is read."""
    town = Town()
    for n, lat in enumerate((-41.0, 0.5, 69.6)):
        town.lng0, town.lat0 = 10.0 + 7 * n, lat
        letter = "ABC"[n]
        town.way([(-900, 0), (900, 0)], highway="residential", name=f"First Street {letter}")
        town.way([(0, -900), (0, 900)], highway="residential", name=f"Second Street {letter}")
        town.way(square(0, 0, 20_000), closed=True, boundary="administrative", admin_level="6", name=f"County {letter}")
        town.way(square(7, -5, 100), closed=True, leisure="park", name=f"Park {letter}")
        town.node(19_000, 0, place="city", name=f"City {letter}")
        town.node(0, 90, barrier="gate")
        for k in range(5):
            town.node(40 * k, 40 * k, amenity="cafe", name=f"Cafe {letter}{k}")
    path = town.write(tmp_path / "c.osm")
    whole = read_extract(path)
    places = distinct_places(whole)
    facts = dict(zip((p.poi_id for p in places), gather_facts(places, whole, [False] * len(places)), strict=True))
    for n, lat in enumerate((-41.0, 0.5, 69.6)):
        selection = Selection(bbox=(9.9 + 7 * n, lat - 0.1, 10.1 + 7 * n, lat + 0.1))
        cut = read_extract(path, window=selection.window())
        names = {a.tags["name"] for a in [*cut.admins, *cut.areas, *cut.settlements]}
        assert names == {f"{kind} {'ABC'[n]}" for kind in ("County", "Park", "City")}
        assert (len(cut.roads), len(cut.parts), len(cut.places)) == (2, 1, 6)
        inside = distinct_places(cut)
        assert len(inside) == 7
        for place, found in zip(inside, gather_facts(inside, cut, [False] * 7), strict=True):
            full = facts[place.poi_id]
            assert (found.street, found.area_id, found.admins) == (full.street, full.area_id, full.admins)
            assert found.neighbour is not None
            assert (found.landmark is None) == (place.category[0] == "leisure")  # the only one, and no other's
            assert (found.city or {})["name"] == (full.city or {})["name"] == f"City {'ABC'[n]}"
            for one, two in ((found.landmark, full.landmark), (found.neighbour, full.neighbour)):
                assert (one is None) == (two is None)
                assert (
                    one is None
                    or two is None
                    or (one.poi_id, one.metres) == (two.poi_id, pytest.approx(two.metres, abs=1e-6))
                )


def test_a_window_is_the_box_with_a_margin_in_metres(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [FAR]}))
    assert Selection().window() is None
    assert Selection(place="Shire").window() is None
    for selection, box in (
        (Selection(bbox=(10.0, 50.0, 11.0, 51.0)), (10.0, 50.0, 11.0, 51.0)),
        (Selection(polygon=path), (10.3, 50.0, 10.5, 50.2)),
        (Selection(bbox=(10.4, 49.0, 12.0, 50.1), polygon=path), (10.4, 50.0, 10.5, 50.1)),
        (Selection(bbox=(-70.0, -60.0, -69.0, -55.0)), (-70.0, -60.0, -69.0, -55.0)),
    ):
        west, south, east, north = selection.window() or pytest.fail("no window")
        assert haversine_m(box[0], box[1], box[0], south) == pytest.approx(25_000, rel=1e-6)
        assert haversine_m(box[2], box[3], box[2], north) == pytest.approx(25_000, rel=1e-6)
        for lat in (south, north):  # at least that far at either end
            assert haversine_m(west, lat, box[0], lat) > 24_950
            assert haversine_m(box[2], lat, east, lat) > 24_950


def test_a_window_is_in_wgs84_whatever_the_datum(tmp_path: Path) -> None:
    town = Town(120.1, 30.28)
    for east in (-300, 0, 300):
        town.node(east, 0, amenity="cafe", name=f"Cafe {east}")
    path = town.write(tmp_path / "t.osm")
    true = read_extract(path, "gcj02").places[1]
    around = (true.lng - 1e-4, true.lat - 1e-4, true.lng + 1e-4, true.lat + 1e-4)
    assert [p.name for p in read_extract(path, "gcj02", window=around).places] == ["Cafe 0"]
    assert read_extract(path, window=around).places == []


# ---- how many ----


@pytest.mark.parametrize("limit", [1, 2, 10, 137, 1000, 2999])
def test_a_limit_is_met_exactly_and_in_order(limit: int) -> None:
    rows = select_places(scattered(), Extract(), Selection(), limit, 5)
    assert len(rows) == len(set(rows)) == limit
    assert rows == sorted(rows)


@pytest.mark.parametrize("limit", [3000, 3001, 10**9])
def test_a_limit_above_all_takes_all(limit: int) -> None:
    assert select_places(scattered(), Extract(), Selection(), limit, 5) == list(range(3000))


@pytest.mark.parametrize("limit", [30, 300, 1500])
def test_every_kind_gets_its_share(limit: int) -> None:
    places = scattered()
    rows = select_places(places, Extract(), Selection(), limit, 5)
    whole, chosen = (Counter(p.category for p in some) for some in (places, [places[row] for row in rows]))
    for kind, count in whole.items():
        assert abs(chosen[kind] - count * limit / len(places)) < 1


def halves(places: list[Place], rows: np.ndarray, depth: int) -> list[np.ndarray]:
    """Cells of a k-d tree, made anew: by the longer side on the ground, at the middle place."""
    if depth == 0:
        return [rows]
    spots = np.array([(places[r].lng * np.cos(np.radians(50.0)), places[r].lat) for r in rows])
    axis = int(np.argmax(np.ptp(spots, axis=0)))
    rows = rows[np.argsort(spots[:, axis], kind="stable")]
    cut = len(rows) // 2
    return halves(places, rows[:cut], depth - 1) + halves(places, rows[cut:], depth - 1)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("limit", [100, 900])
def test_every_cell_gets_its_share_of_every_kind(limit: int, seed: int) -> None:
    places = scattered()
    picked = set(select_places(places, Extract(), Selection(), limit, seed))
    share = {kind: sum(places[r].category == kind for r in picked) for kind in KINDS}
    total = Counter(p.category for p in places)
    for depth in (1, 3, 5):
        for cell in halves(places, np.arange(len(places)), depth):
            for kind in KINDS:
                members = [int(r) for r in cell if places[r].category == kind]
                wanted = len(members) * share[kind] / total[kind]
                assert abs(len(picked.intersection(members)) - wanted) <= 1.5


def test_the_seed_chooses_and_nothing_else_does() -> None:
    places = scattered()
    first = select_places(places, Extract(), Selection(), 200, 1)
    assert first == select_places(places, Extract(), Selection(), 200, 1)
    other = select_places(places, Extract(), Selection(), 200, 2)
    assert len(set(first) & set(other)) < 60


def test_a_limit_counts_what_is_selected() -> None:
    places = scattered()
    box = (9.99, 49.99, 10.02, 50.01)
    inside = select_places(places, Extract(), Selection(bbox=box), None, 1)
    rows = select_places(places, Extract(), Selection(bbox=box), 100, 1)
    assert len(rows) == 100
    assert set(rows) < set(inside)


def test_places_on_one_spot_can_be_limited() -> None:
    places = [Place(f"n{i}", {}, KINDS[0], 10.0, 50.0) for i in range(500)]
    assert len(select_places(places, Extract(), Selection(), 77, 1)) == 77


def test_a_limit_below_one() -> None:
    with pytest.raises(InputError, match="limit must be at least 1"):
        select_places(scattered(5), Extract(), Selection(), 0, 1)


def test_real_boundaries(shared: Path) -> None:
    extract = read_extract(shared / "data" / "osm" / "liechtenstein.osm.pbf")
    places = distinct_places(extract)
    vaduz = next(a for a in extract.admins if a.tags["name"] == "Vaduz")
    rows = select_places(places, extract, Selection(place="vaduz"), None, 1)
    assert rows == [i for i, p in enumerate(places) if vaduz.shape.contains(shapely.Point(p.lng, p.lat))]
    assert len(rows) > 100
    assert len(select_places(places, extract, Selection(place="Fürstentum Liechtenstein"), None, 1)) > 1000
