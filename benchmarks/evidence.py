"""What each evidence of the hybrid score is worth: labelled queries, with weights of cross-validation.

    python benchmarks/evidence.py RUN --data DIRECTORY
    python benchmarks/evidence.py RUN --data DIRECTORY --without near_700m,near_2500m --without dense
    python benchmarks/evidence.py quality-results/runs/*/run

Train and validation records together are parted into five; each part is ranked with weights learned on the other four,
once with all evidence and once without each (or without those that are named): recall at 1, 5 and 20. The encoder of
the run must not have been trained on these queries: take one that was pretrained on views, or not at all. A query whose
gold is not among its candidates is a miss, and a tie is lost.

Of several runs, such as the folds of one seed that results.py --keep-runs leaves, each is a part: its test records are
ranked with weights learned on those of the others, each by the encoder that was not trained on them, and with the run's
own. Two runs with the same test records are refused: the one would teach the other its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from figures import parser_of, show

from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.data.tables import read_pois
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.matching.session import Session, open_session
from m3gal_cli.rerank.features import FEATURES, Floats
from m3gal_cli.training.reranker_fit import Example, examples_of, fit

PARTS, CUTS = 5, (1, 5, 20)


def examples_in(session: Session, *splits: str) -> tuple[list[Example], int]:
    """Examples of the records of a session's folder, and how many records there are."""
    data, seed = session.config.data, session.config.seed
    paths = [path for path in (find_records(data, split) for split in splits) if path is not None]
    records: list[Record] = [record for path in paths for record in read_records(path, data.datum)]
    pois = read_pois(session.poi_table, data.datum) if find_pois(data) is not None else None
    return examples_of(records, pois, session.encoder, seed, lambda *_: None), len(records)


def parted(examples: Sequence[Example], seed: int = 0) -> list[list[Example]]:
    """Five parts, drawn by chance."""
    order = np.random.default_rng(seed).permutation(len(examples))
    return [[examples[i] for i in order[part::PARTS]] for part in range(PARTS)]


def without(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Examples to which some evidence says nothing."""
    keep = np.array([name not in names for name in FEATURES], np.float64)
    return [Example(e.evidence * keep, e.gold) for e in examples]


def crossed(parts: Sequence[Sequence[Example]]) -> list[Floats]:
    """For each part the weights that the others teach."""
    return [fit([e for j, part in enumerate(parts) if j != i for e in part]) for i in range(len(parts))]


def recall(parts: Sequence[Sequence[Example]], weights: Sequence[Floats], count: int) -> dict[int, float]:
    """Share of ``count`` queries that have their gold among the best k, each part by weights of its own."""
    ranks = [
        gold_ranks((e.evidence @ own)[None], e.gold[None])[0]
        for part, own in zip(parts, weights, strict=True)
        for e in part
    ]
    return {k: float((np.array(ranks) <= k).sum()) / count for k in CUTS}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run or checkpoint")
    parser.add_argument("--data", help="folder of records and POI table, instead of the run's own")
    parser.add_argument("--without", action="append", metavar="NAME,NAME", help="leave these out together")
    given = parser.parse_args()
    sessions = [open_session(run, {} if given.data is None else {"data.dir": given.data}) for run in given.runs]
    several = len(sessions) > 1
    tests = [find_records(session.config.data, "test") for session in sessions] if several else []
    if None in tests or len({path.read_bytes() for path in tests if path is not None}) < len(tests):
        parser.error("of several runs each needs test records of its own: give the folds of one seed")
    made = [examples_in(session, *(("test",) if several else ("train", "val"))) for session in sessions]
    parts, count = [examples for examples, _ in made], sum(number for _, number in made)
    if not several:
        parts = parted(parts[0])
    found = {}
    if several and all(session.weights is not None for session in sessions):
        own = [np.array(session.weights.values) for session in sessions if session.weights is not None]
        found["all, by the weights of each run"] = recall(parts, own, count)
    found["all"] = recall(parts, crossed(parts), count)
    for names in given.without or [*FEATURES, ",".join(name for name in FEATURES if name != "dense")]:
        less = [without(part, names.split(",")) for part in parts]
        found[f"without {names}"] = recall(less, crossed(less), count)
    show({name: " ".join(f"{value:.3f}" for value in own.values()) for name, own in found.items()}, given.json)


if __name__ == "__main__":
    main()
