"""A city: its places with what is known of them, and their views, made when they are asked for and never all held."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from m3gal_cli.data.tables import COORDINATE_DECIMALS
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import Datum
from m3gal_cli.geo.projection import Frame
from m3gal_cli.osm.extract import Progress, read_extract
from m3gal_cli.osm.facts import Facts, gather_facts
from m3gal_cli.osm.locales import BUNDLED, Locale, Template, load_locale
from m3gal_cli.osm.places import Place, distinct_places, local_languages, street_of
from m3gal_cli.osm.poi_table_places import in_locale, read_rows, row_view
from m3gal_cli.osm.selection import Selection, select_places
from m3gal_cli.osm.template_slots import FieldMaker, Fields, make_gazetteer
from m3gal_cli.osm.uniqueness import ROW, Ints, UniquenessIndex, groups_of
from m3gal_cli.osm.views import Picker, Ready, View, ViewMaker
from m3gal_cli.text.normalise import has_han, reads

_ENGLISH = (" street", " road", " avenue", " lane", " drive")
_OTHER_LANGUAGE = {True: 0.15, False: 0.4}  # weight of views in another language; True: the locale has a language
POI_COLUMNS = (
    "poi_id", "address", "lng", "lat", "name", "category", "words", "street", "housenumber", "area", "district", "city",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How to read an extract or a POI table.

    Attributes:
        table: Whether the source is a POI table.
        locale: auto (zh where most names are Chinese, en where most streets are English, else neutral), zh, en,
            neutral, or the path of a locale's YAML file.
        datum: Of the extract's coordinates: wgs84, gcj02 or bd09.
        selection: Which places to describe; what lies around them still counts.
        limit: Places at most, spread over space and kind.
        without: Kinds of views to leave out, as file name patterns ("corner_*").
        node_store: File for the places of nodes, for extracts beyond memory.
        seed: Everything random follows from it.
    """

    table: bool = False
    locale: str = "auto"
    datum: Datum = "wgs84"
    selection: Selection = field(default_factory=Selection)
    limit: int | None = None
    without: tuple[str, ...] = ()
    node_store: Path | None = None
    seed: int = 2023


class Described:
    """One place while its views are made: its facts, and its fields in every language, made when they are needed."""

    def __init__(self, city: City, j: int) -> None:
        self.place, self.fact = city.places[j], city.facts(j)
        self._city, self._row = city, city.rows[j]
        self._fields: dict[str, tuple[Fields, Ready]] = {}

    def fields(self, code: str = "") -> Fields:
        """The fields in a language, the map's if nothing is said."""
        return self._made(code)[0]

    def view(self, number: int) -> View | None:
        """The view of this number, None where the place lacks something for it."""
        if number == ROW and self.place.row:
            return row_view(self.place.row)
        if number == ROW:
            return self._city.makers[""][1].full(self._made("")[1])
        code, template = self._city.kinds[number]
        pick = Picker(f"{self._city.seed}|{self.place.poi_id}|{number}")
        return self._city.makers[code][1].view(template, self._made(code)[1], pick)

    def _made(self, code: str) -> tuple[Fields, Ready]:
        if code not in self._fields:
            maker, viewer = self._city.makers[code]
            fields = maker.fields(self._row, self.fact)
            self._fields[code] = fields, viewer.ready(fields)
        return self._fields[code]


