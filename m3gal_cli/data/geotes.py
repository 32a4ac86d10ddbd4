"""GeoTES in, the published file tree out: candidate sets, view pairs and POI databases.

A source folder holds ``{train,dev,test}_dataset.jsonl`` (each may be ``.jsonl.gz``) and perhaps ``poi_database.csv``;
everything is read and validated before the first file is written. A single file (a pickled dataset of the published
code, or one ``.jsonl``) is imported on its own. Coordinates are (lng, lat) in degrees, WGS-84 in every output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from m3gal_cli.data.hard_negatives import by_source
from m3gal_cli.data.record_negatives import Reminer, passages_of
from m3gal_cli.data.records import PoiKey, Record, read_records, write_records
from m3gal_cli.data.tables import read_pois, write_pois, write_views
from m3gal_cli.errors import InputError
from m3gal_cli.files import probe_folder, suffix_of
from m3gal_cli.geo.coordinates import Datum, check_datum

SPLITS = ("train", "dev", "test")
PUBLISHED_NEGATIVES = 39
SMALL_CUT, LARGE_CUT = 1_000, 20_000  # queries; the published file names carry these numbers

TRAIN_FILE = "train_dataset_use_gis.jsonl"
VAL_FILE = f"val_dataset_use_gis_{SMALL_CUT}.jsonl"
TEST_SMALL_FILE = f"test_dataset_use_gis_{SMALL_CUT}.jsonl"
TEST_LARGE_FILE = f"test_dataset_use_gis_{LARGE_CUT}.jsonl"
TEST_FILE = "test_dataset.jsonl"
VIEWS_FILE = "same_poi_views_mgeo.csv"
TRAIN_POIS_FILE = "mgeo_poi_database_train_use_negative.csv"
TEST_POIS_FILE = "mgeo_poi_database_use_negative.csv"
POIS_FILE = "poi_database.csv"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class GeotesOptions:
    """How to read the source.

    Args:
        datum: The datum of the source's coordinates; outputs are WGS-84.
        negatives: Negatives a record; without ``mine`` the first so many of its own. None: all of its own.
        mine: Take negatives mined from all POIs of the source instead of the records' own, in the splits ``mined``.
        mined: The splits to mine. Figures on dev and test compare with others' only if those keep their negatives.
        seed: Orders what is mined.
    """

    datum: Datum = "wgs84"
    negatives: int | None = None
    mine: bool = False
    mined: tuple[str, ...] = ("train",)
    seed: int = 2023

    def check(self) -> None:
        """Raise InputError for values that make no sense."""
        check_datum(self.datum)
        if self.negatives is not None and self.negatives < 1:
            raise InputError(f"negatives must be at least 1, got {self.negatives}")
        if self.seed < 0:
            raise InputError(f"seed must not be negative, got {self.seed}")


@dataclass(frozen=True)
class GeotesFile:
    """A file that was written, and how many records, pairs or POIs it holds."""

    path: Path
    kind: str
    rows: int


@dataclass
class GeotesSummary:
    """What was written, and in words what a reader of it must know."""

    files: list[GeotesFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form: files (path, kind, rows) and notes."""
        files = [{"path": str(f.path), "kind": f.kind, "rows": f.rows} for f in self.files]
        return {"files": files, "notes": list(self.notes)}


@dataclass(frozen=True)
class _Output:
    """A file to be written: records, or a table."""

    name: str
    kind: str
    content: list[Record] | pd.DataFrame


def build_geotes(
    source: Path, out: Path, options: GeotesOptions | None = None, progress: Progress | None = None
) -> GeotesSummary:
    """Make the published file tree in ``out`` from a GeoTES folder, or import one file of candidate records.

    Args:
        source: A folder with at least one of ``{train,dev,test}_dataset.jsonl[.gz]``, or one ``.pth``, ``.jsonl[.gz]``.
        out: The output folder, made if missing; it cannot be the source folder.
        options: Datum of the source.
        progress: Called with a few words before each file that is read or written.

    Raises:
        InputError: nothing to read, a bad record (file:line), an output that cannot be written or would fall on the
            source. Nothing has been written then, apart from the folder.
    """
    options = options or GeotesOptions()
    options.check()
    log = progress or (lambda _: None)
    if not source.exists():
        raise InputError("no such file or folder", where=source, hint="Check the path.")
    summary = GeotesSummary()
    if source.is_dir():
        outputs = _plan_folder(source, out, options, summary, log)
    else:
        outputs = _plan_import(source, out, options, summary, log)
    for output in outputs:
        log(f"writing {output.name}")
        summary.files.append(_write(output, out))
    return summary


