"""Selections against loops over drawn places; shares of a limit against the whole."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import Facts, gather_facts
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.selection import Selection, find_boundary, limit_places, parse_count, select_places
from tests.helpers.extracts import Town, square, three_towns

KINDS = [("amenity", "cafe"), ("shop", "books"), ("tourism", "museum"), ("office", "lawyer")]


def scattered(n: int = 3000, seed: int = 3) -> list[Place]:
    """Return places in three clusters of different density, with different shares of kinds."""
    rng = np.random.default_rng(seed)
    cluster = rng.choice(3, n, p=[0.7, 0.25, 0.05])
    spread = np.array([0.01, 0.05, 0.2])[cluster]
    lng = np.array([10.0, 10.4, 11.0])[cluster] + rng.normal(0, 1, n) * spread
    lat = np.array([50.0, 50.1, 50.6])[cluster] + rng.normal(0, 1, n) * spread
    kind = rng.choice(4, n, p=[0.6, 0.3, 0.08, 0.02])
    return [Place(f"n{i}", {"name": f"P{i}"}, KINDS[kind[i]], float(lng[i]), float(lat[i])) for i in range(n)]


@pytest.mark.parametrize(("text", "count"), [("5000", 5000), (" 100k ", 100_000), ("2.5M", 2_500_000)])
def test_counts_are_parsed(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "10kk", "1e3", "1,000", "0.0001k", "nan"])
def test_invalid_counts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a number of places"):
        parse_count(text)


def check_is_refused(message: str, **selection: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Selection(**selection).check()  # type: ignore[arg-type]
    assert len(caught.value.render().splitlines()) <= 2


# ---- boxes, polygons and boundaries ----


def test_a_box_includes_its_edges() -> None:
    places = [*scattered(), Place("n_edge", {}, KINDS[0], 9.99, 50.0)]
    expected = [i for i, p in enumerate(places) if 9.99 <= p.lng <= 10.02 and 49.99 <= p.lat <= 50.01]
    assert 100 < len(expected) < len(places)
    assert select_places(places, Extract(), Selection(bbox=(9.99, 49.99, 10.02, 50.01))) == expected
    assert len(places) - 1 in expected
    check_is_refused("west is greater than east", bbox=(170.0, 0.0, -170.0, 1.0))


TRIANGLE = [[9.98, 49.98], [10.03, 49.99], [10.0, 50.03], [9.98, 49.98]]
HOLE = [[9.995, 49.995], [10.005, 49.995], [10.005, 50.005], [9.995, 50.005], [9.995, 49.995]]
FAR = [[10.3, 50.0], [10.5, 50.0], [10.5, 50.2], [10.3, 50.2], [10.3, 50.0]]
FAR_POLYGON = {"type": "Polygon", "coordinates": [FAR]}
COLLECTION = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [TRIANGLE]}},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [FAR_POLYGON]}},
    ],
}


def in_ring(x: float, y: float, ring: list[list[float]]) -> bool:
    """Return whether a point lies in a ring, by the even-odd rule."""
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
        (COLLECTION, [TRIANGLE, FAR]),
    ],
)
def test_a_polygon_selects_the_places_inside(
    tmp_path: Path, data: dict[str, object], rings: list[list[list[float]]]
) -> None:
    path, packed = tmp_path / "area.geojson", tmp_path / "area.geojson.gz"
    path.write_text(json.dumps(data))
    packed.write_bytes(gzip.compress(path.read_bytes()))
    places = scattered()
    expected = [i for i, p in enumerate(places) if sum(in_ring(p.lng, p.lat, ring) for ring in rings) % 2 == 1]
    assert 20 < len(expected) < len(places)
    for file in (path, packed):
        assert select_places(places, Extract(), Selection(polygon=file)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\xff\xfe\x00", "is not JSON"),
        ("[]", "an object without a type"),
        ('{"type": "Point", "coordinates": [1, 2]}', "got a Point"),
        ('{"type": "Feature", "geometry": null}', "an object without a type"),
        ('{"type": "FeatureCollection", "features": []}', "no polygon with an area"),
        ('{"type": "Polygon", "coordinates": [[["a", "b"], [1, 1], [0, 1], [0, 0]]]}', "broken Polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 1], [0, 0]]]}', "out of range"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}', "no polygon with an area"),
        ('{"type": "Polygon", "crs": {"properties": {"name": "EPSG:3857"}}, "coordinates": []}', "system than WGS-84"),
    ],
)
def test_files_without_a_polygon_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "area.geojson"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    check_is_refused(message, polygon=path)


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extract, list[Place]]:
    """A county with two towns, two villages of one name, a park, and a town without a boundary."""
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
    return extract, deduplicate_places(extract)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("Westham", {f"Westham Kiosk {n}" for n in range(4)}),
        ("  EASTHAM ", {f"Eastham Kiosk {n}" for n in range(4)}),
        ("crown park", {"Lion", "Royal Park"}),
        ("新屯", {"New Cafe", "Newton"}),
    ],
)
def test_a_boundary_is_found_by_name(realm: tuple[Extract, list[Place]], name: str, inside: set[str]) -> None:
    extract, places = realm
    rows = select_places(places, extract, Selection(place=name))
    assert {places[row].name for row in rows} == inside
    assert select_places(places, extract, Selection(place="Gross-Gau")) == list(range(len(places)))


def test_one_of_two_boundaries_of_one_name_is_found_by_its_id(realm: tuple[Extract, list[Place]]) -> None:
    extract, places = realm
    with pytest.raises(InputError, match="several boundaries are called 'twin': w") as caught:
        find_boundary(extract, "twin")
    one = next(a for a in extract.admins if a.tags["name"] == "Twin")
    assert one.osm_id in str(caught.value)
    rows = select_places(places, extract, Selection(place=one.osm_id.upper()))
    assert [places[row].name for row in rows] == ["Pub south"]


def test_an_unknown_boundary_is_refused_with_similar_names(realm: tuple[Extract, list[Place]]) -> None:
    with pytest.raises(InputError, match="no boundary of the extract is called 'Westhan'") as caught:
        find_boundary(realm[0], "Westhan")
    assert "Westham" in (caught.value.hint or "")
    with pytest.raises(InputError, match="no boundary"):
        find_boundary(Extract(), "Anything")
    check_is_refused("is empty", place="  ")
    check_is_refused("is a folder", polygon=Path())


def test_all_conditions_must_hold(realm: tuple[Extract, list[Place]]) -> None:
    extract, places = realm
    west = (9.0, 49.0, 10.0, 51.0)  # the west half
    names = {places[row].name for row in select_places(places, extract, Selection(bbox=west, place="Shire"))}
    assert {f"Westham Kiosk {n}" for n in range(4)} <= names
    assert not any("Eastham" in name for name in names)
    with pytest.raises(InputError, match="no place of the extract is selected") as caught:
        select_places(places, extract, Selection(bbox=west, place="Eastham"))
    assert "Its places lie in 9.9" in (caught.value.hint or "")
    with pytest.raises(InputError) as caught:
        select_places(places, extract, Selection(bbox=(49.0, 9.0, 51.0, 10.0)))
    assert "with longitude and latitude swapped" in (caught.value.hint or "")


def content(facts: Facts) -> tuple[object, ...]:
    """Return the facts without the numbers of the objects."""
    near = (facts.street, facts.crossing, facts.area, facts.landmark, *facts.neighbours)
    objects = [one and (one.name, one.osm_id, round(one.metres, 4)) for one in near]
    return facts.admins, facts.city, facts.settlement, objects


def test_a_window_contains_every_fact_of_the_selected_places(tmp_path: Path) -> None:
    """Read one of three distant towns: its places have the same facts as in the whole extract."""
    path, latitudes = three_towns().write(tmp_path / "c.osm"), (-41.0, 0.5, 69.6)
    whole = read_extract(path)
    places = deduplicate_places(whole)
    facts = dict(zip((p.poi_id for p in places), gather_facts(places, whole, [False] * len(places)), strict=True))
    for n, (letter, lat) in enumerate(zip("ABC", latitudes, strict=True)):
        cut = read_extract(path, window=Selection(bbox=(9.9 + 7 * n, lat - 0.1, 10.1 + 7 * n, lat + 0.1)).window())
        names = {a.tags["name"] for a in [*cut.admins, *cut.areas, *cut.settlements]}
        assert names == {f"{kind} {letter}" for kind in ("County", "Park", "City")}
        inside = deduplicate_places(cut)
        assert len(inside) == sum(1 for p in places if abs(p.lat - lat) < 1)
        for place, found in zip(inside, gather_facts(inside, cut, [False] * len(inside)), strict=True):
            assert content(found) == content(facts[place.poi_id])
            assert found.city == {"place": "city", "name": f"City {letter}"}
            assert found.neighbours


def test_a_window_is_the_box_with_a_margin_in_metres(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [FAR]}))
    assert Selection(place="Shire").window() is None
    for selection, box in (
        (Selection(bbox=(10.0, 50.0, 11.0, 51.0)), (10.0, 50.0, 11.0, 51.0)),
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


# ---- limits ----


def halves(places: list[Place], rows: np.ndarray, depth: int) -> list[np.ndarray]:
    """Return the cells of a k-d tree, split by the longer side on the ground at the median place."""
    if depth == 0:
        return [rows]
    points = np.array([(places[r].lng * np.cos(np.radians(50.0)), places[r].lat) for r in rows])
    axis = int(np.argmax(np.ptp(points, axis=0)))
    rows = rows[np.argsort(points[:, axis], kind="stable")]
    cut = len(rows) // 2
    return halves(places, rows[:cut], depth - 1) + halves(places, rows[cut:], depth - 1)


@pytest.mark.parametrize(("limit", "seed"), [(1, 1), (100, 2), (900, 3), (2999, 4)])
def test_every_kind_and_every_cell_gets_its_share(limit: int, seed: int) -> None:
    places = scattered()
    picked = set(rows := limit_places(places, limit, seed))
    assert rows == sorted(picked)
    assert len(rows) == limit
    assert picked != set(limit_places(places, limit, seed + 1))
    assert limit_places(places, len(places), seed) == list(range(len(places)))
    share = {kind: sum(places[r].category == kind for r in picked) for kind in KINDS}
    total = Counter(p.category for p in places)
    assert all(abs(share[kind] - total[kind] * limit / len(places)) < 1 for kind in KINDS)
    for depth in (1, 3, 5):
        for cell in halves(places, np.arange(len(places)), depth):
            for kind in KINDS:
                members = [int(r) for r in cell if places[r].category == kind]
                wanted = len(members) * share[kind] / total[kind]
                assert abs(len(picked.intersection(members)) - wanted) <= 1.5
