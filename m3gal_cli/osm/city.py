"""A city: its places, their facts, and their views. Views are rendered when needed: all together fill the memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.poi_reader import PoiOptions
from m3gal_cli.data.tables import COORDINATE_DECIMALS
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.extract_reader import Progress, read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.locales import BUNDLED, load_locale
from m3gal_cli.osm.place_deduplication import deduplicate_places, local_languages
from m3gal_cli.osm.places import Place, coordinates_of, projection_of, street_of
from m3gal_cli.osm.poi_table_places import localise, read_poi_table, row_view
from m3gal_cli.osm.selection import Selection, limit_places, select_places
from m3gal_cli.osm.spatial_joins import Ints
from m3gal_cli.osm.template_slots import SlotContext, SlotFiller, make_slot_context
from m3gal_cli.osm.uniqueness import POI_ROW, UniquenessIndex, group_by_key
from m3gal_cli.osm.views import Slots, View, ViewRenderer, WordingChooser, first_text
from m3gal_cli.text.normalise import has_han, reading_key

PROGRESS_EVERY = 1000  # places between two progress calls
_ENGLISH_STREETS = (" street", " road", " avenue", " lane", " drive")
_LANGUAGE_SCALE = {True: 0.15, False: 0.4}  # weight of views in another language; key: the locale has a language
_SLOT_COLUMNS = ("words", "street", "housenumber", "area", "district", "city")
POI_COLUMNS = ("poi_id", "address", "lng", "lat", "name", "category", *_SLOT_COLUMNS)


@dataclass(frozen=True)
class SourceOptions:
    """Options of reading an extract or a POI table.

    Attributes:
        table: Whether the source is a POI table.
        locale: "auto", a bundled locale, or the path of a YAML file. "auto" is zh if most names are Chinese, en if most
            streets are English, else neutral.
        datum: Datum of the source: wgs84, gcj02 or bd09.
        selection: The places to describe; objects around them still give facts.
        limit: Largest number of places; see ``limit_places``.
        without: Kinds of views to leave out, as file name patterns ("corner_*").
        node_store: File for the coordinates of nodes, for extracts larger than memory.
        columns: Columns of a POI table by role; see ``data.poi_reader.PoiOptions``.
        bad_rows: File for the invalid rows of a POI table, which are left out; None: they are errors.
    """

    table: bool = False
    locale: str = "auto"
    datum: Datum = "wgs84"
    selection: Selection = field(default_factory=Selection)
    limit: int | None = None
    without: tuple[str, ...] = ()
    node_store: Path | None = None
    seed: int = 2023
    columns: str | None = None
    bad_rows: Path | None = None


class PlaceViews:
    """The facts, slots (in the language of the map) and views of one place."""

    def __init__(self, city: City, j: int) -> None:
        self.place = city.places[j]
        self._city, self._row = city, city.rows[j]
        self.facts = city.fillers[""].context.facts[self._row]
        self.slots: Slots = city.fillers[""].fill(self._row, self.facts)
        self._prepared = {"": city.renderers[""].prepare(self.slots)}

    def view(self, number: int) -> View | None:
        """Return the view of this number (see ``City.templates``), None if the place lacks a slot for it."""
        if number == POI_ROW:
            row = self.place.row
            return row_view(row) if row else self._city.renderers[""].poi_row(self._prepared[""])
        language, template = self._city.templates[number]
        choose = WordingChooser(f"{self._city.seed}|{self.place.poi_id}|{number}")
        renderer = self._city.renderers[language]
        if language not in self._prepared:
            self._prepared[language] = renderer.prepare(self._city.fillers[language].fill(self._row, self.facts))
        return renderer.view(template, self._prepared[language], choose)


class City:
    """The N selected places of an extract.

    Attributes:
        places: The selected places.
        rows: Their indices among all places of the extract, those of the slot context.
        xy: (N, 2) metres on the plane of ``projection``.
        renderers: View renderer by language, "" for the language of the map.
        fillers: Slot filler by language.
        locales: Locale by language.
        templates: Language and template by number of the view; ``POI_ROW`` has none.
        suffixes: The synthetic parts of compounds.
        uniqueness: The views of all places; ``compute_statistics`` fills it.
        notes: Messages about the source and about options without effect.
    """

    def __init__(
        self, context: SlotContext, rows: Sequence[int], renderers: dict[str, ViewRenderer], options: SourceOptions
    ) -> None:
        self.places = [context.places[i] for i in rows]
        self.rows, self.renderers, self.seed = rows, renderers, options.seed
        self.projection = projection_of(context.places)
        self.xy = self.projection.metres(coordinates_of(self.places))
        self.locales = {language: renderer.locale for language, renderer in renderers.items()}
        self.fillers = {language: SlotFiller(context, locale, language) for language, locale in self.locales.items()}
        kinds = [(r.kind_of(t), language, t) for language, r in renderers.items() for t in r.locale.views]
        kept = [(language, t) for kind, language, t in kinds if not _matches(kind, options.without)]
        self.templates = dict(enumerate(kept, POI_ROW + 1))
        suffixes = self.locales[""].suffixes
        self.suffixes = [s for s in suffixes if not _matches(f"sub_{s.kind}", options.without)]
        known = {kind for kind, *_ in kinds} | {f"sub_{s.kind}" for s in suffixes}
        self.notes = _check_without(options.without, known, self.locales[""].name)
        self.uniqueness = UniquenessIndex()

    def __len__(self) -> int:
        return len(self.places)

    def views(self, j: int) -> list[View]:
        """Return the views that only place j has; ``compute_statistics`` must have run."""
        place_views = PlaceViews(self, j)
        return [v for number in self.uniqueness.unique_views(j) if (v := place_views.view(number)) is not None]

    def weight(self, number: int) -> float:
        """Return the frequency in queries of the views of this number, relative to others."""
        language, template = self.templates[number]
        return template.weight * self.renderers[language].scale


def _matches(kind: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(kind, pattern) for pattern in patterns)


def _check_without(patterns: Sequence[str], known: set[str], locale: str) -> list[str]:
    """Return a note for each pattern that only kinds of other locales match; reject patterns that match no kind."""
    notes = []
    for pattern in patterns:
        if any(_matches(kind, [pattern]) for kind in known):
            continue
        others = [name for name in BUNDLED if any(_matches(kind, [pattern]) for kind in load_locale(name).kinds())]
        if not others:
            hint = f"Known kinds: {', '.join(sorted(known))}."
            raise InputError(f"--without {pattern!r} matches no kind of view", hint=hint)
        have = f"only {' and '.join(others)} {'has' if len(others) == 1 else 'have'} one"
        notes.append(f"--without {pattern!r} has no effect: locale {locale} has no kind that matches, {have}.")
    return notes


def read_city(path: Path, options: SourceOptions, progress: Progress) -> City:
    """Read a source and gather the facts of its places. Raises InputError for bad input or a source without places."""
    locale = None if options.locale == "auto" else load_locale(options.locale)
    options.selection.check()
    notes: list[str] = []
    if options.table:
        extract = read_poi_table(path, PoiOptions(options.datum, options.columns, options.bad_rows), notes.append)
    else:
        extract = read_extract(path, options.datum, progress, options.node_store, options.selection.window())
    if not any(p.name for p in extract.places):
        hint = "Check that it is the right extract, and the order of --bbox: west,south,east,north."
        raise InputError("holds no named place", where=path, hint=hint)
    if locale is None:
        locale = load_locale(_choose_locale(extract))
    places = localise(extract.places, locale) if options.table else deduplicate_places(extract, locale.generic_name)
    rows = select_places(places, extract, options.selection)
    progress("joining", 0, 0)
    facts = gather_facts(places, extract, [bool(p.name) and locale.is_generic(p.name) for p in places])
    context = make_slot_context(places, facts, locale)
    renderers = {"": ViewRenderer(locale)}
    for language in local_languages(places, extract.roads):
        if language != locale.language:
            other = load_locale("en" if language == "en" else "neutral") if locale.language == "zh" else locale
            renderers[language] = ViewRenderer(other, language, _LANGUAGE_SCALE[bool(locale.language)])
    rows = _without_ambiguous_parts(rows, places, SlotFiller(context, locale))
    if options.limit is not None:
        rows = [rows[k] for k in limit_places([places[i] for i in rows], options.limit, options.seed)]
    city = City(context, rows, renderers, options)
    city.notes[:0] = notes
    return city


def _choose_locale(extract: Extract) -> str:
    """Return zh if most names have Chinese characters, en if most streets end in an English word, else neutral."""
    names = [p.name for p in extract.places if p.name]
    if sum(map(has_han, names)) * 2 > len(names):
        return "zh"
    english = sum(tags["name"].casefold().endswith(_ENGLISH_STREETS) for tags in extract.roads.tags)
    return "en" if english * 2 > len(extract.roads) else "neutral"


def _without_ambiguous_parts(rows: Sequence[int], places: Sequence[Place], filler: SlotFiller) -> list[int]:
    """Drop unnamed parts that get no name from the locale, or a name that another place of the extract has."""
    made = {i: first_text(filler.fill(i), "name") for i, place in enumerate(places) if place.is_unnamed_part}
    counts = Counter(made.values()) + Counter(p.name for p in places if p.name)
    return [i for i in rows if i not in made or (made[i] and counts[made[i]] == 1)]


@dataclass
class CityStatistics:
    """Values of the N places of a city that depend on all places.

    Attributes:
        pois: The POI table.
        counts: (N,) number of unique views of each place.
        groups: (N,) equal for places that read the same; see ``group_by_key``.
        unique_names: (N,) whether the name of a place is unique and not generic.
        brands: (N,) reading key of the brand, or of the name without its branch.
        areas: (N,) index of the named area around each place, -1 for none.
        crossings: (N,) index of the nearest crossing, -1 for none.
    """

    pois: pd.DataFrame
    counts: Ints
    groups: Ints
    unique_names: list[bool]
    brands: list[str]
    areas: Ints
    crossings: Ints


def compute_statistics(city: City, progress: Progress) -> CityStatistics:
    """Render all views once, to fill the uniqueness index of the city and to collect the POI table."""
    rows: list[tuple[Any, ...]] = []
    brands, crossings, areas = [], [], []
    keys: list[tuple[int, str]] = []
    for j, place in enumerate(city.places):
        if j % PROGRESS_EVERY == 0:
            progress("views", j, len(city))
        place_views = PlaceViews(city, j)
        slots, facts = place_views.slots, place_views.facts
        views = [(n, view) for n in (POI_ROW, *city.templates) if (view := place_views.view(n)) is not None]
        city.uniqueness.add(views)
        address = views[0][1].text if views and views[0][0] == POI_ROW else place.label
        rows.append(_poi_row(place, slots, address))
        brands.append(reading_key(first_text(slots, "plain") or first_text(slots, "brand")) or reading_key(place.name))
        areas.append(facts.area.index if facts.area else -1)
        crossings.append(facts.crossing.index if facts.crossing else -1)
        door = f"{street_of(place.tags)}|{place.tags.get('addr:housenumber', '')}"
        name_and_door = reading_key(place.name) + "|" + reading_key(door) if len(door) > 1 else ""
        keys += [(j, reading_key(address)), (j, name_and_door)]
    city.uniqueness.close()
    labels = [reading_key(p.label) for p in city.places]
    counts, locale = Counter(labels), city.locales[""]
    return CityStatistics(
        pois=pd.DataFrame(rows, columns=list(POI_COLUMNS)),
        counts=city.uniqueness.counts(),
        groups=group_by_key(keys, len(city)),
        unique_names=[
            counts[label] == 1 and not p.is_unnamed_part and not locale.is_generic(p.name)
            for p, label in zip(city.places, labels, strict=True)
        ],
        brands=brands,
        areas=np.array(areas, np.int64),
        crossings=np.array(crossings, np.int64),
    )


def _poi_row(place: Place, slots: Slots, address: str) -> tuple[Any, ...]:
    """Return the values of ``POI_COLUMNS``."""
    name = place.name or (first_text(slots, "name") if place.is_unnamed_part else "")
    category = "=".join(filter(None, place.category))
    lng, lat = round(place.lng, COORDINATE_DECIMALS), round(place.lat, COORDINATE_DECIMALS)
    values = [first_text(slots, "number" if column == "housenumber" else column) for column in _SLOT_COLUMNS]
    return place.poi_id, address, lng, lat, name, category, *values