class City(Sequence[list[View]]):
    """The described places of an extract; ``city[j]`` are the views that tell place j from all others, made afresh.

    Attributes:
        places: The described places; ``rows`` are their numbers among all of the extract.
        where: (N, 2) metres on the plane of ``frame``.
        makers: By language code, "" for the map's own.
        kinds: Language and template of every number of a view; none for ``ROW``.
        census: Filled by ``survey``.
        notes: What the user should know of the options.
    """

    def __init__(
        self,
        places: Sequence[Place],
        rows: Sequence[int],
        facts: Sequence[Facts],
        makers: dict[str, tuple[FieldMaker, ViewMaker]],
        frame: Frame,
        how: Reading,
    ) -> None:
        self.places = [places[i] for i in rows]
        self.rows, self._facts, self.makers, self.seed = rows, facts, makers, how.seed
        self.frame = frame
        self.where = frame.metres(np.array([(p.lng, p.lat) for p in self.places]).reshape(-1, 2))
        self.locales: dict[str, Locale] = {code: viewer.locale for code, (_, viewer) in makers.items()}
        every = [(code, t) for code, (_, viewer) in makers.items() for t in viewer.locale.views]
        kept = [(c, t) for c, t in every if not matches(makers[c][1].kind_of(t), how.without)]
        self.kinds: dict[int, tuple[str, Template]] = dict(enumerate(kept, ROW + 1))
        self.suffixes = [s for s in self.locales[""].suffixes if not matches(f"sub_{s.kind}", how.without)]
        known = {makers[c][1].kind_of(t) for c, t in every} | {f"sub_{s.kind}" for s in self.locales[""].suffixes}
        self.notes = _check_without(how.without, known, self.locales[""].name)
        self.uniqueness = UniquenessIndex(reads)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, j: int) -> list[View]: ...
    @overload
    def __getitem__(self, j: slice) -> list[list[View]]: ...
    def __getitem__(self, j: int | slice) -> list[View] | list[list[View]]:
        if isinstance(j, slice):
            return [self[n] for n in range(*j.indices(len(self)))]
        told = Described(self, j)
        return [view for number in self.uniqueness.alone(j) if (view := told.view(number)) is not None]

    def facts(self, j: int) -> Facts:
        """What is known of place j."""
        return self._facts[self.rows[j]]

    def weight(self, number: int) -> float:
        """How often, relative to the others, people type a view of this number."""
        code, template = self.kinds[number]
        return template.weight * self.makers[code][1].scale


def matches(kind: str, patterns: Sequence[str]) -> bool:
    """Whether a kind of view fits one of the patterns."""
    return any(fnmatchcase(kind, pattern) for pattern in patterns)


def _check_without(patterns: Sequence[str], known: set[str], locale: str) -> list[str]:
    """Notes on the patterns that fit no kind of this locale but one of another; those that fit none are refused."""
    notes = []
    for pattern in patterns:
        if any(fnmatchcase(kind, pattern) for kind in known):
            continue
        others = [name for name in BUNDLED if any(fnmatchcase(kind, pattern) for kind in load_locale(name).kinds())]
        if not others:
            hint = f"Known kinds: {', '.join(sorted(known))}."
            raise InputError(f"--without {pattern!r} fits no kind of view", hint=hint)
        has = f"only {' and '.join(others)} {'has' if len(others) == 1 else 'have'} such"
        notes.append(f"--without {pattern!r} leaves nothing out: locale {locale} has no kind of view that fits, {has}.")
    return notes


@dataclass
class Survey:
    """What takes all places of a city to know; N places.

    Attributes:
        pois: The POI table, a row a place.
        counts: Views of each place that fit it alone.
        groups: Equal for places that read the same.
        unique: Whether a place's name is its own alone and says something without the place around it.
        brands: Brand, or the name without its branch, as it reads.
        areas, crossings: Numbers of the named area around each place and of its nearest crossing, -1 for none.
    """

    pois: pd.DataFrame
    counts: Ints
    groups: Ints
    unique: list[bool]
    brands: list[str]
    areas: Ints
    crossings: Ints


def read_city(path: Path, how: Reading, tell: Progress) -> City:
    """Read a source and find out what is known of its places. Raises InputError for bad input or an empty city."""
    locale = None if how.locale == "auto" else load_locale(how.locale)
    how.selection.check()
    if how.table:
        extract = read_rows(path, how.datum)
    else:
        extract = read_extract(path, how.datum, tell, how.node_store, how.selection.window())
    if not any(p.name for p in extract.places):
        raise InputError("holds no named place", where=path, hint="Is it the right extract? Streets alone will not do.")
    if locale is None:
        locale = load_locale(choose_locale(extract.places, [tags["name"] for tags in extract.roads.tags]))
    places = distinct_places(extract, locale.sub_pattern) if not how.table else in_locale(extract.places, locale)
    rows = select_places(places, extract, how.selection, None, how.seed)
    tell("joining", 0, 0)
    facts = gather_facts(places, extract, [bool(p.name) and locale.is_sub(p.name) for p in places])
    gazetteer = make_gazetteer(places, facts, locale)
    languages = [code for code in local_languages(places, extract.roads) if code != locale.language]
    makers = {"": (FieldMaker(gazetteer, locale), ViewMaker(locale, reads))}
    for code in languages:
        other = load_locale("en" if code == "en" else "neutral") if locale.language == "zh" else locale
        scale = _OTHER_LANGUAGE[bool(locale.language)]
        makers[code] = (FieldMaker(gazetteer, other, code), ViewMaker(other, reads, code, scale))
    rows = _tellable(rows, places, makers[""][0])
    if how.limit is not None:
        chosen = select_places([places[i] for i in rows], extract, Selection(), how.limit, how.seed)
        rows = [rows[k] for k in chosen]
    return City(places, rows, facts, makers, Frame(places), how)


