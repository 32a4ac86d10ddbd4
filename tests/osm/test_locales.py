"""Locales: the bundled ones, a German one through the command line, and the errors of locale files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_views
from m3gal_cli.errors import InputError
from m3gal_cli.osm.locales import BUNDLED, load_locale
from tests.helpers.cli import m3gal


def test_bearings_and_categories_of_bundled_locales() -> None:
    zh = load_locale("zh")
    assert [zh.bearing(d) for d in (0, 22.4, 22.6, 90, 180, 270, 337.6, 360)] == ["北", "北", "东北", *"东南西北北"]
    assert zh.bearing_words(90)[:2] == ("东", "东侧")
    assert zh.bearing_words(45)[:2] == ("东北", "东北方向")
    assert zh.category("amenity", "pharmacy").typed == ("药店", "药房")
    assert zh.category("amenity", "school", "育才幼儿园").words[-1] == "幼儿园"
    assert zh.category("amenity", "school", "育才").words[-1] == "学校"
    assert not zh.category("shop", "no such shop").specific
    assert load_locale("neutral").category("tourism", "camp_site").words == ("camp site",)


def test_generic_names_are_recognised_and_unnamed_parts_get_names_from_known_values() -> None:
    zh = load_locale("zh")
    for name in ("东门", "北2门", "A口", "3号楼", "停车场", "图书馆"):
        assert zh.is_generic(name)
        assert not zh.is_generic("清华大学" + name)
    known = {"area": "翠苑", "bearing": "东", "ref": ""}
    assert zh.part_names(("barrier", "gate"), known) == ("翠苑(东门)", "翠苑东门")
    assert zh.part_names(("building", "yes"), known) == ()
    assert zh.part_names(("building", "yes"), known | {"ref": "3"})[0] == "翠苑3号楼"
    assert zh.part_names(("amenity", "parking"), {"area": "翠苑", "bearing": "", "ref": ""})[0] == "翠苑停车场"
    assert zh.part_names(("amenity", "cafe"), known) == ()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_locales_name_every_unnamed_part(name: str) -> None:
    locale = load_locale(name)
    values = {"area": "A", "bearing": locale.bearing(90), "ref": "3"}
    for entry in load_locale("neutral").parts:
        key, _, value = entry.partition("=")
        assert all("A" in text for text in locale.part_names((key, value), values)), entry
        assert locale.part_names((key, value), values)


GERMAN = """
extends: neutral
language: de
number: "Nr. {}"
metres: "{} Meter"
metres_step: 50
numerals: ABCDEFGHIJ
bearings: {N: Nord, NE: Nordost, E: Ost, SE: Südost, S: Süd, SW: Südwest, W: West, NW: Nordwest}
bearing_forms: {straight: ["{}", "im {}en"], diagonal: ["{}", "im {}en"]}
sides: ["{}seite"]
sub: ['(?:haupt|neben)?(?:tor|eingang)', 'parkplatz']
sub_name: ["{sub} von {area}", "{sub} bei {landmark}"]
connectors: {near: [bei, nahe], und: [und]}
full: "name words? where? district?"
phrases:
  crossing: ["=Ecke crossing_a @und crossing_b crossing_bearing? crossing_metres?"]
  where: ["street number", "crossing", "=bei landmark"]
views:
  name: null
  alt: {parts: "alt", weight: 0}
  nahe: {parts: "name @near landmark", weight: 3}
  seite: {parts: "name side street", weight: 3}
  ecke: {parts: "name =( crossing =)", weight: 2}
parts:
  barrier=*: ["{bearing}tor von {area}"]
  amenity=parking: ["Parkplatz {area}"]
  entrance=*: null
suffixes:
  Halle:
    of: "leisure=park|amenity=school"
    unless: "Oy$"
    row: [", Halle {n}"]
    typed: [" Halle {n}", " H{n}"]
    words: Halle
    times: 2
categories:
  amenity=pharmacy: Apotheke
  amenity=restaurant ~ (?i)sushi|pizza: Essen, Imbiss | Imbiss, Bude
variants: [[Straße, Str.], ["#Meter", "#m"]]
slips: 0
shorten: 0
"""


Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Return the POI table and the views of the sample with the German locale."""
    folder = tmp_path_factory.mktemp("german")
    (folder / "de.yaml").write_text(GERMAN, encoding="utf-8")
    options = ("--locale", folder / "de.yaml", "--noise", 0, "--suffix", "h", "--json")
    answer = m3gal("data", "osm", copy_sample(folder), "-o", folder, *options)
    assert answer.json()["locale"] == "de"
    return read_pois(folder / "poi_database_h.parquet"), read_views(folder / "same_poi_views_h.parquet")


def test_the_poi_table_has_german_words(german: Tables) -> None:
    pois, _ = german
    inns = pois[pois["category"] == "amenity=restaurant"]
    named = inns["name"].str.contains("sushi|pizza", case=False)
    assert 2 < named.sum() < len(inns) - 20
    assert (inns["words"] == "Essen, Imbiss").tolist() == named.tolist()
    numbered = pois[pois["housenumber"] != ""]
    assert numbered["housenumber"].str.startswith("Nr. ").sum() > 500
    assert set(pois.loc[pois["category"] == "amenity=pharmacy", "words"]) == {"Apotheke"}
    corners = pois["address"][pois["address"].str.contains(", Ecke ")]
    assert corners.str.contains(" und ").all()
    far = corners.str.extract(r"(\d+) Meter")[0].dropna().astype(int)
    assert len(far) > 20
    assert (far % 50 == 0).all()


