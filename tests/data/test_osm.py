"""Facts of a town drawn by hand against analytic values; builds of real extracts against the rules of the tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pandas as pd
import pytest
import shapely

from m3gal_cli.data.coordinates import METRES_PER_DEGREE, haversine_m, wgs84_to_gcj02
from m3gal_cli.data.osm import OsmOptions, build, build_city
from m3gal_cli.data.osm.extract import Extract, read_extract
from m3gal_cli.data.osm.facts import Facts, Frame, bearing_deg, find_crossings, gather_facts
from m3gal_cli.data.osm.places import Place, distinct_places, reads
from m3gal_cli.data.osm.queries import NEAR_SHARE, standpoints
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_pois, read_views
from m3gal_cli.errors import InputError

LNG0, LAT0 = 10.0, 50.0
Points = list[tuple[float, float]]


class Town:
    """Draws an .osm file in metres east and north of (LNG0, LAT0)."""

    def __init__(self, lng0: float = LNG0, lat0: float = LAT0) -> None:
        self.lng0, self.lat0, self.last = lng0, lat0, 0
        self.nodes: list[str] = []
        self.ways: list[str] = []
        self.relations: list[str] = []

    def at(self, east: float, north: float) -> tuple[float, float]:
        scale = METRES_PER_DEGREE * np.cos(np.radians(self.lat0))
        return self.lng0 + east / scale, self.lat0 + north / METRES_PER_DEGREE

    def node(self, east: float, north: float, **tags: str) -> int:
        self.last += 1
        lng, lat = self.at(east, north)
        self.nodes.append(f'<node id="{self.last}" lon="{lng:.9f}" lat="{lat:.9f}">{_tags(tags)}</node>')
        return self.last

    def way(self, points: Points, *, closed: bool = False, **tags: str) -> int:
        refs = [self.node(*p) for p in points]
        self.last += 1
        inner = "".join(f'<nd ref="{r}"/>' for r in refs + refs[:1] * closed)
        self.ways.append(f'<way id="{self.last}">{inner}{_tags(tags)}</way>')
        return self.last

    def relation(self, outer: list[int], inner: list[int], **tags: str) -> int:
        self.last += 1
        members = [(w, "outer") for w in outer] + [(w, "inner") for w in inner]
        text = "".join(f'<member type="way" ref="{w}" role="{role}"/>' for w, role in members)
        self.relations.append(f'<relation id="{self.last}">{text}{_tags(tags)}</relation>')
        return self.last

    def write(self, path: Path) -> Path:
        body = "\n".join(["<osm version='0.6'>", *self.nodes, *self.ways, *self.relations, "</osm>"])
        path.write_bytes(gzip.compress(body.encode()) if path.suffix == ".gz" else body.encode())
        return path


def _tags(tags: dict[str, str]) -> str:
    names = {k.replace("__", ":"): v for k, v in tags.items()}
    return "".join(f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in names.items())


def square(east: float, north: float, half: float) -> Points:
    return [(east + x * half, north + y * half) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


BENT: Points = [(0, 300), (200, 300), (200, 320), (20, 320), (20, 500), (0, 500)]  # its centroid lies outside


def small_town() -> Town:
    """First Street runs west-east and Second Street south-north through the origin; a bridge crosses First Street."""
    town = Town()
    town.way([(-1000, 0), (1000, 0)], highway="residential", name="First Street", name__xx="Erste Gasse")
    town.way([(0, -1000), (0, 1000)], highway="residential", name="Second Street")
    town.way([(150, -50), (150, 50)], highway="primary", name="High Bridge", bridge="yes", layer="1")
    town.node(70, 70, amenity="cafe", name="Corner Cafe")
    town.node(400, -60, amenity="pharmacy", name="Far Pharmacy")
    town.way(BENT, closed=True, building="yes", name="Bent House")
    town.way(square(-500, 500, 300), closed=True, leisure="park", name="Green Park")
    town.way(square(-500, 500, 50), closed=True, amenity="school", name="Park School")
    town.node(-500, 500, shop="kiosk", name="School Kiosk")
    town.node(-700, 500, amenity="fountain", name="Old Fountain")
    town.node(0, -120, tourism="museum", name="Town Museum")
    town.node(-30, -220, amenity="bar", name="Red Bar")
    town.way(square(500, 0, 800), closed=True, boundary="administrative", admin_level="10", name="Old Town")
    town.way(square(0, 0, 3000), closed=True, boundary="administrative", admin_level="8", name="Testville")
    town.node(300, 500, shop="books", name="Page", addr__street="First Street", addr__housenumber="12")
    town.node(301, 500, addr__street="First Street", addr__housenumber="12")
    town.node(310, 500, addr__street="First Street", addr__housenumber="14")
    town.node(-900, -900, amenity="bench", name="Bench")
    return town


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
    found = find_crossings(extract.roads, frame.shapes(extract.roads))
    assert {frozenset(t["name"] for t in pair) for pair in found.streets} == {
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


def test_chinese_crossing_text(tmp_path: Path) -> None:
    town = Town(120.1, 30.28)
    town.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
    town.way([(0, -900), (0, 900)], highway="primary", name="古墩路")
    town.node(70, 70, amenity="pharmacy", name="康乐药店")
    town.node(-300, -30, amenity="restaurant", name="楼外楼")
    town.node(500, 400, tourism="museum", name="茶叶博物馆")
    town.node(-40, 330, shop="books", name="晓风书屋")
    summary = build_city(town.write(tmp_path / "t.osm.gz"), tmp_path / "out", OsmOptions())
    assert summary.locale == "zh"
    pois = read_pois(tmp_path / "out" / "poi_database_osm.parquet").set_index("name")["address"]
    assert pois["康乐药店"] == "康乐药店,医疗保健服务,药房,文一西路与古墩路交叉口东北100米"
    assert pois["楼外楼"] == "楼外楼,餐饮服务,餐厅,文一西路与古墩路交叉口西300米"


def test_datum_is_converted_at_the_door(tmp_path: Path) -> None:
    shifted = Town(*(float(v) for v in wgs84_to_gcj02(120.1, 30.28)))
    shifted.way([(-900, 0), (900, 0)], highway="primary", name="文一西路")
    for n, name in enumerate(["康乐药店", "楼外楼", "晓风书屋"]):
        shifted.node(n * 100.0, 0, shop="books", name=name)
    extract = shifted.write(tmp_path / "t.osm")
    build_city(extract, tmp_path / "out", OsmOptions(datum="gcj02"))
    pois = read_pois(tmp_path / "out" / "poi_database_osm.csv")
    assert haversine_m(pois["lng"][0], pois["lat"][0], 120.1, 30.28) < 0.1
    build_city(extract, tmp_path / "raw", OsmOptions())
    raw = read_pois(tmp_path / "raw" / "poi_database_osm.csv")
    assert haversine_m(raw["lng"][0], raw["lat"][0], 120.1, 30.28) > 100.0


def test_standpoints_are_near_for_two_in_three() -> None:
    gold = np.tile([[50_000.0, 0.0]], (3000, 1))
    far = np.random.default_rng(1).uniform(-1000, 1000, (500, 2))
    away = np.hypot(*(standpoints(gold, far, seed=4) - gold).T)
    assert (away <= 2000.0).mean() == pytest.approx(NEAR_SHARE, abs=0.03)
    assert np.median(away[away <= 2000.0]) == pytest.approx(2000.0 / 2**0.5, rel=0.05)  # even over the disc


# ---- whole builds ----


def built(extract: Path, out: Path, options: OsmOptions) -> dict[str, object]:
    summary = build_city(extract, out, options)
    suffix = options.suffix
    return {
        "summary": summary,
        "views": read_views(out / f"same_poi_views_{suffix}.parquet"),
        "pois": read_pois(out / f"poi_database_{suffix}.parquet"),
        **{n: read_records(out / f"{n}_dataset_use_gis_{suffix}.jsonl") for n in ("train", "val", "test")},
    }


@pytest.fixture(scope="module")
def helsinki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("helsinki")
    return built(copy_sample(folder), folder / "out", OsmOptions())


def check_rules(city: dict[str, object], negatives: int = 39) -> None:
    """What every built city must keep to."""
    views, pois = city["views"], city["pois"]
    assert isinstance(views, pd.DataFrame)
    assert isinstance(pois, pd.DataFrame)
    rows = set(zip(pois["address"], pois["lng"], pois["lat"], strict=True))
    one, two = views["address1"].map(reads), views["address2"].map(reads)
    assert not (one == two).any()
    assert not any(a.startswith(b) or b.startswith(a) for a, b in zip(one, two, strict=True))
    assert (views["kind1"] != views["kind2"]).all()
    other = views["kind2"] != "poi"
    sides = [(one, views["poi_id"]), (two[other], views["poi_id"][other])]
    owners = pd.concat([pd.DataFrame({"text": text, "id": ids}) for text, ids in sides]).drop_duplicates()
    assert owners["text"].is_unique  # no text tells two places
    trained = set(one) | set(two)
    seen: set[str] = set()
    places: dict[str, set[str | None]] = {}
    for name in ("test", "val", "train"):
        records = city[name]
        assert isinstance(records, list)
        for record in records:
            check_record(record, rows, min(negatives, len(pois) - 1))
        asked = {reads(r.query) for r in records}
        assert name == "train" or not asked & trained
        assert not asked & seen
        seen |= asked if name != "train" else set()
        places[name] = {r.positives[0].docid for r in records}
    assert not places["test"] & places["val"]


def check_record(record: Record, rows: set[tuple[str, float, float]], negatives: int) -> None:
    (gold,) = record.positives
    assert (gold.text, gold.lng, gold.lat) in rows
    assert record.lng is not None
    texts = [reads(p.text) for p in record.negatives]
    assert reads(gold.text) not in texts
    assert len(set(texts)) == len(texts)
    assert negatives - 5 <= len(texts) <= negatives or len(rows) < 200
    assert all((p.text, p.lng, p.lat) in rows for p in record.negatives)


def test_helsinki_keeps_the_rules(helsinki: dict[str, object]) -> None:
    check_rules(helsinki)
    summary = helsinki["summary"]
    assert isinstance(summary, build.OsmSummary)
    assert summary.places == len(helsinki["pois"]) > 1500  # type: ignore[arg-type]
    assert summary.pairs == len(helsinki["views"]) > 10_000  # type: ignore[arg-type]
    assert summary.queries == {n: len(helsinki[n]) for n in ("train", "test", "val")}  # type: ignore[arg-type]
    assert summary.queries["test"] > 400
    assert all(Path(f).exists() for f in summary.files)
    assert len(summary.files) == 7


def test_helsinki_speaks_both_its_languages(helsinki: dict[str, object]) -> None:
    views = helsinki["views"]
    assert isinstance(views, pd.DataFrame)
    swedish = views[views["kind1"].str.endswith("@sv")]
    assert swedish["address1"].str.contains("Mannerheimvägen").sum() > 20
    assert views["address1"].str.contains("Mannerheimintie").sum() > 20


def test_held_out_kinds_of_a_place_are_not_trained_on(helsinki: dict[str, object]) -> None:
    views = helsinki["views"]
    assert isinstance(views, pd.DataFrame)
    trained = set(zip(views["poi_id"], views["kind1"], strict=True)) | set(
        zip(views["poi_id"], views["kind2"], strict=True)
    )
    for name in ("val", "test"):
        out = Path(helsinki["summary"].files[-1]).parent / f"{name}_dataset_use_gis_osm.jsonl"  # type: ignore[attr-defined]
        for line in out.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert (row["positive_passages"][0]["docid"], row["kind"]) not in trained


def grid_town() -> Town:
    """A town of 8 streets and 90 places."""
    town = Town()
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'ABCD'[n]}lpha Street")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'EFGH'[n]}cho Road")
    kinds = ["cafe", "bank", "school", "pharmacy", "library"]
    for n in range(90):
        east, north = (n % 10) * 70.0, (n // 10) * 70.0 + 10
        town.node(east, north, amenity=kinds[n % 5], name=f"{kinds[n % 5].title()} of {chr(65 + n % 26)}{n}")
    return town


def test_equal_seeds_write_equal_files_and_other_seeds_others(tmp_path: Path) -> None:
    extract = grid_town().write(tmp_path / "grid.osm")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_city(extract, tmp_path / name, OsmOptions(seed=seed, locale="en"))
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 7
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert any((tmp_path / "a" / n).read_bytes() != (tmp_path / "c" / n).read_bytes() for n in files)


def test_options_reach_the_files(tmp_path: Path) -> None:
    extract = grid_town().write(tmp_path / "grid.osm")
    options = OsmOptions(locale="en", suffix="grid", negatives=5, test_queries=7, val_queries=3, train_queries=20)
    city = built(extract, tmp_path / "out", options)
    check_rules(city, 5)
    assert {n: len(city[n]) for n in ("train", "val", "test")} == {"train": 20, "val": 3, "test": 7}  # type: ignore[arg-type]
    assert all(len(r.negatives) == 5 for r in city["test"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["monaco", "liechtenstein", "beijing_tsinghua", "nanjing_center", "shenzhen_longgang"])
def test_real_extracts_keep_the_rules(shared: Path, tmp_path: Path, name: str) -> None:
    city = built(shared / "data" / "osm" / f"{name}.osm.pbf", tmp_path, OsmOptions())
    check_rules(city)
    summary = city["summary"]
    assert isinstance(summary, build.OsmSummary)
    assert summary.locale == ("neutral" if name in ("monaco", "liechtenstein") else "zh")
    assert summary.places_without_pairs < 0.1 * summary.places
    assert summary.queries["test"] >= 25


@pytest.mark.slow
def test_a_large_extract_keeps_the_rules(shared: Path, tmp_path: Path) -> None:
    city = built(shared / "data" / "osm" / "hangzhou_amap2017.osm.pbf", tmp_path, OsmOptions())
    check_rules(city)
    assert len(city["pois"]) > 15_000  # type: ignore[arg-type]


# ---- bad input ----


def fails(extract: Path, out: Path, message: str, options: OsmOptions | None = None) -> InputError:
    with pytest.raises(InputError, match=message) as caught:
        build_city(extract, out, options or OsmOptions())
    assert len(caught.value.render().splitlines()) <= 2
    assert not out.is_dir() or not list(out.iterdir())
    return caught.value


def test_missing_empty_and_misnamed_extracts(tmp_path: Path) -> None:
    fails(tmp_path / "no.osm.pbf", tmp_path / "out", "no such OpenStreetMap extract")
    (tmp_path / "empty.osm.pbf").touch()
    fails(tmp_path / "empty.osm.pbf", tmp_path / "out", "is empty")
    (tmp_path / "map.shp").write_text("x")
    fails(tmp_path / "map.shp", tmp_path / "out", r"not called like an OpenStreetMap extract")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_truncated_pbf_is_said_to_be_one(tmp_path: Path, part: float) -> None:
    whole = copy_sample(tmp_path).read_bytes()
    broken = tmp_path / "broken.osm.pbf"
    broken.write_bytes(whole[: int(len(whole) * part)])
    fails(broken, tmp_path / "out", "truncated or corrupt")


@pytest.mark.parametrize("name", ["a.osm.pbf", "a.osm", "a.osm.gz", "a.osm.bz2"])
def test_what_is_no_extract_at_all_is_corrupt(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is no map, whatever its name says " * 20)
    fails(tmp_path / name, tmp_path / "out", "truncated or corrupt")


def test_a_truncated_xml_is_corrupt(tmp_path: Path) -> None:
    path = small_town().write(tmp_path / "t.osm")
    path.write_text(path.read_text()[:-200])
    fails(path, tmp_path / "out", "truncated or corrupt")


def test_an_extract_without_a_named_place(tmp_path: Path) -> None:
    town = Town()
    town.way([(-1000, 0), (1000, 0)], highway="residential", name="First Street")
    town.node(0, 0, amenity="cafe")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "holds no named place")


def test_one_lonely_place_makes_no_pairs(tmp_path: Path) -> None:
    town = Town()
    town.node(0, 0, amenity="cafe", name="Alone")
    fails(town.write(tmp_path / "t.osm"), tmp_path / "out", "no place has two views")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (OsmOptions(locale="tlh"), "no such locale"),
        (OsmOptions(datum="utm"), "unknown datum"),  # type: ignore[arg-type]
        (OsmOptions(suffix="a/b"), "cannot be part of a file name"),
        (OsmOptions(noise=2.0), "not between 0 and 1"),
        (OsmOptions(negatives=0), "negatives must be at least 1"),
        (OsmOptions(seed=-1), "seed must not be negative"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, options: OsmOptions, message: str) -> None:
    fails(small_town().write(tmp_path / "t.osm"), tmp_path / "out", message, options)


def test_an_output_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    steps: list[str] = []
    with pytest.raises(InputError, match="cannot write there"):
        build_city(
            small_town().write(tmp_path / "t.osm"),
            tmp_path / "out",
            OsmOptions(),
            lambda step, done, total: steps.append(step),
        )
    assert steps == []


def test_a_failure_while_writing_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*args: object) -> None:
        raise InputError("cannot write (No space left on device)")

    monkeypatch.setattr(build, "write_records", full_disk)
    fails(grid_town().write(tmp_path / "t.osm"), tmp_path / "out", "No space left")


def test_progress_tells_every_step(tmp_path: Path) -> None:
    steps: list[str] = []
    extract = grid_town().write(tmp_path / "t.osm")
    build_city(extract, tmp_path / "out", OsmOptions(), lambda step, done, total: steps.append(step))
    assert list(dict.fromkeys(steps)) == ["reading", "joining", "mining", "writing"]


def test_the_sample_comes_with_its_attribution(tmp_path: Path) -> None:
    path = copy_sample(tmp_path / "new" / "folder")
    assert path.name == "helsinki.osm.pbf"
    assert path.stat().st_size == 685_110
    assert "© OpenStreetMap contributors" in (path.parent / "ATTRIBUTION.md").read_text(encoding="utf-8")