def choose_locale(places: Sequence[Place], streets: Sequence[str]) -> str:
    """zh where most names hold Chinese characters, en where most streets end in an English word, else neutral."""
    names = [p.name for p in places if p.name]
    if sum(map(has_han, names)) * 2 > len(names):
        return "zh"
    english = sum(s.casefold().endswith(_ENGLISH) for s in streets)
    return "en" if english * 2 > len(streets) else "neutral"


def _tellable(rows: Sequence[int], places: Sequence[Place], maker: FieldMaker) -> list[int]:
    """Without the parts of compounds for which the locale has no name, or whose name another place has too, be it one
    of the rows or not."""
    named = {i: maker.fields(i).get("name", ("",))[0] for i, place in enumerate(places) if place.is_part}
    counts = Counter(named.values()) + Counter(p.name for p in places if p.name)
    return [i for i in rows if i not in named or (named[i] and counts[named[i]] == 1)]


def survey(city: City, tell: Progress) -> Survey:
    """Look at every view of every place once: fills the city's census, and gathers what stands in the POI table."""
    columns: dict[str, list[Any]] = {name: [] for name in POI_COLUMNS}
    brands, crossings, areas = [], array("q"), array("q")
    readings: list[tuple[int, str]] = []
    for j, place in enumerate(city.places):
        if j % 1000 == 0:
            tell("views", j, len(city))
        told = Described(city, j)
        fields, fact = told.fields(), told.fact
        views = [(n, view) for n in (ROW, *city.kinds) if (view := told.view(n)) is not None]
        city.uniqueness.add(views)
        full = views[0][1].text if views and views[0][0] == ROW else place.reading
        _add_poi(columns, place, fields, full)
        brands.append(reads(fields.get("plain", ("",))[0] or fields.get("brand", ("",))[0]) or reads(place.name))
        areas.append(fact.area_index)
        crossings.append(fact.crossing[2].who if fact.crossing else -1)
        door = f"{street_of(place.tags)}|{place.tags.get('addr:housenumber', '')}"
        readings += [(j, reads(full)), (j, reads(place.name) + "|" + reads(door) if len(door) > 1 else "")]
    names = Counter(reads(p.reading) for p in city.places)
    city.uniqueness.close()
    return Survey(
        pois=pd.DataFrame(columns),
        counts=city.uniqueness.counts(),
        groups=groups_of(readings, len(city)),
        unique=[
            names[reads(p.reading)] == 1 and not p.is_part and not city.locales[""].is_sub(p.name) for p in city.places
        ],
        brands=brands,
        areas=np.array(areas, np.int64),
        crossings=np.array(crossings, np.int64),
    )


def _add_poi(columns: dict[str, list[Any]], place: Place, fields: Fields, full: str) -> None:
    key, value = place.category
    known = {name: fields.get(name, ("",))[0] for name in ("street", "area", "district", "city", "words")}
    row = known | {
        "poi_id": place.poi_id,
        "address": full,
        "lng": round(place.lng, COORDINATE_DECIMALS),
        "lat": round(place.lat, COORDINATE_DECIMALS),
        "name": place.name or (fields.get("name", ("",))[0] if place.is_part else ""),
        "category": f"{key}={value}" if value else key,
        "housenumber": fields.get("number", ("",))[0],
    }
    for name, column in columns.items():
        column.append(row[name])
