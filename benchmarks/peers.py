"""Compare m3gal with other search engines on the sets of the board: recall, milliseconds, memory.

    python benchmarks/peers.py                                   # all engines on all sets
    python benchmarks/peers.py --engines BM25 addok --sets "helsinki views"
    python benchmarks/peers.py --table --docs docs/results.md    # print the tables of stored results, and write them

Every engine indexes the POI table of a set and answers its queries, one at a time. Servers run on loopback, with their
data in a temporary folder, and are stopped afterwards. An engine that cannot be installed or fails is reported in the
tables and on stderr, with exit code 1. Measurements are stored in --folder, one line each, and not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from command_line import run_and_exit
from engines import addok, in_process, m3gal, nominatim, pg_trgm, typesense
from engines.engine import Engine
from engines.measurement import measure_sets
from engines.peers_table import markdown_tables
from quality.interface import short_hash
from quality.result_store import ResultStore
from quality.runner import log
from quality.sets import load_sets, set_names
from quality.table import write_between_marks

from m3gal_cli.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
OTHERS = [*in_process.ENGINES, *pg_trgm.ENGINES, *typesense.ENGINES, *addok.ENGINES, *nominatim.ENGINES]


def create_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the sets")
    add("--folder", type=Path, default=ROOT / "board-results", help="folder for measurements and the sample city")
    add("--model", default="packaged", help="checkpoint of m3gal (default: the packaged model)")
    add("--engines", nargs="+", metavar="NAME", help=f"default: all. m3gal; {'; '.join(e.name for e in OTHERS)}")
    add("--sets", nargs="+", metavar="NAME", default=set_names(), help=f"default: all. {'; '.join(set_names())}")
    add("--table", action="store_true", help="print the tables of the stored measurements")
    add("--docs", type=Path, metavar="PAGE", help="also write the tables into this page, between its marks")
    return parser


def select_engines(names: Sequence[str] | None, model: str) -> list[Engine]:
    """Return the engines of these names; None: all. Raises InputError for an unknown name."""
    engines = [m3gal.engine(model), *OTHERS]
    known = {engine.name for engine in engines}
    for name in names or ():
        if name not in known:
            raise InputError(f"no engine {name!r}", where="--engines", hint=f"Engines: {'; '.join(sorted(known))}.")
    return [engine for engine in engines if names is None or engine.name in names]


def run(arguments: argparse.Namespace) -> int:
    """Measure what is missing and print the tables; return the exit code. Raises InputError."""
    folder = arguments.folder.resolve()
    store = ResultStore(folder / "peers.jsonl")
    engines = select_engines(arguments.engines, arguments.model)
    if not arguments.table:
        sets = load_sets(arguments.sets, arguments.data, folder)
        for engine in engines:
            known = {(line["engine"], line["set"], line["hash"]) for line in store.lines() if "error" not in line}
            hashes = {s.name: short_hash([engine.identity, s.fingerprint]) for s in sets}
            missing = [s for s in sets if (engine.name, s.name, hashes[s.name]) not in known]
            for name, measured in measure_sets(engine, missing):
                about = {"engine": engine.name, "set": name, "hash": hashes[name]}
                about |= {"identity": engine.identity, "settings": engine.settings}
                store.append(about | measured)
                log(f"{engine.name}, {name}: {measured.get('error') or measured['recall@1']}")
    current = {engine.identity for engine in engines}
    lines = [line for line in store.lines() if line["identity"] in current]  # without those of other settings
    text = markdown_tables(lines, [engine.name for engine in engines])
    print(text)
    if arguments.docs is not None:
        write_between_marks(arguments.docs, "peers", text)
    newest = {(line["engine"], line["set"]): line for line in lines}
    failed = [f"{e}, {s}: {line['error']}" for (e, s), line in newest.items() if "error" in line]
    for message in failed:
        log(f"NOT MEASURED: {message}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: 1 an engine failed, 2 wrong input, 130 interrupted."""
    run_and_exit(run, create_parser(), words)


if __name__ == "__main__":
    main()
