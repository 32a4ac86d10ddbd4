"""Build the training and evaluation files of an extract or POI table: views, POI table, facts, candidate records."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.hard_negatives import MinedNegatives, MiningTable, NegativeMiner, count_by_source
from m3gal_cli.data.records import Passage, Record, write_records
from m3gal_cli.data.tables import views_writer, write_pois
from m3gal_cli.errors import InputError
from m3gal_cli.files import probe_folder
from m3gal_cli.geo.datums import check_datum
from m3gal_cli.osm.city import City, CityStatistics, PlaceViews, SourceOptions, compute_statistics, read_city
from m3gal_cli.osm.extract_reader import Progress
from m3gal_cli.osm.facts_table import facts_row, facts_writer
from m3gal_cli.osm.noise import CollisionFreeNoise
from m3gal_cli.osm.pairs import PAIR_COLUMNS, Pair, PairGenerator
from m3gal_cli.osm.splits import Query, hold_out, query_locations, train_queries
from m3gal_cli.text.normalise import reading_key

PROGRESS_EVERY = 1000  # places between two progress calls
_OPTIONS = {"max_pairs_per_place": "--pairs"}  # the names of settings on the command line, if they differ


@dataclass(frozen=True)
class OsmOptions(SourceOptions):
    """Options of a build, in addition to those of reading.

    Attributes:
        suffix: End of the file names.
        max_pairs_per_place: Largest number of training pairs of a place, without those of synthetic parts.
        noise: Strength of the typing noise of queries and pairs, 0 to 1.
        negatives: Number of negatives of a record.
        train_queries: Number of training records (also ``val_queries``, ``test_queries``); small cities give fewer.
        pairs_per_write: Number of pairs in memory.
    """

    suffix: str = "osm"
    max_pairs_per_place: int = 8
    noise: float = 0.5
    negatives: int = 39
    train_queries: int = 3000
    val_queries: int = 500
    test_queries: int = 1000
    pairs_per_write: int = 50_000

    def check(self) -> None:
        """Raise InputError for an invalid value."""
        check_datum(self.datum)
        self.selection.check()
        if not self.suffix or any(c in self.suffix for c in "/\\\0"):
            raise InputError(f"--suffix {self.suffix!r} cannot be part of a file name", hint="Use letters and digits.")
        if not 0.0 <= self.noise <= 1.0:
            raise InputError(f"--noise {self.noise} is not between 0 and 1")
        least = dict.fromkeys(("limit", "max_pairs_per_place", "negatives"), 1)
        least |= dict.fromkeys(("seed", "train_queries", "val_queries", "test_queries"), 0)
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                option = _OPTIONS.get(name, "--" + name.replace("_", "-"))
                raise InputError(f"{option} must be at least {minimum}, got {value}")


@dataclass(frozen=True)
class OsmSummary:
    """The result of a build.

    Attributes:
        groups: Number of groups of two or more places that read the same.
        kinds: Number of pairs by the kind of their first view.
        queries: Number of records by split.
        negatives: Number of negatives by source (see ``data.hard_negatives``).
        stages: Duration of each step in seconds.
        notes: Messages about the source and about options without effect.
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
        """Return the summary as plain values."""
        return asdict(self)


def build_city(source: Path, out: Path, options: OsmOptions, progress: Progress | None = None) -> OsmSummary:
    """Build the view table, the POI table, the facts and the candidate records of a source.

    Writes ``same_poi_views_<suffix>.csv`` and ``poi_database_<suffix>.csv``, each with a .parquet twin,
    ``facts_<suffix>.parquet`` (GeoParquet) and ``{train,val,test}_dataset_use_gis_<suffix>.jsonl`` into ``out``. After
    an error none of them exists.

    Args:
        source: An extract or a POI table.
        out: Output folder; it is created.
        options: See ``OsmOptions``.
        progress: Called with (step, done, total), in bytes while reading.

    Raises:
        InputError: The input or an option is invalid, the source has no named place, or the folder is not writable.
    """
    start = time.perf_counter()
    options.check()
    timer = _StepTimer(progress)
    probe_folder(out)
    city = read_city(source, options, timer)
    statistics = compute_statistics(city, timer)
    noise = CollisionFreeNoise(city.uniqueness, statistics.unique_names, city.locales, options.noise, options.seed)
    held_out = hold_out(city, statistics.counts, noise, {"test": options.test_queries, "val": options.val_queries})
    generator = PairGenerator(city, noise, held_out, options.max_pairs_per_place)
    negatives: Counter[str] = Counter()
    with _removed_on_error() as files:
        kinds, places_with_pairs = _write_pairs(out, options, statistics, generator, files, timer)
        if not places_with_pairs:
            hint = "Select more places, or leave out fewer kinds of views."
            raise InputError("no place has two views that distinguish it from other places", where=source, hint=hint)
        queries = {"train": train_queries(city, held_out, noise, options.train_queries), **held_out.queries}
        poi_path = out / f"poi_database_{options.suffix}.csv"
        files += [poi_path, poi_path.with_suffix(".parquet")]
        write_pois(statistics.pois.assign(group=statistics.groups), poi_path)
        for name, records, mined in _records(city, statistics, queries, options, timer):
            negatives.update(count_by_source(mined))
            files.append(out / f"{name}_dataset_use_gis_{options.suffix}.jsonl")
            write_records(records, files[-1])
    timer.stop()
    return OsmSummary(
        locale=city.locales[""].name,
        languages=[name for name in city.locales if name],
        places=len(city),
        places_without_pairs=len(city) - places_with_pairs,
        groups=int((np.unique(statistics.groups, return_counts=True)[1] > 1).sum()),
        pairs=kinds.total(),
        kinds=dict(kinds.most_common()),
        queries={name: len(rows) for name, rows in queries.items()},
        negatives=dict(negatives.most_common()),
        seconds=round(time.perf_counter() - start, 2),
        stages=timer.seconds,
        files=[str(path) for path in files],
        notes=city.notes,
    )


