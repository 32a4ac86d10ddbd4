"""From an extract to everything that training and evaluation read: views, POI table, facts, candidate records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.hard_negatives import Mined, Miner, Pois, by_source
from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.tables import ViewsWriter, write_pois
from m3gal_cli.errors import InputError
from m3gal_cli.files import probe_folder
from m3gal_cli.geo.coordinates import check_datum
from m3gal_cli.osm.city import City, Described, Reading, Survey, read_city, survey
from m3gal_cli.osm.extract import Progress
from m3gal_cli.osm.facts_table import FactsWriter
from m3gal_cli.osm.pairs import PAIR_COLUMNS, Pair, PairMaker
from m3gal_cli.osm.splits import Query, Typist, hold_out, standpoints, train_queries
from m3gal_cli.text.normalise import reads

PIECE = 50_000  # pairs written at once


@dataclass(frozen=True)
class OsmOptions(Reading):
    """How to build a city: how to read it, and what to make of it.

    Attributes:
        suffix: Ends the names of the files.
        max_pairs_per_place: Training pairs a place at most, those of made-up parts of compounds not counted.
        noise: Strength of the typed-query noise on queries and on half of the first sides of pairs, 0 to 1.
        negatives: Negatives a record.
        train_queries, val_queries, test_queries: Records wanted; small cities give fewer.
    """

    suffix: str = "osm"
    max_pairs_per_place: int = 8
    noise: float = 0.5
    negatives: int = 39
    train_queries: int = 3000
    val_queries: int = 500
    test_queries: int = 1000

    def check(self) -> None:
        """Raise InputError for a value that makes no sense."""
        check_datum(self.datum)
        self.selection.check()
        if not self.suffix or any(c in self.suffix for c in "/\\\0"):
            raise InputError(f"suffix {self.suffix!r} cannot be part of a file name", hint="Use letters and digits.")
        if not 0.0 <= self.noise <= 1.0:
            raise InputError(f"noise {self.noise} is not between 0 and 1")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit must be at least 1, got {self.limit}")
        for name in ("max_pairs_per_place", "negatives"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "train_queries", "val_queries", "test_queries"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class OsmSummary:
    """What was built: counts, the locale chosen, seconds taken and the files written.

    ``groups`` are the groups of two or more places that read the same; ``kinds`` counts pairs by the first side's kind,
    ``negatives`` those of the records by what brought them in (see ``candidates``); ``stages`` are seconds.
    ``notes`` are sentences for the user.
    """

    locale: str
    languages: list[str]
    places: int
    places_without_pairs: int
    groups: int
    pairs: int
    kinds: dict[str, int]
    queries: dict[str, int]
    negatives: dict[str, int]
    seconds: float
    stages: dict[str, float]
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain values."""
        return asdict(self)


def build_city(extract: Path, out: Path, options: OsmOptions, progress: Progress | None = None) -> OsmSummary:
    """Build the view table, the POI table, the facts and the candidate records of an extract.

    Writes ``same_poi_views_<suffix>.csv`` and ``poi_database_<suffix>.csv``, each with a .parquet twin,
    ``facts_<suffix>.parquet`` (GeoParquet) and ``{train,val,test}_dataset_use_gis_<suffix>.jsonl`` into ``out``; an
    error leaves none of them.

    Args:
        extract: .osm.pbf, .pbf, .osm, .osm.gz or .osm.bz2.
        out: The folder; made if need be.
        options: See ``OsmOptions``.
        progress: Called as (step, done, total); in bytes while reading.

    Raises:
        InputError: broken input or options, an extract without a named place, an output folder that cannot be written.
    """
    start = time.perf_counter()
    options.check()
    tell = _Clock(progress)
    probe_folder(out)
    o = options
    city = read_city(extract, o, tell)
    seen = survey(city, tell)
    typist = Typist(city.uniqueness, seen.unique, city.locales, o.seed)
    held = hold_out(city, seen.counts.tolist(), typist, {"test": o.test_queries, "val": o.val_queries}, o.noise)
    maker = PairMaker(city, typist, held, o.max_pairs_per_place, o.noise)
    written = _Written()
    with written:
        pairs = _write_pairs(extract, out, o.suffix, seen, maker, written, tell)
        queries = {"train": train_queries(city, held, typist, o.train_queries, o.noise), **held.queries}
        poi_path = out / f"poi_database_{o.suffix}.csv"
        written.files += [poi_path, poi_path.with_suffix(".parquet")]
        write_pois(seen.pois.assign(group=seen.groups), poi_path)
        negatives: Counter[str] = Counter()
        for name, rows, mined in _records(city, seen, queries, options, tell):
            negatives.update(by_source(mined))
            path = out / f"{name}_dataset_use_gis_{o.suffix}.jsonl"
            written.files.append(path)
            write_records(rows, path)
    tell.stop()
    return OsmSummary(
        locale=city.locales[""].name,
        languages=[name for name in city.locales if name],
        places=len(city),
        places_without_pairs=len(city) - pairs.places,
        groups=int((np.unique(seen.groups, return_counts=True)[1] > 1).sum()),
        pairs=pairs.kinds.total(),
        kinds=dict(pairs.kinds.most_common()),
        queries={name: len(rows) for name, rows in queries.items()},
        negatives=dict(negatives.most_common()),
        seconds=round(time.perf_counter() - start, 2),
        stages=tell.seconds,
        files=[str(path) for path in written.files],
        notes=city.notes,
    )


