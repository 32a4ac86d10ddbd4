"""``m3gal data labels``: records from labels, and BEIR folders in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.cli import data_inspect
from m3gal_cli.cli.console import note, print_summary
from m3gal_cli.cli.options import AS_JSON, COLUMNS, argument, option, switch, with_options
from m3gal_cli.cli.progress import stage_progress
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    from m3gal_cli.data.label_records import LabelRecords

SOURCE = "Labels: a table with query and poi_id, a BEIR folder, or candidate records (.jsonl)."
VAL = "Share of the queries for validation (default: 0.1, at least 25 queries, at most half of those not in test)."


@with_options(
    argument("source", SOURCE),
    option("--pois", Path, "POI table that the labels refer to. A BEIR folder with coordinates needs none."),
    option("--output -o", Path, "Output folder.", default=Path("data")),
    option("--suffix", str, "Suffix of the file names (default: none)."),
    option("--negatives", int, "Negatives per record: labelled ones first, then mined ones.", default=39),
    option("--val", float, VAL, metavar="SHARE"),
    option("--test", float, "Share of the queries for test.", default=0.2, metavar="SHARE"),
    option("--seed", int, "Random seed for splits and mined negatives.", default=2023),
    option("--beir", Path, "Write a BEIR folder instead of records.", metavar="FOLDER"),
    option("--datum", str, data_inspect.DATUM, default="wgs84"),
    COLUMNS,
    switch("--skip-bad", "Leave out invalid rows of both tables; list them in STEM.bad.jsonl of the output folder."),
    AS_JSON,
)
def labels(values: dict[str, Any]) -> None:
    """Make train, val and test records with negatives from labels: which POIs a query means.

    Columns: query, poi_id; optional label (0: negative), lng and lat (query location, WGS-84), split, query_id.
    """
    from m3gal_cli.config.schema import DataConfig
    from m3gal_cli.data.beir import write_beir
    from m3gal_cli.data.label_records import LabelOptions, make_records, write_bad, write_data
    from m3gal_cli.data.label_splits import SplitRule
    from m3gal_cli.geo.datums import check_datum
    from m3gal_cli.label_source import read_pois_of

    source, folder, suffix = values["source"], values["output"], values["suffix"]
    rule = SplitRule(values["val"], values["test"], values["seed"], keep=values["beir"] is not None)
    options = LabelOptions(0 if values["beir"] else values["negatives"], rule, values["skip_bad"])
    data = DataConfig(
        datum=check_datum(values["datum"]), columns=values["columns"], skip_bad=values["skip_bad"], dir=str(folder)
    )
    if values["beir"] is None and suffix is None:
        _check_names(folder)
    with stage_progress() as progress:
        made = make_records(
            source, values["pois"], lambda path: read_pois_of(data, path, note, folder), options, progress
        )
        progress("writing")
        write_bad(made, folder)
        if values["beir"] is None:
            write_data(made, folder, suffix, [path for path in (source, values["pois"]) if path is not None])
        else:
            made.summary.files += map(str, write_beir(made.labels, made.pois, made.splits, values["beir"]))
    _report(made, values["json"])


def _check_names(folder: Path) -> None:
    """Raise InputError if trainings would find the files of a view table before files without suffix."""
    from m3gal_cli.config.paths import VIEWS, find_pois, find_records
    from m3gal_cli.config.schema import DataConfig
    from m3gal_cli.files import stem_of

    data = DataConfig(dir=str(folder))
    ends = tuple(path.stem.removeprefix(VIEWS[:-1]) for path in folder.glob(f"{VIEWS}*.csv"))
    for path in (*(find_records(data, split) for split in ("train", "val", "test")), find_pois(data)):
        if path is not None and stem_of(path).endswith(ends):
            hint = "Choose another folder with -o, or give --suffix NAME here and --data-suffix NAME to the training."
            raise InputError("trainings would find this file instead of the new one", where=path, hint=hint)


def _report(made: LabelRecords, as_json: bool) -> None:
    summary = made.summary
    gold = ", ".join(f"{size:,} ({count:,} queries)" for size, count in summary.positives.items())
    facts = [
        ("labels", f"{summary.labels:,}"),
        ("queries", f"{summary.queries:,}"),
        ("gold POIs per query", gold + (f" ({summary.duplicates:,} duplicates merged)" if summary.duplicates else "")),
        *((f"{split} queries", f"{count:,}") for split, count in summary.splits.items()),
        ("negatives", ", ".join(f"{source} {count:,}" for source, count in summary.negatives.items()) or "none"),
        ("written", "\n".join(summary.files)),
    ]
    print_summary(summary, made.labels.source.name, facts, as_json)
