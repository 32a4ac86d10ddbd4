"""What a user could take instead, and what this project gives: one table over the same real queries.

    python benchmarks/results.py                      # everything that is not there yet (many hours), then the table
    python benchmarks/results.py --methods bm25 "bm25 + distance" zero-shot
    python benchmarks/results.py --methods ours "ours, pretrained" --seeds 1 --queries 0 50 200 all
    python benchmarks/results.py --table --against "sentence-transformers: + distance + BM25"
    python benchmarks/results.py --curve curve.png --errors "ours: fused"

Results are kept in --folder, a line a run; a run that is there is not done again, so that a stopped command goes on
where it was. The folder holds texts of the data set and is not to be published.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from quality.curve import curves_of, draw
from quality.drive import Asked, log, run_all
from quality.folds import Plan, Source, check_fold, fold_names
from quality.job import Options
from quality.methods import METHODS, chosen
from quality.mistakes import mistakes_of, page
from quality.store import Store, newest
from quality.table import differences, gathered, markdown

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LABELS = ["0", "50", "200", "all"]
STORE, ERRORS, CURVE = "results.jsonl", "errors.md", "curve.png"


def parser() -> argparse.ArgumentParser:
    """The options."""
    out = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    out.add_argument(
        "--data", type=Path, default=SHARED / "data" / "geotes", help="GeoTES folder with poi_database.csv"
    )
    out.add_argument("--encoder", default=str(SHARED / "models" / "e5-small-zh"), help="E5 encoder: folder or hub name")
    extract = SHARED / "data" / "osm" / "hangzhou_amap2017.osm.pbf"
    out.add_argument("--extract", type=Path, default=extract, help="map on whose views a start is pretrained")
    out.add_argument("--pretrained", type=Path, metavar="RUN", help="pretrained run to start from instead")
    out.add_argument("--folder", type=Path, default=ROOT / "quality-results", help="where everything is kept")
    out.add_argument("--methods", nargs="+", metavar="NAME", help=f"of: {'; '.join(m.name for m in METHODS)}")
    out.add_argument("--folds", nargs="+", metavar="NAME", help="0 to 4, dev; all")
    out.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N")
    out.add_argument("--queries", nargs="+", default=LABELS, metavar="N", help="labelled queries to train on, all")
    out.add_argument("--validation", type=int, default=Plan.validation, help="queries of a fold kept for validation")
    out.add_argument("--table", action="store_true", help="run nothing, print the tables of what is there")
    out.add_argument("--against", metavar="ROW", help="also print paired differences to this row")
    out.add_argument("--curve", type=Path, nargs="?", const=Path(CURVE), metavar="PNG", help="draw the label curve")
    out.add_argument("--errors", metavar="ROW", help=f"print 30 errors of this row, and keep them as {ERRORS}")
    out.add_argument("--keep-runs", action="store_true", help="leave checkpoints and data of finished runs")
    return out


def labels_of(words: list[str]) -> list[int | None]:
    """Numbers of labels, None for all. Raises InputError."""
    for word in words:
        if word != "all" and not word.isdecimal():
            raise InputError(f"--queries {word!r} is no number", hint="Write numbers, or all.")
    return [None if word == "all" else int(word) for word in words]


def tables(store: Store, against: str | None) -> str:
    """The tables of the folds, of the dev set and of fewer labels, and the differences to a row."""
    lines, old = newest(store.lines())
    if old:
        log(f"{old} results of other settings, or done again since, are left out")
    out: list[str] = []
    known: set[str] = set()
    for dev, title in ((False, "Folds"), (True, "Dev set")):
        rows = gathered(lines, dev)
        names = {row.name for row in rows}
        known |= names
        if rows:
            out += [f"## {title}", "", markdown(rows), ""]
        if against in names:
            out += [differences(rows, against), ""]
        for labels in sorted({x["labels"] for x in lines if x["labels"] is not None}):
            few = gathered(lines, dev, labels)
            out += [f"### {title}, {labels} labelled queries", "", markdown(few), ""] if few else []
    if against is not None and against not in known:
        raise InputError(f"no row {against!r}", hint=f"Rows: {'; '.join(sorted(known))}.")
    return "\n".join(out)


def work(given: argparse.Namespace) -> int:
    """Do what is asked for; the exit code. Raises InputError."""
    folder = given.folder.resolve()
    store, plan, source = Store(folder / STORE), Plan(validation=given.validation), Source(given.data)
    failed: list[str] = []
    if not (given.table or given.curve or given.errors):
        encoder = str(Path(given.encoder).resolve()) if Path(given.encoder).exists() else given.encoder
        run = given.pretrained.resolve() if given.pretrained else None
        options = Options(encoder, given.extract, run, folder, given.keep_runs)
        folds = given.folds or fold_names(plan)
        for name in folds:
            check_fold(name, plan)
        asked = Asked(chosen(given.methods), folds, given.seeds, labels_of(given.queries), plan)
        failed = run_all(source, asked, options, store)
    if not (given.curve or given.errors):
        print(tables(store, given.against))
    lines, _ = newest(store.lines())
    if given.curve:
        draw(curves_of(lines), given.curve if given.curve != Path(CURVE) else folder / CURVE)
    if given.errors:
        text = page(mistakes_of(lines, given.errors, [*source.train, *source.dev], source.pois), given.errors)
        with atomic_text(folder / ERRORS) as file:
            file.write(text)
        print(text)
    for line in failed:
        log(f"not done: {line}")
    return 1 if failed else 0


def main() -> None:
    """The command line: exit code 1 where a run failed, 2 for wrong input, 130 when it was stopped."""
    try:
        sys.exit(work(parser().parse_args()))
    except InputError as error:
        log(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        log("stopped; the same command goes on")
        sys.exit(130)


if __name__ == "__main__":
    main()
