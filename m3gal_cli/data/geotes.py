"""Convert GeoTES to the published file tree: candidate records, a view table and POI tables.

A source folder contains ``{train,dev,test}_dataset.jsonl[.gz]`` and optionally ``poi_database.csv``. All files are
read and validated before the first one is written. A single ``.jsonl``, or pickled dataset of the published code, is
imported alone. Outputs are in WGS-84.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from m3gal_cli.data.hard_negatives import RecordNegativeMiner, all_passages, count_by_source
from m3gal_cli.data.poi_reader import PoiOptions, read_pois
from m3gal_cli.data.records import Passage, Record, distinct_passages, read_records, write_records
from m3gal_cli.data.tables import write_pois, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.files import probe_folder, stem_of, suffix_of
from m3gal_cli.geo.datums import Datum

SPLITS = ("train", "dev", "test")
PUBLISHED_NEGATIVES = 39
SMALL_CUT, LARGE_CUT = 1_000, 20_000  # queries; the published file names contain these numbers

TRAIN_FILE = "train_dataset_use_gis.jsonl"
VAL_FILE = f"val_dataset_use_gis_{SMALL_CUT}.jsonl"
TEST_SMALL_FILE = f"test_dataset_use_gis_{SMALL_CUT}.jsonl"
TEST_LARGE_FILE = f"test_dataset_use_gis_{LARGE_CUT}.jsonl"
TEST_FILE = "test_dataset.jsonl"
VIEWS_FILE = "same_poi_views_mgeo.csv"
TRAIN_POIS_FILE = "mgeo_poi_database_train_use_negative.csv"
TEST_POIS_FILE = "mgeo_poi_database_use_negative.csv"
POIS_FILE = "poi_database.csv"

Log = Callable[[str], None]
Outputs = dict[str, list[Record] | pd.DataFrame]  # by file name


@dataclass(frozen=True)
class GeotesOptions:
    """Options of the conversion."""

    datum: Datum = "wgs84"  # of the source
    negatives: int | None = None  # per record: mined, or the first ones of the record (None: all)
    mine: bool = False  # replace the negatives of the splits ``mined`` by POIs of the source
    mined: tuple[str, ...] = ("train",)  # metrics of a mined split cannot be compared with published ones
    seed: int = 2023  # for the order of mined negatives

    def check(self) -> None:
        """Raise InputError for invalid values."""
        if self.negatives is not None and self.negatives < 1:
            raise InputError(f"--negatives must be at least 1, got {self.negatives}")
        if self.seed < 0:
            raise InputError(f"--seed must not be negative, got {self.seed}")


class GeotesFile(NamedTuple):
    """A file that was written, its kind, and its number of records, pairs or POIs."""

    path: Path
    kind: str
    rows: int


@dataclass
class GeotesSummary:
    """The files that were written, and notes for the user."""

    files: list[GeotesFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return files (path, kind, rows) and notes as JSON values."""
        return {"files": [f._asdict() | {"path": str(f.path)} for f in self.files], "notes": self.notes}


def build_geotes(
    source: Path, out: Path, options: GeotesOptions | None = None, progress: Log | None = None
) -> GeotesSummary:
    """Write the published file tree from a GeoTES folder, or import one file of candidate records.

    Args:
        source: A folder with at least one split, or a single ``.pth`` or ``.jsonl[.gz]``.
        out: Output folder; it is created.
        options: Options of the conversion.
        progress: Called with a message before each file is read or written.

    Raises:
        InputError: The input is missing or invalid (at file:line), or the output would overwrite it or is not writable.
    """
    options = options or GeotesOptions()
    options.check()
    log = progress or (lambda _: None)
    if not source.exists():
        raise InputError("no such file or folder", where=source, hint="Check the path.")
    summary = GeotesSummary()
    plan = _plan_folder if source.is_dir() else _plan_import
    for name, content in plan(source, out, options, summary.notes, log).items():
        log(f"writing {name}")
        summary.files.append(_write(content, out / name))
    return summary