def _plan_folder(
    source: Path, out: Path, options: GeotesOptions, summary: GeotesSummary, log: Progress
) -> list[_Output]:
    """Read and validate every file of the source folder; nothing is written yet."""
    if out.resolve() == source.resolve():
        what = "the output folder is the source folder, and its files would be overwritten"
        raise InputError(what, where=out, hint="Choose another output folder.")
    paths = _find_splits(source, summary)
    probe_folder(out)
    splits: dict[str, list[Record]] = {}
    for name, path in paths.items():
        log(f"reading {path.name}")
        splits[name] = read_records(path, options.datum)
    outputs: list[_Output] = []
    pois: pd.DataFrame | None = None
    if (source / POIS_FILE).exists():
        log(f"reading {POIS_FILE}")
        pois = read_pois(source / POIS_FILE, options.datum)
        outputs.append(_Output(POIS_FILE, "POI table", pois))
    splits = _with_negatives(splits, pois, options, summary, log)
    _note_shared_queries(splits, summary)
    return _train_outputs(splits, summary) + _evaluation_outputs(splits, summary) + outputs


def _with_negatives(
    splits: dict[str, list[Record]],
    pois: pd.DataFrame | None,
    options: GeotesOptions,
    summary: GeotesSummary,
    log: Progress,
) -> dict[str, list[Record]]:
    """The splits with the negatives that the options ask for."""
    count = options.negatives
    if not options.mine:
        if count is None:
            return splits
        return {name: [replace(r, negatives=r.negatives[:count]) for r in rows] for name, rows in splits.items()}
    log("mining")
    reminer = Reminer(passages_of([r for rows in splits.values() for r in rows], pois))
    out = dict(splits)
    for name in [name for name in splits if name in options.mined]:
        out[name], mined = reminer.mine(splits[name], count or PUBLISHED_NEGATIVES, options.seed)
        shares = ", ".join(f"{source} {n:,}" for source, n in by_source(mined).items())
        summary.notes.append(f"{name}: negatives mined from {len(reminer):,} POIs ({shares}).")
    kept = [name for name in splits if name not in options.mined]
    if kept:
        summary.notes.append(f"{' and '.join(kept)}: the records' own negatives, so that figures compare with others'.")
    return out


def _find_splits(source: Path, summary: GeotesSummary) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in SPLITS:
        plain, packed = source / f"{name}_dataset.jsonl", source / f"{name}_dataset.jsonl.gz"
        here = [path for path in (plain, packed) if path.exists()]
        if len(here) == 2:
            summary.notes.append(f"{plain.name} was read; {packed.name} beside it was not.")
        if here:
            found[name] = here[0]
    if not found:
        hint = "Expected train_dataset.jsonl, dev_dataset.jsonl or test_dataset.jsonl (.gz)."
        pickled = sorted(path.name for path in source.glob("*.pth"))
        if pickled:
            hint = f"To import a pickled dataset give the file itself: {source / pickled[0]}"
        raise InputError("the folder holds no GeoTES dataset", where=source, hint=hint)
    return found


def _train_outputs(splits: dict[str, list[Record]], summary: GeotesSummary) -> list[_Output]:
    if "train" not in splits:
        missing = f"{TRAIN_FILE}, {VIEWS_FILE} and {TRAIN_POIS_FILE}"
        summary.notes.append(f"No train_dataset.jsonl in the source: {missing} were not made.")
        return []
    records = without_gold_negatives(splits["train"], summary.notes)
    repeated = sum(len(r.negatives) - len({p.key for p in r.negatives}) for r in records)
    if repeated:
        told = "train negatives repeat another negative of their record in text and coordinates; they are kept."
        summary.notes.append(f"{repeated} {told}")
    return [
        _Output(TRAIN_FILE, "candidate records", records),
        _Output(VIEWS_FILE, "view table", views_of(records)),
        _Output(TRAIN_POIS_FILE, "POI table", pois_of(records)),
    ]


def _evaluation_outputs(splits: dict[str, list[Record]], summary: GeotesSummary) -> list[_Output]:
    outputs: list[_Output] = []
    dev, test = splits.get("dev"), splits.get("test")
    if dev is None:
        summary.notes.append(f"No dev_dataset.jsonl in the source: {VAL_FILE} was not made.")
    else:
        outputs.append(_Output(VAL_FILE, "candidate records", _cut(dev, SMALL_CUT, VAL_FILE, summary)))
    if test is None:
        if dev is None:
            made = f"{TEST_FILE}, its cuts and {TEST_POIS_FILE}"
            summary.notes.append(f"No test_dataset.jsonl in the source either: {made} were not made.")
            return outputs
        test = dev
        summary.notes.append(
            f"No test_dataset.jsonl in the source: the {len(dev)} dev queries stand in for the test queries, so that "
            "validation and test see the same queries and a test figure is no held-out figure."
        )
    for name, size in ((TEST_SMALL_FILE, SMALL_CUT), (TEST_LARGE_FILE, LARGE_CUT)):
        outputs.append(_Output(name, "candidate records", _cut(test, size, name, summary)))
    outputs.append(_Output(TEST_FILE, "candidate records", test))
    outputs.append(_Output(TEST_POIS_FILE, "POI table", pois_of(test)))
    same = _gold_negatives(test)
    if same:
        summary.notes.append(
            f"{same} negatives of the test records equal their gold; they are kept, and count as gold."
        )
    return outputs


