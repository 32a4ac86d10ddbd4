"""Turn labels into candidate records of train, val and test, with negatives from the POI table.

Nothing is written before all input is read and checked. A duplicate of a gold POI (equal text and place) is gold; it is
never a negative.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.beir import HINT, is_beir, read_beir
from m3gal_cli.data.duplicates import KEY_DECIMALS
from m3gal_cli.data.geotes import pois_of
from m3gal_cli.data.hard_negatives import RecordNegativeMiner
from m3gal_cli.data.label_splits import SPLITS, SplitRule, assign_splits
from m3gal_cli.data.labels import Labels, id_text, labels_of_records, read_label_table, resolve_labels, text_key
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.data.tables import COORDINATE_DECIMALS, iter_json_lines, parquet_twin, write_pois
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, probe_folder, stem_of, suffix_of
from m3gal_cli.geo.distances import haversine_m

NEGATIVES = 39
FAR_KM = 200
EXPLICIT = "labelled"  # source of the negatives with the label 0
Log = Callable[[str], None]
ReadPois = Callable[[Path], pd.DataFrame]  # returns a POI table in WGS-84; raises InputError


@dataclass(frozen=True)
class LabelOptions:
    """Options of ``build_labels``.

    Attributes:
        negatives: Negatives per record; 0: only those that are labelled.
        rule: How queries without a given split are split.
        skip_bad: Leave out invalid rows instead of raising an error.
    """

    negatives: int = NEGATIVES
    rule: SplitRule = field(default_factory=SplitRule)
    skip_bad: bool = False

    def check(self) -> None:
        """Raise InputError for invalid values."""
        self.rule.check()
        if self.negatives < 0:
            raise InputError(f"--negatives must not be negative, got {self.negatives}")


@dataclass
class LabelSummary:
    """Counts of what was read and written, and notes for the user."""

    rows: int = 0
    labels: int = 0
    queries: int = 0
    positives: dict[int, int] = field(default_factory=dict)  # number of queries by number of gold POIs
    duplicates: int = 0  # gold POIs that equal another gold POI of their query
    splits: dict[str, int] = field(default_factory=dict)
    negatives: dict[str, int] = field(default_factory=dict)  # by source
    skipped: int = 0
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return asdict(self)


@dataclass
class LabelRecords:
    """Checked labels with their POI table, and the records of each split that is not empty."""

    labels: Labels
    pois: pd.DataFrame
    records: dict[str, list[Record]]
    splits: list[str]  # of each query
    summary: LabelSummary


def read_labels(source: Path, pois: Path | None, read_pois: ReadPois) -> tuple[Labels, pd.DataFrame]:
    """Read labels and the POI table that they refer to.

    Args:
        source: Table of labels, BEIR folder, or candidate records (.jsonl, .pth).
        pois: POI table. A BEIR folder with coordinates and candidate records contain their POIs.
        read_pois: Reads a POI table.

    Raises:
        InputError: A file is missing or unreadable, or the source needs a POI table.
    """
    if not source.exists():
        raise InputError("no such file or folder", where=source, hint="Check the path.")
    table = None if pois is None else read_pois(pois)
    if source.is_dir():
        if not is_beir(source):
            raise InputError("the folder contains no labels", where=source, hint=HINT)
        labels = read_beir(source, own_pois=table is None)
    elif _has_records(source):
        records = read_records(source)
        own = pois_of(records).astype({"poi_id": str}) if table is None else None
        labels = labels_of_records(records, own, source)
    else:
        labels = read_label_table(source)
    table = labels.pois if table is None else table
    if table is None:
        raise InputError("no POI table for the labels", where=source, hint="Give --pois FILE.")
    return labels, table


def contains_pois(source: Path) -> bool:
    """Return whether a source of labels has its own POIs: a BEIR folder or candidate records. Raises InputError."""
    return source.is_dir() or (source.exists() and _has_records(source))


def _has_records(path: Path) -> bool:
    """Return whether a file has candidate records, by its suffix or its first object. Raises InputError."""
    if suffix_of(path) != ".jsonl":
        return suffix_of(path) == ".pth"
    first = next(iter_json_lines(path), None)
    return first is not None and isinstance(first[1], dict) and "positive_passages" in first[1]


def make_records(
    source: Path, pois: Path | None, read_pois: ReadPois, options: LabelOptions, log: Log = lambda _: None
) -> LabelRecords:
    """Read and check labels, split their queries, and make the records.

    Args:
        source: See ``read_labels``.
        pois: See ``read_labels``.
        read_pois: Reads a POI table.
        options: Options of the records.
        log: Called with the name of each stage.

    Raises:
        InputError: Unreadable input; invalid rows without ``skip_bad``; or no query has a gold POI.
    """
    options.check()
    log(f"reading {source.name}")
    labels, table = read_labels(source, pois, read_pois)
    rows = len(labels.labels) + len(labels.bad)
    row_of = {id_text(poi_id): row for row, poi_id in enumerate(table["poi_id"].tolist())}
    name = "the corpus" if pois is None else pois.name
    _require_known_ids(labels, row_of, name)
    resolve_labels(labels, row_of, name)
    labels.check_bad(options.skip_bad)
    passages = _passages(table)
    summary = LabelSummary(rows, len(labels.labels), skipped=len(labels.bad), notes=list(labels.notes))
    if far := _far_queries(labels, passages, row_of):
        summary.notes.append(f"{source.name}: {far}")
    labelled = sorted({label.query for label in labels.labels})
    splits = ["train"] * len(labels.queries)
    for number, split in zip(labelled, assign_splits([labels.queries[i] for i in labelled], options.rule), strict=True):
        splits[number] = split
    numbers, records = _records(labels, passages, row_of, summary)
    if not records:
        raise InputError("no query has a gold POI", where=source, hint="Labels above 0 name the POIs of a query.")
    log("mining")
    records = _with_negatives(records, passages, options, summary)
    by_split: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for number, record in zip(numbers, records, strict=True):
        by_split[splits[number]].append(record)
    summary.queries = len(records)
    summary.splits = {split: len(rows) for split, rows in by_split.items()}
    return LabelRecords(labels, table, {k: v for k, v in by_split.items() if v}, splits, summary)


def _passages(pois: pd.DataFrame) -> list[Passage]:
    """Return the rows of a POI table as passages whose place key survives the rounding of files."""
    columns = [pois["address"].tolist(), _stored(pois["lng"].tolist()), _stored(pois["lat"].tolist())]
    return list(map(Passage, *columns, [id_text(poi_id) for poi_id in pois["poi_id"].tolist()]))


def _require_known_ids(labels: Labels, row_of: dict[str, int], table: str) -> None:
    """Raise InputError if the table has none of several ids: it, or its column of ids, is another one."""
    ids = list(dict.fromkeys(label.poi_id for label in labels.labels))
    if len(ids) > 1 and not any(poi_id in row_of for poi_id in ids):
        own = next(iter(row_of), "")
        what = (
            f"{table} has none of the {len(ids):,} ids; they are such as {ids[0]!r}, those of {table} such as {own!r}"
        )
        raise InputError(what, where=labels.source, hint="Name the right table, or its column of ids: --columns 'id=…'")


def _far_queries(labels: Labels, passages: Sequence[Passage], row_of: dict[str, int]) -> str:
    """Return a warning if most query locations are far from the right POIs; "" otherwise."""
    gold = [(labels.queries[label.query], passages[row_of[label.poi_id]]) for label in labels.labels if label.score > 0]
    known = [(query.lng, query.lat, poi.lng, poi.lat) for query, poi in gold if query.lng is not None]
    if not known:
        return ""
    median_km = float(np.median(haversine_m(*np.array(known, np.float64).T))) / 1000
    if median_km < FAR_KM:
        return ""
    return f"the query locations are {median_km:,.0f} km from their POIs (median): are lng and lat swapped?"


def _stored(values: Sequence[float]) -> list[float]:
    """Return coordinates rounded to the decimals of records, so that rounding again gives the same place key."""
    out = []
    for value in values:
        key, stored = round(value, KEY_DECIMALS), round(value, COORDINATE_DECIMALS)
        out.append(stored if round(stored, KEY_DECIMALS) == key else key)
    return out


def _records(
    labels: Labels, passages: Sequence[Passage], row_of: dict[str, int], summary: LabelSummary
) -> tuple[list[int], list[Record]]:
    """Return the queries that have a gold POI, by number and as records with their labelled negatives."""
    chosen: dict[int, tuple[list[Passage], list[Passage]]] = defaultdict(lambda: ([], []))
    for label in labels.labels:
        chosen[label.query][label.score <= 0].append(passages[row_of[label.poi_id]])
    numbers, records, dropped = [], [], 0
    for number in sorted(chosen):
        query = labels.queries[number]
        positives, negatives = (list({p.key: p for p in reversed(own)}.values())[::-1] for own in chosen[number])
        gold = {p.key for p in positives}
        summary.duplicates += len(chosen[number][0]) - len(positives)
        wrong = [p for p in negatives if p.key in gold]
        dropped += len(wrong)
        negatives = [p for p in negatives if p.key not in gold]
        if positives:
            numbers.append(number)
            records.append(Record(query.text, positives, negatives, query.query_id, query.lng, query.lat, query.extra))
    summary.positives = dict(sorted(Counter(len(r.positives) for r in records).items()))
    if dropped:
        summary.notes.append(
            f"{labels.source.name}: {dropped:,} negatives equal a gold POI in text and place: they count as gold"
        )
    if len(chosen) > len(records):
        summary.notes.append(
            f"{labels.source.name}: {len(chosen) - len(records):,} queries have no gold POI and are left out"
        )
    return numbers, records


def _with_negatives(
    records: list[Record], passages: Sequence[Passage], options: LabelOptions, summary: LabelSummary
) -> list[Record]:
    """Return the records with mined negatives after the labelled ones, up to ``options.negatives`` in all."""
    sources = Counter({EXPLICIT: sum(len(r.negatives) for r in records)})
    if options.negatives:
        gold: dict[object, list[Passage]] = defaultdict(list)
        for r in records:
            gold[_same_query(r)] += r.positives
        # The miner excludes all positives of a record, so those of the same queries are added for the call.
        widened = [replace(r, positives=r.positives + gold[_same_query(r)]) for r in records]
        mined_records, mined = RecordNegativeMiner(passages).mine(widened, options.negatives, options.rule.seed)
        out = []
        for record, found, own in zip(records, mined_records, mined, strict=True):
            known = {p.key for p in record.negatives}
            more = [(p, s) for p, s in zip(found.negatives, own.sources, strict=True) if p.key not in known]
            more = more[: max(options.negatives - len(record.negatives), 0)]
            sources.update(source for _, source in more)
            out.append(replace(record, negatives=record.negatives + [p for p, _ in more]))
        records = out
    summary.negatives = {name: count for name, count in sources.most_common() if count}
    return records


def _same_query(record: Record) -> object:
    """Return the key of queries that are the same up to case, spaces and punctuation."""
    return text_key(record.query), record.lng, record.lat


def write_bad(made: LabelRecords, folder: Path) -> None:
    """List the rows that were left out in ``STEM.bad.jsonl`` of a folder, and add a note of their number."""
    labels, summary = made.labels, made.summary
    if not labels.bad:
        return
    path = folder / f"{stem_of(labels.source)}.bad.jsonl"
    name = labels.source.name
    summary.notes.append(f"{name}: {summary.skipped:,} of {summary.rows:,} rows are invalid and left out; see {path}")
    with atomic_text(path) as file:
        for bad in labels.bad:
            file.write(json.dumps(asdict(bad), ensure_ascii=False, default=str) + "\n")


def record_file(split: str, suffix: str | None = None) -> str:
    """Return the name of the records of a split."""
    return f"{split}_dataset_use_gis{f'_{suffix}' if suffix else ''}.jsonl"


def write_data(
    made: LabelRecords, out: Path, suffix: str | None, inputs: Sequence[Path] = (), with_pois: bool = True
) -> None:
    """Write the records of each split and the POI table to a data folder; the list of files is in the summary.

    Records of other splits that an earlier call left in the folder are deleted.

    Raises:
        InputError: An output would overwrite an input, or the folder is not writable.
    """
    pois = out / f"poi_database{f'_{suffix}' if suffix else ''}.csv"
    files = {out / record_file(split, suffix): rows for split, rows in made.records.items()}
    for path in (*files, pois, parquet_twin(pois)):
        if path.resolve() in {given.resolve() for given in inputs}:
            raise InputError("the output would overwrite the input", where=path, hint="Choose another folder with -o.")
    probe_folder(out)
    for path, rows in files.items():
        write_records(rows, path)
    for split in SPLITS:
        if split not in made.records:  # records of an earlier build would be of other labels
            (out / record_file(split, suffix)).unlink(missing_ok=True)
    made.summary.files += map(str, files)
    if with_pois:
        write_pois(made.pois, pois)
        made.summary.files += [str(pois), str(parquet_twin(pois))]