def _plan_folder(source: Path, out: Path, options: GeotesOptions, notes: list[str], log: Log) -> Outputs:
    """Read and validate every file of the source folder, and return the outputs."""
    if out.resolve() == source.resolve():
        what = "the output folder is the source folder, and its files would be overwritten"
        raise InputError(what, where=out, hint="Choose another output folder.")
    paths = _find_splits(source, notes)
    probe_folder(out)
    splits: dict[str, list[Record]] = {}
    for name, path in paths.items():
        log(f"reading {path.name}")
        splits[name] = read_records(path, options.datum)
    pois: pd.DataFrame | None = None
    if (source / POIS_FILE).exists():
        log(f"reading {POIS_FILE}")
        pois = read_pois(source / POIS_FILE, PoiOptions(options.datum))
    splits = _with_negatives(splits, pois, options, notes, log)
    _note_shared_queries(splits, notes)
    outputs = _train_outputs(splits, notes) | _evaluation_outputs(splits, notes)
    return outputs if pois is None else outputs | {POIS_FILE: pois}


def _with_negatives(
    splits: dict[str, list[Record]], pois: pd.DataFrame | None, options: GeotesOptions, notes: list[str], log: Log
) -> dict[str, list[Record]]:
    """Return the splits with mined negatives, or with the first ones of their own."""
    count = options.negatives
    if not options.mine:
        if count is None:
            return splits
        return {name: [replace(r, negatives=r.negatives[:count]) for r in rows] for name, rows in splits.items()}
    log("mining")
    miner = RecordNegativeMiner(all_passages([r for rows in splits.values() for r in rows], pois))
    out = dict(splits)
    for name in [name for name in splits if name in options.mined]:
        out[name], mined = miner.mine(splits[name], count or PUBLISHED_NEGATIVES, options.seed)
        shares = ", ".join(f"{source} {n:,}" for source, n in count_by_source(mined).items())
        notes.append(f"{name}: negatives mined from {len(miner):,} POIs ({shares}).")
    if kept := [name for name in splits if name not in options.mined]:
        notes.append(f"{' and '.join(kept)}: own negatives of the records, so that metrics are comparable.")
    return out


def _find_splits(source: Path, notes: list[str]) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for name in SPLITS:
        present = [path for end in ("", ".gz") if (path := source / f"{name}_dataset.jsonl{end}").exists()]
        if len(present) == 2:
            notes.append(f"{present[0].name} was read; {present[1].name} was not.")
        if present:
            paths[name] = present[0]
    if not paths:
        hint = "Expected train_dataset.jsonl, dev_dataset.jsonl or test_dataset.jsonl (.gz)."
        if pickled := sorted(path.name for path in source.glob("*.pth")):
            hint = f"To import a pickled dataset, give the file: {source / pickled[0]}"
        raise InputError("the folder contains no GeoTES dataset", where=source, hint=hint)
    return paths


def _train_outputs(splits: dict[str, list[Record]], notes: list[str]) -> Outputs:
    if "train" not in splits:
        missing = f"{TRAIN_FILE}, {VIEWS_FILE} and {TRAIN_POIS_FILE}"
        notes.append(f"The source has no train_dataset.jsonl: {missing} were not written.")
        return {}
    records = without_gold_negatives(splits["train"], notes)
    repeated = sum(len(r.negatives) - len({p.key for p in r.negatives}) for r in records)
    if repeated:
        notes.append(f"{repeated} train negatives repeat a negative of their record; they are kept.")
    return {TRAIN_FILE: records, VIEWS_FILE: views_of(records), TRAIN_POIS_FILE: pois_of(records)}


def _evaluation_outputs(splits: dict[str, list[Record]], notes: list[str]) -> Outputs:
    outputs: Outputs = {}
    dev, test = splits.get("dev"), splits.get("test")
    if dev is None:
        notes.append(f"The source has no dev_dataset.jsonl: {VAL_FILE} was not written.")
    else:
        outputs[VAL_FILE] = _cut(dev, SMALL_CUT, VAL_FILE, notes)
    if test is None:
        if dev is None:
            missing = f"{TEST_FILE}, its cuts and {TEST_POIS_FILE}"
            notes.append(f"The source has no test_dataset.jsonl either: {missing} were not written.")
            return outputs
        test = dev
        notes.append(
            f"The source has no test_dataset.jsonl: the {len(dev)} dev queries are validation and test queries, "
            "so test metrics are not held out."
        )
    for name, size in ((TEST_SMALL_FILE, SMALL_CUT), (TEST_LARGE_FILE, LARGE_CUT)):
        outputs[name] = _cut(test, size, name, notes)
    outputs |= {TEST_FILE: test, TEST_POIS_FILE: pois_of(test)}
    if same := _count_gold_negatives(test):
        notes.append(f"{same} test negatives equal the gold of their record; they are kept and count as gold.")
    return outputs