def _plan_import(
    source: Path, out: Path, options: GeotesOptions, summary: GeotesSummary, log: Progress
) -> list[_Output]:
    """One file of candidate records: ``X.pth`` or ``X.jsonl.gz`` -> ``X.jsonl``."""
    kind = suffix_of(source)
    if kind not in (".pth", ".jsonl"):
        what = f"cannot read candidate records from {kind or 'a file without suffix'}"
        raise InputError(what, where=source, hint="Give a folder, a .pth of the published code or a .jsonl.")
    stem = source.name[: source.name.lower().index(kind)]
    target = out / f"{stem}.jsonl"
    if target.resolve() == source.resolve():
        raise InputError("the output would overwrite the source", where=target, hint="Choose another output folder.")
    probe_folder(out)
    log(f"reading {source.name}")
    records = read_records(source, options.datum)
    if options.mine or options.negatives:
        alone = replace(options, mined=("records",))
        records = _with_negatives({"records": records}, None, alone, summary, log)["records"]
    if stem.lower().startswith("train"):
        records = without_gold_negatives(records, summary.notes)
    elif same := _gold_negatives(records):
        summary.notes.append(f"{same} negatives equal the gold of their record; they are kept, and count as gold.")
    return [_Output(target.name, "candidate records", records)]


def without_gold_negatives(records: Sequence[Record], notes: list[str]) -> list[Record]:
    """Records without the negatives that equal a positive of theirs in text and coordinates; the count goes to notes.

    The gold is never trained as a negative.
    """
    kept: list[Record] = []
    dropped = touched = 0
    for record in records:
        gold = record.gold
        negatives = [p for p in record.negatives if p.key not in gold]
        fewer = len(record.negatives) - len(negatives)
        dropped += fewer
        touched += fewer > 0
        kept.append(replace(record, negatives=negatives) if fewer else record)
    if dropped:
        notes.append(f"{dropped} negatives in {touched} train records equal a positive of theirs and were dropped.")
    return kept


def views_of(records: Sequence[Record]) -> pd.DataFrame:
    """A row for each (query, positive): address1 is the query, address2 the positive's text, lng/lat its place.

    Columns query_id and docid follow where any record or passage has one.
    """
    rows = [(r.query, p.text, p.lng, p.lat, r.query_id, p.docid) for r in records for p in r.positives]
    frame = pd.DataFrame(rows, columns=["address1", "address2", "lng", "lat", "query_id", "docid"])
    return frame.drop(columns=[c for c in ("query_id", "docid") if frame[c].isna().all()])


def pois_of(records: Sequence[Record]) -> pd.DataFrame:
    """The distinct positives and negatives as a POI table, in order of first appearance.

    Returns:
        poi_id, address, lng, lat. poi_id is the passage's docid if every row has one of its own, else the row number.
    """
    seen: dict[PoiKey, tuple[str | None, str, float, float]] = {}
    for record in records:
        for p in record.passages:
            seen.setdefault(p.key, (p.docid, p.text, p.lng, p.lat))
    frame = pd.DataFrame(list(seen.values()), columns=["poi_id", "address", "lng", "lat"])
    if frame["poi_id"].isna().any() or frame["poi_id"].duplicated().any():
        frame["poi_id"] = range(len(frame))
    return frame


def _cut(records: list[Record], size: int, name: str, summary: GeotesSummary) -> list[Record]:
    if len(records) < size:
        summary.notes.append(f"{name} holds all {len(records)} queries; the source has fewer than {size}.")
    return records[:size]


def _gold_negatives(records: Sequence[Record]) -> int:
    """How many negatives equal a positive of their own record in text and coordinates."""
    return sum(p.key in record.gold for record in records for p in record.negatives)


def _note_shared_queries(splits: dict[str, list[Record]], summary: GeotesSummary) -> None:
    train = {record.query.strip() for record in splits.get("train", [])}
    for name in ("dev", "test"):
        shared = sum(record.query.strip() in train for record in splits.get(name, []))
        if shared:
            summary.notes.append(f"{shared} {name} queries read exactly like a train query.")


def _write(output: _Output, out: Path) -> GeotesFile:
    path = out / output.name
    content = output.content
    if isinstance(content, pd.DataFrame):
        (write_views if output.kind == "view table" else write_pois)(content, path)
    else:
        write_records(content, path)
    return GeotesFile(path, output.kind, len(content))
