"""``m3gal data table``: views and records of a POI table, without a map."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.data.poi_reader import PoiOptions
from m3gal_cli.osm.locales import load_locale
from m3gal_cli.osm.poi_table_places import UNKNOWN, localise, read_poi_table
from m3gal_cli.osm.views import POI_KIND
from m3gal_cli.text.normalise import reading_key
from tests.helpers.cli import Answer, m3gal

NAMES = ("星光", "城西", "望月", "文晖", "锦天", "桃源", "青春", "云桂", "和平", "新城", "翠苑", "东河")
KINDS = {"花园": "商务住宅,住宅区,住宅小区", "停车场": "交通设施服务,停车场,公共停车场"}
KINDS |= {"药房": "医疗保健服务,药房", "馆": "奇怪的类,更怪的类"}
FEW = ("--train-queries", 30, "--val-queries", 5, "--test-queries", 5, "--negatives", 5)


def rows() -> Iterator[tuple[str, float, float]]:
    """Yield 48 rows, 80 m apart, every third without a street, then the first again."""
    for i, name in enumerate(NAMES):
        for j, (end, kinds) in enumerate(KINDS.items()):
            street = "[]" if (i + j) % 3 == 0 else f"{NAMES[(i + j) % 12]}路{10 * i + j}号"
            yield f"{name}{end},{kinds},{street},西湖区", 120.1 + i * 0.001, 30.28 + j * 0.0008
    yield "星光花园,商务住宅,住宅区,住宅小区,[],西湖区", 120.1, 30.28


def write(path: Path) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["address", "lng", "lat"])
        out.writerows(rows())
    return path


def build(path: Path, out: Path, *more: object) -> Answer:
    return m3gal("data", "table", path, "-o", out, *FEW, *more)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    answer = build(write(folder / "mine.csv"), folder / "out", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["locale"] == "zh"
    assert answer.json()["places"] == 48, "a duplicate row is one place"
    return folder / "out"


def test_the_poi_table_has_the_rows_unchanged(out: Path) -> None:
    made = pd.read_parquet(out / "poi_database_mine.parquet")
    assert list(zip(made["address"], made["lng"], made["lat"], strict=True)) == [
        (text, pytest.approx(lng), pytest.approx(lat)) for text, lng, lat in [*rows()][:-1]
    ]
    assert made["poi_id"].tolist() == [str(i) for i in range(48)]


def test_views_pair_with_the_rows_and_use_their_parts_and_neighbours(out: Path) -> None:
    views = pd.read_parquet(out / "same_poi_views_mine.parquet")
    table = {(text, round(lng, 6), round(lat, 6)) for text, lng, lat in rows()}
    full = views[views["kind2"] == POI_KIND]
    own = full.loc[~full["poi_id"].str.contains("#"), ["address2", "lng", "lat"]].round(6)
    assert set(own.itertuples(index=False, name=None)) <= table
    assert len(own) > 100
    names = {text.split(",")[0] for text, *_ in rows()}
    by_kind = {kind: set(part["address1"]) for kind, part in views.groupby("kind1")}
    assert {"told_name", "district_name", "neighbour_name", "neighbour_side_name"} <= set(by_kind)
    near = [re.fullmatch("(.*)(附近|旁边|旁|周边|边上|周围)(.*)", text) for text in by_kind["neighbour_name"]]
    assert any(m and m[1] in names and m[3] in names for m in near)
    compounds = views[views["kind1"] == "sub_building"]
    assert compounds["address2"].str.contains("地名地址信息,门牌信息,楼栋号").all()


def test_the_passages_of_records_are_rows_of_the_table(out: Path) -> None:
    table = {text for text, *_ in rows()}
    for split, count in (("train", 30), ("val", 5), ("test", 5)):
        lines = (out / f"{split}_dataset_use_gis_mine.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        assert len(records) == count
        for record in records:
            (gold,) = [p["text"] for p in record["positive_passages"]]
            others = [p["text"] for p in record["negative_passages"]]
            assert {gold, *others} <= table
            assert gold not in others
            assert len(others) == 5
            assert reading_key(record["query"]) != reading_key(gold)


def test_category_words_become_tags(tmp_path: Path) -> None:
    places = read_poi_table(write(tmp_path / "a.csv"), PoiOptions(), [].append).places
    made = localise(places, load_locale("zh"))
    assert [p.category for p in made[:4]] == [
        ("landuse", "residential"),
        ("amenity", "parking"),
        ("amenity", "pharmacy"),
        (UNKNOWN, "更怪的类"),
    ]
    assert [p.tags for p in made[:2]] == [
        {"name": "星光花园", "addr:district": "西湖区"},
        {"name": "星光停车场", "addr:full": "城西路1号", "addr:district": "西湖区"},
    ]
    # The entry "address=" is the category of places without a name, but a row has one.
    assert load_locale("zh").category_of(("地名地址信息", "门牌信息", "楼栋号")) is None
    english = load_locale("en")
    assert english.category_of(("food", "cafe")) is None
    assert english.category_of(("cafe", "with a garden")) == ("amenity", "cafe")
    assert english.category(UNKNOWN, "tea house").typed == ("tea house",)


def test_an_english_table(tmp_path: Path) -> None:
    lines = [f'"{n} cafe, cafe, Bay Street {i}, Old Town",{25 + i / 1000},60.1' for i, n in enumerate("ABCDEFGH" * 2)]
    (tmp_path / "en.csv").write_text("\n".join(["address,lng,lat", *lines]), encoding="utf-8")
    answer = build(tmp_path / "en.csv", tmp_path / "en", "--locale", "en", "--json")
    assert answer.json()["kinds"]["name_street"] > 5
    views = pd.read_csv(tmp_path / "en" / "same_poi_views_en.csv")
    assert views["address1"].str.contains("Bay Street", case=False).any()


def test_box_limit_and_datum_apply_to_a_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    few = build(path, tmp_path / "few", "--bbox", "120.0995,30.27,120.1045,30.29", "--json")
    assert few.json()["places"] == 20
    assert build(path, tmp_path / "ten", "--limit", 10, "--json").json()["places"] == 10
    assert build(path, tmp_path / "moved", "--datum", "gcj02").code == 0
    moved = pd.read_parquet(tmp_path / "moved" / "poi_database_a.parquet")
    assert abs(moved["lng"][0] - 120.1) > 0.003


@pytest.mark.parametrize(("rows", "message"), [("\n,120.1,30.1\n", "a.csv:3"), ("", "two views")])
def test_invalid_tables_are_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(f"address,lng,lat\n星光,120.1,30.1{rows}", encoding="utf-8")
    answer = build(tmp_path / "a.csv", tmp_path / "out")
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert not list((tmp_path / "out").glob("*"))
