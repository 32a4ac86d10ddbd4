"""From an extract to everything that training and evaluation read: views, POI table, candidate records."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.candidates import Pois, mine
from m3gal_cli.data.coordinates import Datum, check_datum
from m3gal_cli.data.files import probe_folder
from m3gal_cli.data.locales import Locale, load_locale
from m3gal_cli.data.osm.extract import Progress, read_extract
from m3gal_cli.data.osm.facts import Frame, gather_facts
from m3gal_cli.data.osm.fields import FieldMaker, Fields, make_gazetteer
from m3gal_cli.data.osm.places import Place, distinct_places, has_han, local_languages, reads
from m3gal_cli.data.osm.queries import HeldOut, Query, Typist, hold_out, standpoints, train_queries
from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.tables import COORDINATE_DECIMALS, write_pois, write_views
from m3gal_cli.data.views import FULL, View, ViewMaker, differ, make_pairs, unambiguous
from m3gal_cli.errors import InputError

_ENGLISH = (" street", " road", " avenue", " lane", " drive")


@dataclass(frozen=True)
class OsmOptions:
    """How to build a city.

    Attributes:
        locale: auto (zh where most names are Chinese, en where most streets are English, else neutral), zh, en,
            neutral, or the path of a locale's YAML file.
        suffix: Ends the names of the files.
        seed: Everything random follows from it.
        datum: Of the extract's coordinates: wgs84, gcj02 or bd09.
        max_pairs_per_place: Training pairs a place at most.
        noise: Strength of the typed-query noise on queries and on half of the first sides of pairs, 0 to 1.
        negatives: Negatives a record.
        train_queries, val_queries, test_queries: Records wanted; small cities give fewer.
    """

    locale: str = "auto"
    suffix: str = "osm"
    seed: int = 2023
    datum: Datum = "wgs84"
    max_pairs_per_place: int = 8
    noise: float = 0.5
    negatives: int = 39
    train_queries: int = 3000
    val_queries: int = 500
    test_queries: int = 1000

    def check(self) -> None:
        """Raise InputError for a value that makes no sense."""
        check_datum(self.datum)
        if not self.suffix or any(c in self.suffix for c in "/\\\0"):
            raise InputError(f"suffix {self.suffix!r} cannot be part of a file name", hint="Use letters and digits.")
        if not 0.0 <= self.noise <= 1.0:
            raise InputError(f"noise {self.noise} is not between 0 and 1")
        for name in ("max_pairs_per_place", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "train_queries", "val_queries", "test_queries"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class OsmSummary:
    """What was built: counts, the locale chosen, seconds taken and the files written."""

    locale: str
    languages: list[str]
    places: int
    places_without_pairs: int
    pairs: int
    kinds: dict[str, int]
    queries: dict[str, int]
    seconds: float
    files: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self)


@dataclass
class _City:
    """Places with their fields, POI rows, every view (``raw``) and the unambiguous ones (``views``), in step."""

    places: list[Place]
    fields: list[Fields]
    raw: list[list[View]]
    views: list[list[View]]
    pois: pd.DataFrame
    where: np.ndarray
    frame: Frame
    locales: dict[str, Locale]


def build_city(extract: Path, out: Path, options: OsmOptions, progress: Progress | None = None) -> OsmSummary:
    """Build the view table, the POI table and the candidate records of an extract.

    Writes ``same_poi_views_<suffix>.csv`` and ``poi_database_<suffix>.csv``, each with a .parquet twin, and
    ``{train,val,test}_dataset_use_gis_<suffix>.jsonl`` into ``out``; all at the end, so that
    an error leaves none of them.

    Args:
        extract: .osm.pbf, .pbf, .osm, .osm.gz or .osm.bz2.
        out: The folder; made if need be.
        options: See ``OsmOptions``.
        progress: Called as (step, done, total).

    Raises:
        InputError: broken input or options, an extract without a named place, an output folder that cannot be written.
    """
    start = time.perf_counter()
    options.check()
    tell = progress or (lambda step, done, total: None)
    locale = None if options.locale == "auto" else load_locale(options.locale)
    probe_folder(out)
    city = _read_city(extract, locale, options, tell)
    unique = _own_names(city.places)
    typist = Typist(city.raw, unique, city.locales, options.seed)
    sizes = {"test": options.test_queries, "val": options.val_queries}
    held = hold_out(city.views, typist, sizes, options.noise)
    views = _pair_table(city, held, typist, options)
    if views.empty:
        raise InputError(
            "no place has two views that tell it from the others", where=extract, hint="Take more of the city."
        )
    queries = {"train": train_queries(city.views, held, typist, options.train_queries, options.noise), **held.queries}
    records = _records(city, queries, options, tell)
    files = _write(out, options.suffix, views, city.pois, records, tell)
    paired = views["poi_id"].nunique()
    return OsmSummary(
        locale=city.locales[""].name,
        languages=[name for name in city.locales if name],
        places=len(city.places),
        places_without_pairs=len(city.places) - paired,
        pairs=len(views),
        kinds=dict(Counter(views["kind1"]).most_common()),
        queries={name: len(rows) for name, rows in records.items()},
        seconds=round(time.perf_counter() - start, 2),
        files=files,
    )


def choose_locale(places: list[Place], streets: list[str]) -> str:
    """zh where most names hold Chinese characters, en where most streets end in an English word, else neutral."""
    names = [p.name for p in places if p.name]
    if sum(map(has_han, names)) * 2 > len(names):
        return "zh"
    english = sum(s.casefold().endswith(_ENGLISH) for s in streets)
    return "en" if english * 2 > len(streets) else "neutral"


def _read_city(path: Path, locale: Locale | None, options: OsmOptions, tell: Progress) -> _City:
    extract = read_extract(path, options.datum, tell)
    candidates = distinct_places(extract)
    if not any(p.name for p in candidates):
        raise InputError("holds no named place", where=path, hint="Is it the right extract? Streets alone will not do.")
    if locale is None:
        locale = load_locale(choose_locale(candidates, [tags["name"] for tags in extract.roads.tags]))
    places = distinct_places(extract, locale.sub_pattern)
    tell("joining", 0, len(places))
    facts = gather_facts(places, extract, [bool(p.name) and locale.is_sub(p.name) for p in places])
    gazetteer = make_gazetteer(places, facts, locale)
    languages = [code for code in local_languages(places, extract.roads) if code != locale.language]
    makers = {"": (FieldMaker(gazetteer, locale), ViewMaker(locale, reads))}
    locales = {"": locale}
    for code in languages:
        other = load_locale("en" if code == "en" else "neutral") if locale.language == "zh" else locale
        locales[code] = other
        makers[code] = (
            FieldMaker(gazetteer, other, code),
            ViewMaker(other, reads, code, 0.15 if locale.language else 0.4),
        )
    fields = [makers[""][0].fields(i) for i in range(len(places))]
    views = [_views(i, place, fields[i], makers, options.seed) for i, place in enumerate(places)]
    frame = Frame(places)
    pois = _poi_table(places, fields, views)
    where = frame.metres(pois[["lng", "lat"]].to_numpy())
    return _City(places, fields, views, unambiguous(views, reads), pois, where, frame, locales)


def _views(
    i: int, place: Place, fields: Fields, makers: dict[str, tuple[FieldMaker, ViewMaker]], seed: int
) -> list[View]:
    """Every view of a place in every language, the POI row first."""
    rng = random.Random(f"{seed}|views|{place.poi_id}")
    full = makers[""][1].full(fields)
    found = [] if full is None or not full.text else [full]
    for code, (maker, viewer) in makers.items():
        found += viewer.views(maker.fields(i) if code else fields, rng)
    return found


def _poi_table(places: list[Place], fields: list[Fields], views: list[list[View]]) -> pd.DataFrame:
    """The POI rows, one a place, in the order of the places."""
    rows = []
    for place, known, row in zip(places, fields, views, strict=True):
        one: dict[str, object] = {
            name: known.get(name, ("",))[0] for name in ("street", "number", "area", "district", "city", "words")
        }
        full = next((v.text for v in row if v.kind == FULL), place.reading)
        key, value = place.category
        one |= {"poi_id": place.poi_id, "address": full, "lng": place.lng, "lat": place.lat, "name": place.name}
        rows.append(one | {"category": f"{key}={value}" if value else key})
    order = [
        "poi_id",
        "address",
        "lng",
        "lat",
        "name",
        "category",
        "words",
        "street",
        "housenumber",
        "area",
        "district",
        "city",
    ]
    frame = pd.DataFrame(rows).rename(columns={"number": "housenumber"})[order]
    return frame.assign(lng=frame["lng"].round(COORDINATE_DECIMALS), lat=frame["lat"].round(COORDINATE_DECIMALS))


def _own_names(places: list[Place]) -> list[bool]:
    counts = Counter(reads(p.reading) for p in places)
    return [counts[reads(p.reading)] == 1 for p in places]


def _pair_table(city: _City, held: HeldOut, typist: Typist, options: OsmOptions) -> pd.DataFrame:
    """The training pairs; the first side is typed with noise in about half of them."""
    rows = []
    for i, (place, row) in enumerate(zip(city.places, city.views, strict=True)):
        rng = random.Random(f"{options.seed}|pairs|{place.poi_id}")
        allowed = [v for v in row if v.kind == FULL or held.allows(i, v)]
        lng, lat = city.pois["lng"].iat[i], city.pois["lat"].iat[i]
        for one, two in make_pairs(allowed, options.max_pairs_per_place, rng, reads):
            text = one.text
            if rng.random() < 0.5:
                noisy = typist.type(i, one, options.noise, "pairs")
                if reads(noisy) not in held.readings and differ(reads(noisy), reads(two.text)):
                    text = noisy
            rows.append((text, two.text, lng, lat, place.poi_id, one.kind, two.kind))
    return pd.DataFrame(rows, columns=["address1", "address2", "lng", "lat", "poi_id", "kind1", "kind2"])


def _records(
    city: _City, queries: dict[str, list[Query]], options: OsmOptions, tell: Progress
) -> dict[str, list[Record]]:
    texts = city.pois["address"].tolist()
    plain = [
        reads(f.get("plain", ("",))[0] or f.get("brand", ("",))[0]) or reads(p.name)
        for f, p in zip(city.fields, city.places, strict=True)
    ]
    names = [reads(p.name) for p in city.places]
    pois = Pois(texts, [reads(t) for t in texts], names, plain, city.where)
    passages = [
        Passage(text, lng, lat, docid)
        for text, lng, lat, docid in zip(texts, city.pois["lng"], city.pois["lat"], city.pois["poi_id"], strict=True)
    ]
    out: dict[str, list[Record]] = {}
    for step, (name, asked) in enumerate(queries.items()):
        tell("mining", step, len(queries))
        gold = [q.place for q in asked]
        seed = options.seed + step
        mined = mine(pois, [q.text for q in asked], gold, options.negatives, seed) if asked else []
        spots = city.frame.degrees(standpoints(city.where[gold], city.where, seed)) if asked else np.zeros((0, 2))
        out[name] = [
            Record(
                q.text,
                [passages[q.place]],
                [passages[j] for j in others],
                f"{name}-{n}",
                float(x),
                float(y),
                {"kind": q.kind},
            )
            for n, (q, others, (x, y)) in enumerate(zip(asked, mined, spots, strict=True))
        ]
    return out


def _write(
    out: Path, suffix: str, views: pd.DataFrame, pois: pd.DataFrame, records: dict[str, list[Record]], tell: Progress
) -> list[str]:
    """Write every file, or none: what was written is taken back if a later one fails."""
    view_path, poi_path = out / f"same_poi_views_{suffix}.csv", out / f"poi_database_{suffix}.csv"
    steps: list[tuple[list[Path], Callable[[], None]]] = [
        ([view_path, view_path.with_suffix(".parquet")], lambda: write_views(views, view_path)),
        ([poi_path, poi_path.with_suffix(".parquet")], lambda: write_pois(pois, poi_path)),
    ]
    for name, rows in records.items():
        path = out / f"{name}_dataset_use_gis_{suffix}.jsonl"
        steps.append(([path], lambda rows=rows, path=path: write_records(rows, path)))  # type: ignore[misc]
    written: list[Path] = []
    try:
        for number, (paths, write) in enumerate(steps):
            tell("writing", number, len(steps))
            written += paths
            write()
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return [str(path) for path in written]
