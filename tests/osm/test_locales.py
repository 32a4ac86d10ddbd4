"""Locales: what the bundled ones say, a German one built through the command line, and every mistake in a file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.data.tables import read_pois, read_views
from m3gal_cli.errors import InputError
from m3gal_cli.osm.locales import BUNDLED, load_locale
from m3gal_cli.osm.views import Picker, ViewMaker
from m3gal_cli.text.normalise import reads
from tests.helpers.cli import Answer, m3gal


def test_bearings_and_categories() -> None:
    zh = load_locale("zh")
    assert [zh.bearing(d) for d in (0, 22.4, 22.6, 90, 180, 270, 337.6, 360)] == ["北", "北", "东北", *"东南西北北"]
    assert zh.bearing_words(90)[:2] == ("东", "东侧")
    assert zh.bearing_words(45)[:2] == ("东北", "东北方向")
    assert zh.category("amenity", "pharmacy").typed == ("药店", "药房")
    assert zh.category("amenity", "school", "育才幼儿园").words[-1] == "幼儿园"
    assert zh.category("amenity", "school", "育才").words[-1] == "学校"
    assert not zh.category("shop", "no such shop").specific
    assert load_locale("neutral").category("tourism", "camp_site").words == ("camp site",)


@pytest.mark.parametrize("name", ["东门", "北2门", "A口", "3号楼", "停车场", "图书馆"])
def test_names_that_need_their_area(name: str) -> None:
    assert load_locale("zh").is_sub(name)
    assert not load_locale("zh").is_sub("清华大学" + name)


def test_parts_are_called_by_what_is_known() -> None:
    zh = load_locale("zh")
    known = {"area": "翠苑", "bearing": "东", "ref": ""}
    assert zh.part_names(("barrier", "gate"), known) == ("翠苑(东门)", "翠苑东门")
    assert zh.part_names(("building", "yes"), known) == ()
    assert zh.part_names(("building", "yes"), known | {"ref": "3"})[0] == "翠苑3号楼"
    assert zh.part_names(("amenity", "parking"), {"area": "翠苑", "bearing": "", "ref": ""})[0] == "翠苑停车场"
    assert zh.part_names(("amenity", "cafe"), known) == ()


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_locales_give_every_part_a_name(name: str) -> None:
    locale = load_locale(name)
    values = {"area": "A", "bearing": locale.bearing(90), "ref": "3"}
    for entry in load_locale("neutral").parts:
        key, _, value = entry.partition("=")
        assert all("A" in text for text in locale.part_names((key, value), values)), entry
        assert locale.part_names((key, value), values)


# ---- a locale of one's own ----

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


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("german")
    (folder / "de.yaml").write_text(GERMAN, encoding="utf-8")
    answer = build(folder, folder / "de.yaml", "--suffix", "h")
    assert answer.code == 0, answer.err
    assert answer.json()["locale"] == "de"
    return folder


def build(folder: Path, locale: Path, *more: str) -> Answer:
    extract = copy_sample(folder)
    return m3gal("data", "osm", extract, "-o", folder / "out", "--locale", locale, "--json", "--noise", 0, *more)


@pytest.fixture(scope="module")
def pois(german: Path) -> pd.DataFrame:
    return read_pois(german / "out" / "poi_database_h.parquet")


@pytest.fixture(scope="module")
def views(german: Path) -> pd.DataFrame:
    return read_views(german / "out" / "same_poi_views_h.parquet")


def test_a_german_poi_table(pois: pd.DataFrame) -> None:
    inns = pois[pois["category"] == "amenity=restaurant"]
    named = inns["name"].str.contains("sushi|pizza", case=False)
    assert 2 < named.sum() < len(inns) - 20
    assert (inns["words"] == "Essen, Imbiss").tolist() == named.tolist()
    numbered = pois[pois["housenumber"] != ""]
    assert numbered["housenumber"].str.startswith("Nr. ").sum() > 500
    assert (pois["category"] == "amenity=pharmacy").sum() > 5
    assert set(pois.loc[pois["category"] == "amenity=pharmacy", "words"]) == {"Apotheke"}
    corners = pois["address"][pois["address"].str.contains(", Ecke ")]
    assert corners.str.contains(" und ").all()
    far = corners.str.extract(r"(\d+) Meter")[0].dropna().astype(int)
    assert len(far) > 20
    assert (far % 50 == 0).all()


def test_german_parts(pois: pd.DataFrame) -> None:
    gates = pois[pois["category"].isin(["barrier=gate", "barrier=entrance"]) & pois["name"].str.contains("tor von ")]
    assert len(gates) > 0
    assert gates["name"].str.match(r"^(Nord|Nordost|Ost|Südost|Süd|Südwest|West|Nordwest)tor von .").all()
    assert pois["name"].str.match(r"^Parkplatz .").any()
    assert not ((pois["category"] == "entrance=yes") & (pois["name"] == "")).any()  # entrance=*: null


def test_german_views(views: pd.DataFrame) -> None:
    kinds = set(views["kind1"]) | set(views["kind2"])
    assert not kinds & {"name", "alt"}  # null and weight 0
    near = views[views["kind1"] == "nahe"]["address1"]
    assert len(near) > 100
    assert near.str.contains(" (?:bei|nahe) ").all()
    assert views[views["kind1"] == "seite"]["address1"].str.contains("(?:Nord|Ost|Süd|West|ost|west)seite ").all()
    assert views[views["kind1"] == "ecke"]["address1"].str.contains(r"\(Ecke .* und .*\)").all()


def test_german_suffixes(views: pd.DataFrame, pois: pd.DataFrame) -> None:
    halls = views[views["kind1"] == "sub_Halle"]
    assert len(halls) > 10
    typed, row = halls["address1"].str.extract(r" H(?:alle )?(\d+)")[0], halls["address2"].str.extract(r", Halle (\d+)")
    assert (typed == row[0]).all()
    owners = pois.set_index("poi_id")
    for poi_id, group in halls.groupby(halls["poi_id"].str.partition("#")[0]):
        assert len(group) <= 2
        assert owners.loc[poi_id, "category"] in {"leisure=park", "amenity=school"}
        assert not str(owners.loc[poi_id, "name"]).endswith("Oy")


def test_a_locale_that_extends_a_neighbour_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "locales"
    folder.mkdir()
    (folder / "de.yaml").write_text(GERMAN, encoding="utf-8")
    at = folder / "ch.yaml"
    at.write_text('\ufeffextends: de.yaml\nviews: {seite: null}\nnumber: "{}"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)  # the path is taken from the file's own folder
    swiss, own = load_locale(str(at)), load_locale(str(folder / "de.yaml"))
    assert {t.kind for t in own.views} - {t.kind for t in swiss.views} == {"seite"}
    assert (swiss.number, own.number, swiss.language) == ("{}", "Nr. {}", "de")


def test_a_user_adds_words_and_views_without_code(tmp_path: Path) -> None:
    own = tmp_path / "fi.yaml"
    own.write_text(
        "extends: neutral\nlanguage: fi\nconnectors: {near: [lähellä]}\n"
        "categories: {amenity=pharmacy: apteekki}\nviews:\n  close: {parts: 'name @near landmark', weight: 2}\n",
        encoding="utf-8",
    )
    locale = load_locale(str(own))
    assert locale.category("amenity", "pharmacy").words == ("apteekki",)
    assert locale.category("amenity", "cafe").words == ("cafe",)
    maker = ViewMaker(locale, reads)
    ready = maker.ready({"name": ("Blue Cat",), "landmark": ("City Hall",), "street": ("Main Street",)})
    made = {t.kind: maker.view(t, ready, Picker("x")) for t in locale.views}
    said = {kind: view.text for kind, view in made.items() if view is not None}
    assert said["close"] == "Blue Cat lähellä City Hall"
    assert said["name_street"] == "Blue Cat Main Street"


# ---- what is wrong in a file is said in a line or two, with the file and the key ----

WRONG = {
    "unknown key": ("words: {}", "unknown key 'words'"),
    "key that is no text": ("1: 2\n[3, 4]: 5", "not YAML"),
    "unknown key, a number": ("1: 2", "unknown key '1'"),
    "unknown field": ("views: {x: 'name colour'}", "views.x.parts: no such field 'colour'"),
    "unknown field in a phrase": ("phrases: {x: ['colour']}", "phrases.x: no such field 'colour'"),
    "unknown field in the row": ("full: 'name colour'", "full: no such field 'colour'"),
    "phrase below its user": ("phrases: {x: [y], y: [name]}", "phrases.x: no such field 'y'"),
    "phrase of itself": ("phrases: {x: [x]}", "phrases.x: no such field 'x'"),
    "phrase called like a field": ("phrases: {street: [name]}", "phrases.street: 'street' is a field"),
    "key twice": ("join: ' '\nmetres: '{} m'\njoin: ', '", "own.yaml:4: the key 'join' stands here again"),
    "key twice further in": (
        "views:\n  x: name\n  y: {parts: name,\n    weight: 2, weight: 3}",
        "own.yaml:5: the key 'weight' stands here again",
    ),
    "kind twice": ("views:\n  x: name\n  'x': street", "own.yaml:4: the key 'x' stands here again"),
    "number twice": ("views: {1: name, '1': street}", "own.yaml:2: the key '1' stands here again"),
    "base twice": ("extends: zh\nextends: en", "own.yaml:2: the key 'extends' stands here again"),
    "character that YAML has not": ("join: '\a'", "not YAML"),
    "unknown connector": ("views: {x: 'name @under street'}", "views.x.parts: no such connector '@under'"),
    "connector without words": ("connectors: {near: []}", "connectors.near: expected at least one text"),
    "connector of null": ("connectors: {near: null}", "connectors.near: expected at least one text"),
    "connector as YAML truth": ("connectors: {along: [on]}", "connectors.along: expected a text or a list of texts"),
    "connector as mapping": ("connectors: {near: {a: b}}", "connectors.near: expected a text or a list of texts"),
    "connectors as list": ("connectors: [near]", "connectors: expected a mapping"),
    "views as text": ("views: name", "views: expected a mapping"),
    "view without parts": ("views: {x: {weight: 2}}", "views.x: lacks parts"),
    "view of nothing": ("views: {x: {parts: ''}}", "views.x.parts: expected parts"),
    "view as list": ("views: {x: [name]}", "views.x.parts: expected text"),
    "unknown key of a view": ("views: {x: {parts: name, wieght: 2}}", "views.x: unknown key 'wieght'"),
    "negative weight": ("views: {x: {parts: name, weight: -1}}", "views.x.weight: expected a number from 0"),
    "no weight": ("views: {x: {parts: name, weight: heavy}}", "views.x.weight: expected a number from 0"),
    "weight that is no number": ("views: {x: {parts: name, weight: .nan}}", "views.x.weight: expected a number"),
    "swap": ("views: {x: {parts: name, swap: 1}}", "views.x.swap: expected true or false"),
    "kind with a language": ("views: {x@de: name}", "views.x@de: 'x@de' is no name for a kind"),
    "kind with a comma": ("views: {'a,b': name}", "views.a,b: 'a,b' is no name for a kind"),
    "kind of the row": ("views: {poi: name}", "views.poi: 'poi' is no name for a kind"),
    "missing bearing": ("bearings: {N: null}", "bearings: lacks N"),
    "unknown bearing": ("bearings: {NNE: x}", "bearings: unknown key 'NNE'"),
    "bearing as list": ("bearings: {N: [x]}", "bearings.N: expected text"),
    "form without words": ("bearing_forms: {straight: []}", "bearing_forms.straight: expected at least one text"),
    "unknown form": ("bearing_forms: {round: ['{}']}", "bearing_forms: unknown key 'round'"),
    "slot of a form": ("bearing_forms: {straight: ['{b}']}", "bearing_forms.straight: '{b}' holds {b}"),
    "slot of a side": ("sides: ['{side}']", "sides: '{side}' holds {side}"),
    "slot twice": ("metres: '{} {}'", "metres: '{} {}' holds {} twice"),
    "metres without a slot": ("metres: metres", "metres: 'metres' lacks {}"),
    "metres with braces alone": ("metres: '{{}} m'", "metres: '{{}} m' lacks {}"),
    "number without a slot": ("number: Nr.", "number: 'Nr.' lacks {}"),
    "number of nothing": ("number: ''", "number: '' lacks {}"),
    "slot with a format": ("metres: '{:d}'", "metres: '{:d}' holds {:d}"),
    "slot with a conversion": ("number: '{!r}'", "number: '{!r}' holds {!r}"),
    "slot that is open": ("metres: '{ m'", "metres: '{ m': "),
    "slot of the fallback": ("fallback: '{tag}'", "fallback: '{tag}' holds {tag}"),
    "fallback that is open": ("fallback: '{'", "fallback: '{': "),
    "slot of a sub name": ("sub_name: ['{city} {sub}']", "sub_name: '{city} {sub}' holds {city}"),
    "slot of a part": ("parts: {barrier=*: '{area} {n}'}", "parts.barrier=*: '{area} {n}' holds {n}"),
    "part that is no tag": ("parts: {gate: '{area}'}", "parts.gate: 'gate' is no tag"),
    "category that is no tag": ("categories: {cafe: cafe}", "categories.cafe: 'cafe' is no tag"),
    "category as list": ("categories: {amenity=cafe: [a, b]}", "categories.amenity=cafe: expected text"),
    "expression of a category": ("categories: {'shop=x ~ (': a}", "categories.shop=x ~ (: not a regular expression"),
    "expression in sub": ("sub: [gate, '(']", "sub: not a regular expression: '(?:()'"),
    "flags inside sub": ("sub: [gate, '(?i)door']", "sub: not a regular expression"),
    "expressions that do not go together": ("sub: ['(?P<a>x)', '(?P<a>y)']", "sub: not a regular expression"),
    "expression in drop": ("drop: ['*x']", "drop: not a regular expression: '*x'"),
    "expression beyond measure": ("drop: ['x{99999999999}']", "drop: not a regular expression"),
    "drop as mapping": ("drop: {a: b}", "drop: expected a text or a list of texts"),
    "variants as number": ("variants: 3", "variants: expected a list of lists"),
    "variants as flat list": ("variants: [St, Street]", "variants.1: expected two or more texts"),
    "variant of one": ("variants: [[a, b], [c]]", "variants.2: expected two or more texts"),
    "variant of nothing": ("variants: [[a, '']]", "variants.1: expected two or more texts"),
    "variant as mapping": ("variants: [{a: b}]", "variants.1: expected a text or a list of texts"),
    "half of apart": ("apart: {ends: 面}", "apart: lacks begins"),
    "unknown key of apart": ("apart: {ends: a, begins: b, within: c}", "apart: unknown key 'within'"),
    "apart as list": ("apart: [a, b]", "apart: expected a mapping"),
    "levels as number": ("admin: {city: 8}", "admin.city: expected admin levels, got 8"),
    "levels as words": ("admin: {city: ['8']}", "admin.city: expected admin levels"),
    "unknown kind of level": ("admin: {county: [6]}", "admin: unknown key 'county'"),
    "metres_step": ("metres_step: 0", "metres_step: expected a number from 1"),
    "broken metres_step": ("metres_step: 2.5", "metres_step: expected a whole number"),
    "slips": ("slips: 2", "slips: expected a number from 0 to 1"),
    "shorten": ("shorten: true", "shorten: expected a number from 0 to 1"),
    "language": ("language: no", "language: expected text, got 'False'"),
    "join": ("join: null", "join: expected text, got 'None'"),
    "numerals": ("numerals: [一]", "numerals: expected text"),
    "suffixes without wordings": ("suffixes: {x: {of: a, typed: b}}", "suffixes.x: lacks row"),
    "suffixes with none": ("suffixes: {x: {of: a, row: [], typed: b}}", "suffixes.x.row: expected at least one text"),
    "suffixes as text": ("suffixes: {x: a}", "suffixes.x: expected a mapping"),
    "expression of suffixes": ("suffixes: {x: {of: '(', row: a, typed: b}}", "suffixes.x.of: not a regular expression"),
    "slot of suffixes": ("suffixes: {x: {of: a, row: '{m}', typed: b}}", "suffixes.x.row: '{m}' holds {m}"),
    "times": (
        "suffixes: {x: {of: a, row: a, typed: b, times: 99}}",
        "suffixes.x.times: expected a number from 1",
    ),
    "unknown key of suffixes": ("suffixes: {x: {of: a, row: a, typed: b, n: 1}}", "suffixes.x: unknown key 'n'"),
    "no such base": ("extends: klingon", "extends: no such locale 'klingon'"),
    "no such file below": ("extends: nowhere.yaml", "extends: no such locale 'nowhere.yaml'"),
    "base as list": ("extends: [zh]", "extends: no such locale"),
    "circle": ("extends: own.yaml", "extends: locales extend each other in a circle"),
    "broken YAML": ("views: [", "not YAML"),
    "no date": ("join: 2001-99-99", "not YAML"),
    "object": ("join: !!python/object:os.system {}", "not YAML"),
    "depth": ("join: " + "[" * 5000, "not YAML"),
    "list": ("- a", "expected a mapping"),
    "comment alone": ("# nothing", "expected a mapping"),
    "not UTF-8": (b"join: \xff", "cannot read the locale file"),
    "empty": ("", "the locale file is empty"),
}


def wrong_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "own.yaml"
    if isinstance(text, str):
        whole = text if not text or text.startswith(("extends", "- ", "#")) else f"extends: neutral\n{text}\n"
        text = whole.encode()
    path.write_bytes(text)
    return path


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_a_locale_is_said(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    path = wrong_file(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_locale(str(path))
    told = caught.value.render()
    assert message in told
    assert str(path) in told
    assert len(told.splitlines()) <= 2


def test_a_locale_alone_must_have_its_bearings(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("join: ' '\n")
    with pytest.raises(InputError, match=r"own\.yaml: bearings: lacks N"):
        load_locale(str(tmp_path / "own.yaml"))


@pytest.mark.parametrize(
    "name", ["unknown field", "no such file below", "broken YAML", "not UTF-8", "flags inside sub"]
)
def test_the_command_says_it_too_and_writes_nothing(tmp_path: Path, name: str) -> None:
    text, message = WRONG[name]
    answer = build(tmp_path, wrong_file(tmp_path, text))
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    answer = build(tmp_path, tmp_path / "no.yaml")
    assert answer.code == 2
    assert "no such locale file" in answer.err
    assert build(tmp_path, Path("tlh")).code == 2


def test_yaml_may_merge_mappings(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("extends: neutral\nviews:\n  x: &x {parts: name, weight: 3}\n  y: {<<: *x, weight: 2}\n")
    assert {t.kind: t.weight for t in load_locale(str(path)).views if t.kind in "xy"} == {"x": 3.0, "y": 2.0}


def test_null_takes_lists_and_parts_away(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    away = dict.fromkeys(["sub", "drop", "sub_name", "variants", "sides", "suffixes", "settlements"])
    path.write_text(yaml.safe_dump({"extends": "zh", **away, "parts": {"barrier=*": None}}), encoding="utf-8")
    locale = load_locale(str(path))
    assert locale.sub_pattern is None
    assert not locale.is_sub("东门")
    assert (locale.drop, locale.sub_name, locale.variants, locale.sides, locale.suffixes) == ([], (), [], (), [])
    assert locale.part_names(("barrier", "gate"), {"area": "A", "bearing": "东", "ref": ""}) == ()
    assert load_locale("zh").suffixes != []
