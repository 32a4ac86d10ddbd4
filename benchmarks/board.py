"""The board: m3gal on all labelled sets, before and after finetuning, beside the values that it has to reach.

    python benchmarks/board.py                                 # measure what has no stored result, print the table
    python benchmarks/board.py --columns TF-IDF BM25 packaged  # without finetuning
    python benchmarks/board.py --seeds 1 --folds 0             # one finetuning instead of fifteen
    python benchmarks/board.py --table --docs docs/results.md  # print the table of the stored results, and write it

TF-IDF and BM25 are the plain methods that some bars refer to. "packaged" is the model of the package, without labels.
"finetuned" is `m3gal finetune --config geotes.yaml` from it, on the training queries of each fold of GeoTES: the test
queries of the fold are one part of the set geotes. The models of fold 0 are measured on the other sets, too.

Figures come from `m3gal predict` (address_pairs: `eval-rerank`), those of confidence from `eval-retrieval`. Results are
stored in --folder, one line each. A stored result is not repeated while model, settings and queries are the same, so an
interrupted command continues where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from command_line import run_and_exit
from engines import in_process, m3gal
from engines.engine import Engine
from engines.measurement import measure_sets
from quality.board import BM25, COLUMNS, FINETUNED, TFIDF, markdown_board
from quality.board_training import BoardTraining, settings_hash
from quality.folds import Dataset, SplitPlan, make_fold
from quality.interface import short_hash
from quality.result_store import ResultStore
from quality.runner import log
from quality.sets import GEOTES, LabelledSet, load_sets, set_names
from quality.table import write_between_marks

from m3gal_cli.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
PLAN = SplitPlan()
FOLDS = [str(number) for number in range(PLAN.folds)]
ALL = "all"  # the fold of results on all queries
PLAIN = {TFIDF: in_process.ENGINES[0], BM25: in_process.ENGINES[1]}


def create_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the sets")
    add("--folder", type=Path, default=ROOT / "board-results", help="folder for results, runs and the sample city")
    add("--model", default="packaged", help="checkpoint to measure and to finetune (default: the packaged model)")
    add("--columns", nargs="+", choices=COLUMNS, default=COLUMNS, metavar="NAME", help=", ".join(COLUMNS))
    add("--sets", nargs="+", metavar="NAME", default=set_names(), help="; ".join(set_names()))
    add("--folds", nargs="+", choices=FOLDS, default=FOLDS, metavar="N", help="folds of GeoTES to finetune on")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="N", help="seeds of finetuning (default: 1 2 3)")
    add("--keep-runs", action="store_true", help="keep the finetuned runs")
    add("--table", action="store_true", help="print the table of the stored results")
    add("--docs", type=Path, metavar="PAGE", help="also write the tables into this page, between its marks")
    return parser


class Board:
    """Measures the missing results of a command line.

    Args:
        arguments: The arguments.
        store: The store of results.
    """

    def __init__(self, arguments: argparse.Namespace, store: ResultStore) -> None:
        self.arguments, self.store = arguments, store
        self.sets = load_sets(arguments.sets, arguments.data, arguments.folder)
        self.failed: list[str] = []

    def run(self) -> None:
        """Measure all columns."""
        for column in self.arguments.columns:
            if column == FINETUNED:
                self._finetuned()
            else:
                model = self.arguments.model
                engine = PLAIN.get(column) or m3gal.engine(model, confidence=True)
                missing = self.missing(column, ALL, 0, engine.identity, self.sets)
                self.measure(column, ALL, 0, missing, engine, engine.identity)

    def missing(self, column: str, fold: str, seed: int, own: str, sets: Sequence[LabelledSet]) -> list[LabelledSet]:
        """Return the sets without a stored result of this column, fold and seed."""
        names = ("column", "fold", "seed", "hash")
        known = {tuple(line[name] for name in names) for line in self.store.lines() if "error" not in line}
        return [s for s in sets if (column, fold, seed, short_hash([own, s.fingerprint])) not in known]

    def measure(self, column: str, fold: str, seed: int, sets: Sequence[LabelledSet], engine: Engine, own: str) -> bool:
        """Measure an engine on sets and store the results; an error is logged, and the others continue.

        Returns:
            Whether there was no error.
        """
        before = len(self.failed)
        by_name = {labelled.name: labelled for labelled in sets}
        for name, measured in measure_sets(engine, sets):
            labelled = by_name[name]
            line = {"column": column, "set": name, "fold": fold, "seed": seed}
            line |= {"hash": short_hash([own, labelled.fingerprint]), "identity": own}
            line |= {"queries": len(labelled.records)}
            self.store.append(line | measured)
            if "error" in measured:
                self.failed.append(f"{column}, {name}: {measured['error']}")
            log(f"{column}, {name}, fold {fold}, seed {seed}: {measured.get('error') or measured['recall@1']}")
        return len(self.failed) == before

    def _finetuned(self) -> None:
        """Finetune on each fold with each seed, and measure the results that are missing."""
        arguments, own = self.arguments, settings_hash(self.arguments.model)
        dataset = Dataset(arguments.data / "geotes")
        for seed, name in product(arguments.seeds, arguments.folds):
            missing = self.missing(FINETUNED, name, seed, own, list(self._sets_of(dataset, name)))
            if not missing:
                continue
            training = BoardTraining(arguments.model, arguments.folder / "runs" / f"seed-{seed}-fold-{name}-{own}")
            log(f"finetuning, fold {name}, seed {seed}: {training.folder}")
            try:
                run = training.run(make_fold(dataset, name, PLAN), seed)
            except InputError as error:
                self.failed.append(f"finetuning, fold {name}, seed {seed}: {error}")
                continue
            engine = m3gal.engine(str(run), confidence=True)
            if self.measure(FINETUNED, name, seed, missing, engine, own) and not arguments.keep_runs:
                training.delete()

    def _sets_of(self, dataset: Dataset, fold: str) -> Iterator[LabelledSet]:
        """Yield the test queries of a fold as the set geotes, and for the first fold all other sets."""
        for labelled in self.sets:
            if labelled.name == GEOTES:
                yield replace(labelled, records=make_fold(dataset, fold, PLAN).test)
            elif fold == FOLDS[0]:
                yield labelled


def run(arguments: argparse.Namespace) -> int:
    """Measure what is missing and print the board; return the exit code. Raises InputError."""
    arguments.folder = arguments.folder.resolve()
    store = ResultStore(arguments.folder / "board.jsonl")
    failed = []
    if not arguments.table:
        board = Board(arguments, store)
        board.run()
        failed = board.failed
    text = markdown_board(store.lines())
    print(text)
    if arguments.docs is not None:
        write_between_marks(arguments.docs, "board", text)
    for message in failed:
        log(f"failed: {message}")
    return 1 if failed else 0


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line. Exit codes: 1 a measurement failed, 2 wrong input, 130 interrupted."""
    run_and_exit(run, create_parser(), words)


if __name__ == "__main__":
    main()
