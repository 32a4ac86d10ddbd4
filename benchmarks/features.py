"""Measure what each feature of the linear reranker contributes: recall at 1, 5 and 20 without it, cross-validated.

    python benchmarks/features.py RUN --data DIRECTORY
    python benchmarks/features.py RUN --data DIRECTORY --without nearness_700m,nearness_2500m --without dense_score
    python benchmarks/features.py quality-results/runs/*/run

With one run, its training and validation records are divided into five parts. Each part is ranked with weights that are
fitted on the other four: once with all features, and once without each feature, or without those of --without. The
encoder of the run must not be trained on these queries: give a run that was pretrained on views, or an untrained one.

With several runs, such as the folds of one seed that results.py --keep-runs keeps, each run is a part: its test records
are ranked by its encoder, with weights fitted on the test records of the other runs, and with the weights of the run.
Runs that share test records are rejected: label leakage.

A query without its gold among the candidates counts as a miss; ties never help.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from command_line import create_parser, print_values

from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.data.poi_reader import PoiOptions, read_pois
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.matching.session import Session, open_session
from m3gal_cli.rerank.candidates import Floats
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.fit import Example, fit
from m3gal_cli.training.reranker_fit import collect_examples

PARTS, CUTOFFS = 5, (1, 5, 20)


def session_examples(session: Session, *splits: str) -> tuple[list[Example], int]:
    """Return the examples of a session's records in these splits, and the number of records."""
    data, seed = session.config.data, session.config.seed
    paths = [path for path in (find_records(data, split) for split in splits) if path is not None]
    records: list[Record] = [record for path in paths for record in read_records(path, data.datum)]
    pois = read_pois(session.poi_table, PoiOptions(data.datum)) if find_pois(data) is not None else None
    return collect_examples(records, pois, session.encoder, seed, lambda *_: None), len(records)


def divide(examples: Sequence[Example], seed: int = 0) -> list[list[Example]]:
    """Divide examples at random into ``PARTS`` parts."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return [[examples[i] for i in order[part::PARTS]] for part in range(PARTS)]


def without_features(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Return the examples with these features set to 0."""
    keep = np.array([name not in names for name in FEATURE_NAMES], np.float64)
    return [Example(e.features * keep, e.gold) for e in examples]


def cross_fit(parts: Sequence[Sequence[Example]]) -> list[Floats]:
    """Return, for each part, the weights fitted on all other parts."""
    return [fit([e for j, part in enumerate(parts) if j != i for e in part]) for i in range(len(parts))]


def recall(parts: Sequence[Sequence[Example]], weights: Sequence[Floats], count: int) -> dict[int, float]:
    """Return recall@k over ``count`` queries for each k of ``CUTOFFS``.

    Args:
        parts: The examples.
        weights: Weights for each part.
        count: Number of all queries; those without an example are misses.
    """
    ranks = [
        gold_ranks((e.features @ own)[None], e.gold[None])[0]
        for part, own in zip(parts, weights, strict=True)
        for e in part
    ]
    return {k: float((np.array(ranks) <= k).sum()) / count for k in CUTOFFS}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run or checkpoint")
    parser.add_argument("--data", help="folder of records and POI table (default: that of the run)")
    parser.add_argument("--without", action="append", metavar="NAME,NAME", help="leave out these features together")
    options = parser.parse_args(words)
    sessions = [open_session(run, {} if options.data is None else {"data.dir": options.data}) for run in options.runs]
    several = len(sessions) > 1
    tests = [find_records(session.config.data, "test") for session in sessions] if several else []
    if None in tests or len({path.read_bytes() for path in tests if path is not None}) < len(tests):
        parser.error("runs without test records, or with the same test records: give the folds of one seed")
    collected = [session_examples(session, *(("test",) if several else ("train", "val"))) for session in sessions]
    parts, count = [examples for examples, _ in collected], sum(number for _, number in collected)
    if not several:
        parts = divide(parts[0])
    results = {}
    if several and all(session.weights is not None for session in sessions):
        own = [session.weights.vector for session in sessions if session.weights is not None]
        results["all, with the weights of each run"] = recall(parts, own, count)
    results["all"] = recall(parts, cross_fit(parts), count)
    all_but_dense = ",".join(name for name in FEATURE_NAMES if name != "dense_score")
    for names in options.without or [*FEATURE_NAMES, all_but_dense]:
        fewer = [without_features(part, names.split(",")) for part in parts]
        results[f"without {names}"] = recall(fewer, cross_fit(fewer), count)
    lines = {name: " ".join(f"{value:.3f}" for value in values.values()) for name, values in results.items()}
    print_values(lines, options.json)


if __name__ == "__main__":
    main()
