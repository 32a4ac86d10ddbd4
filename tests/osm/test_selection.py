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
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.selection import Selection, find_boundary, limit_places, parse_count, select_places
from tests.helpers.extracts import Town, square

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


def test_counts_are_parsed() -> None:
    assert [parse_count(text) for text in ("5000", " 100k ", "2.5M")] == [5000, 100_000, 2_500_000]
    for text in ("", "0", "-3", "1.5", "10kk", "1e3", "1,000", "0.0001k", "nan"):
        with pytest.raises(InputError, match="is not a number of places"):
            parse_count(text)


def check_is_refused(message: str, **selection: object) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Selection(**selection).check()  # type: ignore[arg-type]
    assert len(caught.value.render().splitlines()) <= 2


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
NEAR_POLYGON, FAR_POLYGON = ({"type": "Polygon", "coordinates": [ring]} for ring in (TRIANGLE, FAR))
GEOMETRIES = (NEAR_POLYGON, {"type": "GeometryCollection", "geometries": [FAR_POLYGON]})
COLLECTION = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": g} for g in GEOMETRIES]}


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
def test_a_polygon_selects_the_places_inside(tmp_path: Path, data: object, rings: list[list[list[float]]]) -> None:
    path, packed = tmp_path / "area.geojson", tmp_path / "area.geojson.gz"
    path.write_text(json.dumps(data))
    packed.write_bytes(gzip.compress(path.read_bytes()))
    places = scattered()
    expected = [i for i, p in enumerate(places) if sum(in_ring(p.lng, p.lat, ring) for ring in rings) % 2 == 1]
    assert 20 < len(expected) < len(places)
    for file in (path, packed):
        assert select_places(places, Extract(), Selection(polygon=file)) == expected


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


def test_files_without_a_polygon_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    for content, message in (
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "an object without a type"),
        (b'{"type": "Point", "coordinates": [1, 2]}', "got a Point"),
        (b'{"type": "Polygon", "coordinates": [[["a", "b"], [1, 1], [0, 1], [0, 0]]]}', "broken Polygon"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 1], [0, 0]]]}', "out of range"),
        (b'{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}', "no polygon with an area"),
        (b'{"type": "Polygon", "crs": {"properties": {"name": "EPSG:3857"}}, "coordinates": []}', "than WGS-84"),
    ):
        path.write_bytes(content)
        check_is_refused(message, polygon=path)
    check_is_refused("is empty", place="  ")
    check_is_refused("is a folder", polygon=tmp_path)


def test_an_ambiguous_or_unknown_boundary_is_refused_with_candidates(
    realm: tuple[Extract, list[Place]],
) -> None:
    extract, places = realm
    with pytest.raises(InputError, match="several boundaries are called 'twin': w") as caught:
        find_boundary(extract, "twin")
    one = next(a for a in extract.admins if a.tags["name"] == "Twin")
    assert one.osm_id in str(caught.value)
    rows = select_places(places, extract, Selection(place=one.osm_id.upper()))
    assert [places[row].name for row in rows] == ["Pub south"]
    with pytest.raises(InputError, match="no boundary of the extract is called 'Westhan'") as caught:
        find_boundary(extract, "Westhan")
    assert "Westham" in (caught.value.hint or "")


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


def test_a_window_is_the_box_with_a_margin_in_metres(tmp_path: Path) -> None:
    path = tmp_path / "area.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [FAR]}))
    for bbox, (w, s, e, n) in (
        ((10.4, 49.0, 12.0, 50.1), (10.4, 50.0, 10.5, 50.1)),
        ((10.3, 50.1, 10.5, 50.9), (10.3, 50.1, 10.5, 50.2)),
    ):
        west, south, east, north = Selection(bbox=bbox, polygon=path).window() or pytest.fail("no window")
        assert [haversine_m(w, s, w, south), haversine_m(e, n, e, north)] == pytest.approx([25_000] * 2, rel=1e-6)
        for lat in (south, north):  # at least that far at either end
            assert min(haversine_m(west, lat, w, lat), haversine_m(e, lat, east, lat)) > 24_950
    assert Selection(place="Shire").window() is None


def test_a_window_is_in_wgs84_whatever_the_datum(tmp_path: Path) -> None:
    town = Town(120.1, 30.28)
    for east in (-300, 0, 300):
        town.node(east, 0, amenity="cafe", name=f"Cafe {east}")
    path = town.write(tmp_path / "t.osm")
    true = read_extract(path, "gcj02").places[1]
    around = (true.lng - 1e-4, true.lat - 1e-4, true.lng + 1e-4, true.lat + 1e-4)
    assert [p.name for p in read_extract(path, "gcj02", window=around).places] == ["Cafe 0"]
    assert read_extract(path, window=around).places == []


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