class _Written:
    """The files of a build; if it fails, those that stand already are taken back."""

    def __init__(self) -> None:
        self.files: list[Path] = []

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for path in self.files:
                path.unlink(missing_ok=True)


@dataclass
class _Counted:
    """Pairs by kind, and how many places have any."""

    kinds: Counter[str] = field(default_factory=Counter)
    places: int = 0


def _write_pairs(
    extract: Path, out: Path, suffix: str, seen: Survey, maker: PairMaker, written: _Written, tell: Progress
) -> _Counted:
    """Write the pairs and the facts, place by place."""
    view_path, facts_path = out / f"same_poi_views_{suffix}.csv", out / f"facts_{suffix}.parquet"
    counted, rows = _Counted(), list[Pair]()
    with ExitStack() as stack:
        writer = stack.enter_context(ViewsWriter(view_path))
        facts = stack.enter_context(FactsWriter(facts_path))
        written.files += [view_path, view_path.with_suffix(".parquet"), facts_path]
        lng, lat, groups = seen.pois["lng"].tolist(), seen.pois["lat"].tolist(), seen.groups.tolist()
        for j in range(len(groups)):
            if j % 1000 == 0:
                tell("pairs", j, len(groups))
            told = Described(maker.city, j)
            facts.add(told.place, told.fact, told.fields(), groups[j])
            made = list(maker.pairs(j, told, (lng[j], lat[j]), groups[j]))
            counted.kinds.update(row[6] for row in made)
            counted.places += bool(made)
            rows += made
            if len(rows) >= PIECE:
                writer.write(pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))
                rows = []
        if rows:
            writer.write(pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))
        if not counted.places:
            hint = "Take more of the city, or leave out fewer kinds of views."
            raise InputError("no place has two views that tell it from the others", where=extract, hint=hint)
    return counted


def _records(
    city: City, seen: Survey, queries: dict[str, list[Query]], options: OsmOptions, tell: Progress
) -> Iterator[tuple[str, list[Record], list[Mined]]]:
    """The candidate records of each split, and where their negatives come from."""
    lng, lat, ids, texts = (seen.pois[name].tolist() for name in ("lng", "lat", "poi_id", "address"))
    miner = Miner(
        Pois(
            texts,
            [reads(t) for t in texts],
            [reads(p.name) for p in city.places],
            seen.brands,
            city.where,
            seen.areas.tolist(),
            seen.crossings.tolist(),
            seen.groups.tolist(),
        )
    )
    for step, (name, asked) in enumerate(queries.items()):
        tell("mining", step, len(queries))
        gold = [q.place for q in asked]
        seed = options.seed + step
        mined = miner.mine([q.text for q in asked], gold, options.negatives, seed)
        spots = city.frame.degrees(standpoints(city.where[gold], city.where, seed)) if asked else np.zeros((0, 2))
        rows = {j for found in mined for j in found.rows}.union(gold)
        passages = {j: Passage(texts[j], lng[j], lat[j], ids[j]) for j in rows}
        records = [
            Record(
                q.text,
                [passages[q.place]],
                [passages[j] for j in found.rows],
                f"{name}-{n}",
                float(x),
                float(y),
                {"kind": q.kind},
            )
            for n, (q, found, (x, y)) in enumerate(zip(asked, mined, spots, strict=True))
        ]
        yield name, records, mined


class _Clock:
    """Passes progress on and takes the time of each step."""

    def __init__(self, tell: Progress | None) -> None:
        self._tell = tell
        self._began, self._step = time.perf_counter(), ""
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self.stop()
            self._step = step
        if self._tell is not None:
            self._tell(step, done, total)

    def stop(self) -> None:
        """End the running step."""
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = round(self.seconds.get(self._step, 0.0) + now - self._began, 2)
        self._began = now