def _plan_import(source: Path, out: Path, options: GeotesOptions, notes: list[str], log: Log) -> Outputs:
    """Read one file of candidate records; ``X.pth`` and ``X.jsonl.gz`` become ``X.jsonl``."""
    kind = suffix_of(source)
    if kind not in (".pth", ".jsonl"):
        what = f"cannot read candidate records from {kind or 'a file without suffix'}"
        raise InputError(what, where=source, hint="Give a folder, a .pth of the published code or a .jsonl.")
    target = out / f"{stem_of(source)}.jsonl"
    if target.resolve() == source.resolve():
        raise InputError("the output would overwrite the source", where=target, hint="Choose another output folder.")
    probe_folder(out)
    log(f"reading {source.name}")
    records = read_records(source, options.datum)
    if options.mine or options.negatives:
        alone = replace(options, mined=("records",))
        records = _with_negatives({"records": records}, None, alone, notes, log)["records"]
    if target.name.lower().startswith("train"):
        records = without_gold_negatives(records, notes)
    elif same := _count_gold_negatives(records):
        notes.append(f"{same} negatives equal the gold of their record; they are kept and count as gold.")
    return {target.name: records}


def without_gold_negatives(records: Sequence[Record], notes: list[str]) -> list[Record]:
    """Return the records without negatives that equal one of their positives; add a note of their number."""
    out = [replace(r, negatives=_without_gold(r)) for r in records]
    dropped = [len(old.negatives) - len(new.negatives) for old, new in zip(records, out, strict=True)]
    if any(dropped):
        notes.append(
            f"{sum(dropped)} negatives in {sum(n > 0 for n in dropped)} train records equal a positive of theirs and "
            "were dropped."
        )
    return out


def views_of(records: Sequence[Record]) -> pd.DataFrame:
    """Return the pairs of a query and a positive as a view table, with query_id and docid if there are any."""
    rows = [(r.query, p.text, p.lng, p.lat, r.query_id, p.docid) for r in records for p in r.positives]
    frame = pd.DataFrame(rows, columns=["address1", "address2", "lng", "lat", "query_id", "docid"])
    return frame.drop(columns=[c for c in ("query_id", "docid") if frame[c].isna().all()])


def pois_of(records: Sequence[Record]) -> pd.DataFrame:
    """Return the distinct passages as a POI table; poi_id is the docid if every POI has its own, else the row."""
    rows = [(p.docid, p.text, p.lng, p.lat) for p in distinct_passages(records)]
    frame = pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat"])
    if frame["poi_id"].isna().any() or frame["poi_id"].duplicated().any():
        frame["poi_id"] = range(len(frame))
    return frame


def _cut(records: list[Record], size: int, name: str, notes: list[str]) -> list[Record]:
    if len(records) < size:
        notes.append(f"{name} contains all {len(records)} queries; the source has fewer than {size}.")
    return records[:size]


def _count_gold_negatives(records: Sequence[Record]) -> int:
    """Return how many negatives equal a positive of their own record."""
    return sum(len(record.negatives) - len(_without_gold(record)) for record in records)


def _without_gold(record: Record) -> list[Passage]:
    gold = record.gold
    return [passage for passage in record.negatives if passage.key not in gold]


def _note_shared_queries(splits: dict[str, list[Record]], notes: list[str]) -> None:
    train = {record.query.strip() for record in splits.get("train", [])}
    for name in ("dev", "test"):
        shared = sum(record.query.strip() in train for record in splits.get(name, []))
        if shared:
            notes.append(f"{shared} {name} queries have the text of a train query.")


def _write(content: list[Record] | pd.DataFrame, path: Path) -> GeotesFile:
    if not isinstance(content, pd.DataFrame):
        write_records(content, path)
        return GeotesFile(path, "candidate records", len(content))
    if path.name == VIEWS_FILE:
        write_views(content, path)
        return GeotesFile(path, "view table", len(content))
    write_pois(content, path)
    return GeotesFile(path, "POI table", len(content))
