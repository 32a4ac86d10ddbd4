"""Compare m3gal with BM25 and sentence-transformers on the labelled queries of GeoTES: recall, MRR, time.

    python benchmarks/results.py                      # run everything without a stored result (hours), print the tables
    python benchmarks/results.py --methods bm25 "bm25 + distance" zero-shot
    python benchmarks/results.py --methods ours "ours, pretrained" --seeds 1 --queries 0 50 200 all
    python benchmarks/results.py --table --against "sentence-transformers: + distance + BM25"
    python benchmarks/results.py --curve curve.png
    python benchmarks/results.py --errors "ours: fused"

Results are stored in --folder, one line per run. A stored run is not repeated, so an interrupted command continues
where it stopped. The folder holds texts of the data set and must not be published.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from command_line import run_and_exit
from quality.curve import draw_curves, label_curves
from quality.errors import error_report, errors_of
from quality.folds import Dataset, SplitPlan, check_fold, fold_names
from quality.interface import Options
from quality.methods import METHODS, select_methods
from quality.result_store import ResultStore, newest_runs
from quality.runner import RunGrid, log, run_missing
from quality.table import collect_rows, markdown_differences, markdown_table

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LABELS = ["0", "50", "200", "all"]
STORE_FILE, ERRORS_FILE, CURVE_FILE = "results.jsonl", "errors.md", "curve.png"


def create_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=SHARED / "data" / "geotes", help="GeoTES folder with poi_database.csv")
    add("--encoder", default=str(SHARED / "models" / "e5-small-zh"), help="E5 text encoder: folder or hub name")
    extract = SHARED / "data" / "osm" / "hangzhou_amap2017.osm.pbf"
    add("--extract", type=Path, default=extract, help="map extract for pretraining on views")
    add("--pretrained", type=Path, metavar="RUN", help="pretrained run to start from instead of pretraining")
    add("--folder", type=Path, default=ROOT / "quality-results", help="folder for results and runs")
    add("--methods", nargs="+", metavar="NAME", help=f"default: all. {'; '.join(m.name for m in METHODS)}")
    add("--folds", nargs="+", metavar="NAME", help="0 to 4, dev (default: all)")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="random seeds (default: 1 2 3)")
    add("--queries", nargs="+", default=LABELS, metavar="N", help="numbers of training queries (default: 0 50 200 all)")
    add("--validation", type=int, default=SplitPlan.validation, help="validation queries per fold")
    add("--table", action="store_true", help="print the tables of the stored results, without running anything")
    add("--against", metavar="ROW", help="also print paired differences to this row")
    add("--curve", type=Path, nargs="?", const=Path(CURVE_FILE), metavar="PNG", help="draw the label curve")
    add("--errors", metavar="ROW", help=f"print 30 errors of this row, and write them to {ERRORS_FILE}")
    add("--keep-runs", action="store_true", help="keep checkpoints and data of finished runs")
    return parser


def parse_labels(words: list[str]) -> list[int | None]:
    """Return numbers of labels, None for "all". Raises InputError."""
    for word in words:
        if word != "all" and not word.isdecimal():
            raise InputError(f"{word!r} is no number", where="--queries", hint="Give numbers, or all.")
    return [None if word == "all" else int(word) for word in words]


def tables(store: ResultStore, against: str | None) -> str:
    """Return the tables of folds and dev set by number of labels, and the differences to a row."""
    lines, old = newest_runs(store.lines())
    if old:
        log(f"{old} results with older settings, or repeated since, are omitted")
    parts: list[str] = []
    names: set[str] = set()
    for dev, title in ((False, "Folds"), (True, "Dev set")):
        rows = collect_rows(lines, dev)
        own = {row.name for row in rows}
        names |= own
        if rows:
            parts += [f"## {title}", "", markdown_table(rows), ""]
        if against in own:
            parts += [markdown_differences(rows, against), ""]
        for labels in sorted({line["labels"] for line in lines if line["labels"] is not None}):
            if few := collect_rows(lines, dev, labels):
                parts += [f"### {title}, {labels} labelled queries", "", markdown_table(few), ""]
    if against is not None and against not in names:
        raise InputError(f"no row {against!r}", where="--against", hint=f"Rows: {'; '.join(sorted(names))}.")
    return "\n".join(parts)


def run(arguments: argparse.Namespace) -> int:
    """Run the missing jobs and print what the arguments ask for; return the exit code. Raises InputError."""
    folder = arguments.folder.resolve()
    store, plan = ResultStore(folder / STORE_FILE), SplitPlan(validation=arguments.validation)
    dataset = Dataset(arguments.data)
    failed: list[str] = []
    if not (arguments.table or arguments.curve or arguments.errors):
        encoder = arguments.encoder
        encoder = str(Path(encoder).resolve()) if Path(encoder).exists() else encoder
        pretrained = arguments.pretrained.resolve() if arguments.pretrained else None
        options = Options(encoder, arguments.extract, pretrained, folder, arguments.keep_runs)
        folds = arguments.folds or fold_names(plan)
        for name in folds:
            check_fold(name, plan)
        methods, labels = select_methods(arguments.methods), parse_labels(arguments.queries)
        failed = run_missing(dataset, RunGrid(methods, folds, arguments.seeds, labels, plan), options, store)
    if not (arguments.curve or arguments.errors):
        print(tables(store, arguments.against))
    lines, _ = newest_runs(store.lines())
    if arguments.curve:
        path = arguments.curve if arguments.curve != Path(CURVE_FILE) else folder / CURVE_FILE
        draw_curves(label_curves(lines), path)
    if arguments.errors:
        records = [*dataset.train, *dataset.dev]
        report = error_report(errors_of(lines, arguments.errors, records, dataset.pois), arguments.errors)
        with atomic_text(folder / ERRORS_FILE) as file:
            file.write(report)
        print(report)
    for message in failed:
        log(f"failed: {message}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: 1 a run failed, 2 wrong input, 130 interrupted."""
    run_and_exit(run, create_parser(), words)


if __name__ == "__main__":
    main()