def test_unnamed_parts_have_german_names(german: Tables) -> None:
    pois, _ = german
    gates = pois[pois["category"].isin(["barrier=gate", "barrier=entrance"]) & pois["name"].str.contains("tor von ")]
    assert gates["name"].str.match(r"^(Nord|Nordost|Ost|Südost|Süd|Südwest|West|Nordwest)tor von .").all()
    assert pois["name"].str.match(r"^Parkplatz .").any()
    assert not ((pois["category"] == "entrance=yes") & (pois["name"] == "")).any()  # entrance=*: null


def test_views_follow_the_german_templates(german: Tables) -> None:
    _, views = german
    kinds = set(views["kind1"]) | set(views["kind2"])
    assert not kinds & {"name", "alt"}  # null and weight 0
    near = views[views["kind1"] == "nahe"]["address1"]
    assert len(near) > 100
    assert near.str.contains(" (?:bei|nahe) ").all()
    assert views[views["kind1"] == "seite"]["address1"].str.contains("(?:Nord|Ost|Süd|West|ost|west)seite ").all()
    assert views[views["kind1"] == "ecke"]["address1"].str.contains(r"\(Ecke .* und .*\)").all()


def test_synthetic_parts_have_german_suffixes(german: Tables) -> None:
    pois, views = german
    halls = views[views["kind1"] == "sub_Halle"]
    assert len(halls) > 10
    typed, row = halls["address1"].str.extract(r" H(?:alle )?(\d+)")[0], halls["address2"].str.extract(r", Halle (\d+)")
    assert (typed == row[0]).all()
    owners = pois.set_index("poi_id")
    for poi_id, group in halls.groupby(halls["poi_id"].str.partition("#")[0]):
        assert len(group) <= 2
        assert owners.loc[poi_id, "category"] in {"leisure=park", "amenity=school"}
        assert not str(owners.loc[poi_id, "name"]).endswith("Oy")


def test_a_locale_can_extend_a_file_relative_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "locales"
    folder.mkdir()
    (folder / "de.yaml").write_text(GERMAN, encoding="utf-8")
    at = folder / "ch.yaml"
    merged = "x: &x {parts: name, weight: 3}, y: {<<: *x, weight: 2}"
    at.write_text(f'\ufeffextends: de.yaml\nviews: {{seite: null, {merged}}}\nnumber: "{{}}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # the path is taken from the file's own folder
    swiss, own = load_locale(str(at)), load_locale(str(folder / "de.yaml"))
    assert {t.kind for t in own.views} - {t.kind for t in swiss.views} == {"seite"}
    assert {t.kind: t.weight for t in swiss.views if t.kind in "xy"} == {"x": 3.0, "y": 2.0}
    assert (swiss.number, own.number, swiss.language) == ("{}", "Nr. {}", "de")


WRONG = {
    "unknown key": ("words: {}", "unknown key 'words'"),
    "unknown slot": ("views: {x: 'name colour'}", "views.x.parts: no such slot 'colour'"),
    "phrase named like a slot": ("phrases: {street: [name]}", "phrases.street: 'street' is a slot"),
    "duplicate key": ("views:\n  y: {parts: name,\n    weight: 2, weight: 3}", "own.yaml:4: not YAML: duplicate key"),
    "unknown connector": ("views: {x: 'name @under street'}", "views.x.parts: no such connector '@under'"),
    "kind with a language": ("views: {x@de: name}", "views.x@de: 'x@de' is not a valid name"),
    "missing bearing": ("bearings: {N: null}", "bearings: lacks N"),
    "slot twice": ("metres: '{} {}'", "metres: '{} {}' contains {} twice"),
    "part that is no tag": ("parts: {gate: '{area}'}", "parts.gate: 'gate' is not a tag"),
    "expression in sub": ("sub: [gate, '(']", "sub: not a regular expression: '(?:()'"),
    "variants as flat list": ("variants: [St, Street]", "variants.1: expected two or more different texts"),
    "times": ("suffixes: {x: {of: a, row: a, typed: b, times: 99}}", "suffixes.x.times: expected a number from 1"),
    "circle": ("extends: own.yaml", "extends: the locale extends itself"),
    "broken YAML": ("views: [", "not YAML"),
    "depth": ("join: " + "[" * 5000, "not YAML"),
    "not UTF-8": (b"join: \xff", "is not UTF-8"),
    "empty": ("", "the locale file is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_locale_is_refused_with_file_and_key(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    content = text if isinstance(text, bytes) else text.encode()
    path = tmp_path / "own.yaml"
    path.write_bytes(content if name in ("circle", "empty") else b"extends: neutral\n" + content)
    with pytest.raises(InputError) as caught:
        load_locale(str(path))
    shown = caught.value.render()
    assert message in shown
    assert str(path) in shown
    assert len(shown.splitlines()) <= 2


def test_null_removes_lists_and_parts(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    away = dict.fromkeys(["sub", "drop", "sub_name", "variants", "sides", "suffixes", "settlements"])
    path.write_text(yaml.safe_dump({"extends": "zh", **away, "parts": {"barrier=*": None}}), encoding="utf-8")
    locale = load_locale(str(path))
    assert not locale.is_generic("东门")
    assert (locale.drop, locale.sub_name, locale.variants, locale.sides, locale.suffixes) == ([], (), [], (), [])
    assert locale.part_names(("barrier", "gate"), {"area": "A", "bearing": "东", "ref": ""}) == ()