@contextmanager
def _removed_on_error() -> Iterator[list[Path]]:
    """Yield a list for the paths of written files, and remove these files after an error."""
    files: list[Path] = []
    try:
        yield files
    except BaseException:
        for path in files:
            path.unlink(missing_ok=True)
        raise


def _write_pairs(
    out: Path,
    options: OsmOptions,
    statistics: CityStatistics,
    generator: PairGenerator,
    files: list[Path],
    progress: Progress,
) -> tuple[Counter[str], int]:
    """Write pairs and facts; return the number of pairs by kind, and the number of places with pairs."""
    view_path, facts_path = out / f"same_poi_views_{options.suffix}.csv", out / f"facts_{options.suffix}.parquet"
    kinds, places, rows = Counter[str](), 0, list[Pair]()
    pois, groups = statistics.pois, statistics.groups.tolist()
    lnglat = list(zip(pois["lng"].tolist(), pois["lat"].tolist(), strict=True))
    with ExitStack() as stack:
        writer = stack.enter_context(views_writer(view_path))
        add_facts = stack.enter_context(facts_writer(facts_path))
        files += [view_path, view_path.with_suffix(".parquet"), facts_path]
        for j, group in enumerate(groups):
            if j % PROGRESS_EVERY == 0:
                progress("pairs", j, len(groups))
            place_views = PlaceViews(generator.city, j)
            add_facts(facts_row(place_views.place, place_views.facts, place_views.slots, group))
            pairs = list(generator.pairs(j, place_views, lnglat[j], group))
            kinds.update(pair[6] for pair in pairs)
            places += bool(pairs)
            rows += pairs
            if len(rows) >= options.pairs_per_write or (rows and j == len(groups) - 1):
                writer.write(pd.DataFrame(rows, columns=list(PAIR_COLUMNS)))
                rows = []
    return kinds, places


def _records(
    city: City, statistics: CityStatistics, queries: dict[str, list[Query]], options: OsmOptions, progress: Progress
) -> Iterator[tuple[str, list[Record], list[MinedNegatives]]]:
    """Yield the candidate records of each split, and their mined negatives."""
    lng, lat, ids, texts = (statistics.pois[name].tolist() for name in ("lng", "lat", "poi_id", "address"))
    table = MiningTable(
        texts=texts,
        keys=[reading_key(t) for t in texts],
        names=[reading_key(p.name) for p in city.places],
        brands=statistics.brands,
        metres=city.xy,
        compounds=statistics.areas.tolist(),
        crossings=statistics.crossings.tolist(),
        groups=statistics.groups.tolist(),
    )
    miner = NegativeMiner(table)
    for step, (split, split_queries) in enumerate(queries.items()):
        progress("mining", step, len(queries))
        gold = [q.place for q in split_queries]
        seed = options.seed + step
        mined = miner.mine([q.text for q in split_queries], gold, options.negatives, seed)
        gold_xy = city.xy[np.array(gold, np.int64)]
        locations = city.projection.degrees(query_locations(gold_xy, city.xy, seed))
        used = {j for negatives in mined for j in negatives.rows}.union(gold)
        passages = {j: Passage(texts[j], lng[j], lat[j], ids[j]) for j in used}
        records = [
            Record(
                query=q.text,
                positives=[passages[q.place]],
                negatives=[passages[j] for j in negatives.rows],
                query_id=f"{split}-{n}",
                lng=float(x),
                lat=float(y),
                extra={"kind": q.kind},
            )
            for n, (q, negatives, (x, y)) in enumerate(zip(split_queries, mined, locations, strict=True))
        ]
        yield split, records, mined


class _StepTimer:
    """Forwards progress calls and measures the duration of each step."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._start, self._step = time.perf_counter(), ""
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step != self._step:
            self.stop()
            self._step = step
        if self._progress is not None:
            self._progress(step, done, total)

    def stop(self) -> None:
        """End the current step."""
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = round(self.seconds.get(self._step, 0.0) + now - self._start, 2)
        self._start = now
