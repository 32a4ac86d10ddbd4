"""What each evidence of the hybrid score is worth: the labelled queries of a folder, with weights of cross-validation.

    python benchmarks/evidence.py RUN --data DIRECTORY
    python benchmarks/evidence.py RUN --data DIRECTORY --without near_700m,near_2500m --without dense

Train and validation records together are parted into five; each part is ranked with weights learned on the other four,
once with all evidence and once without each (or without those that are named): recall at 1, 5 and 20. The encoder of
the run must not have been trained on these queries: take one that was pretrained on views, or not at all. A query whose
gold is not among its candidates is a miss, and a tie is lost.
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
from m3gal_cli.retrieval.evidence import EVIDENCE
from m3gal_cli.session import Session, open_session
from m3gal_cli.training.balance import Example, examples_of, fit

PARTS, CUTS = 5, (1, 5, 20)


def examples_in(session: Session) -> tuple[list[Example], int]:
    """Examples of the records of a session's folder, and how many records there are."""
    data, seed = session.config.data, session.config.seed
    paths = [path for path in (find_records(data, split) for split in ("train", "val")) if path is not None]
    records: list[Record] = [record for path in paths for record in read_records(path, data.datum)]
    pois = read_pois(session.poi_table, data.datum) if find_pois(data) is not None else None
    return examples_of(records, pois, session.embedder, seed, lambda *_: None), len(records)


def without(examples: Sequence[Example], names: Sequence[str]) -> list[Example]:
    """Examples to which some evidence says nothing."""
    keep = np.array([name not in names for name in EVIDENCE], np.float64)
    return [Example(e.evidence * keep, e.gold) for e in examples]


def recall(examples: Sequence[Example], count: int, seed: int = 0) -> dict[int, float]:
    """Share of ``count`` queries that have their gold among the best k, by weights learned on the other parts."""
    order = np.random.default_rng(seed).permutation(len(examples))
    ranks = np.full(len(examples), np.inf)
    for part in range(PARTS):
        held = order[part::PARTS]
        weights = fit([examples[i] for i in np.setdiff1d(order, held)])
        for i in held:
            ranks[i] = gold_ranks((examples[i].evidence @ weights)[None], examples[i].gold[None])[0]
    return {k: float((ranks <= k).sum()) / count for k in CUTS}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path, help="run or checkpoint")
    parser.add_argument("--data", help="folder of records and POI table, instead of the run's own")
    parser.add_argument("--without", action="append", metavar="NAME,NAME", help="leave these out together")
    given = parser.parse_args()
    session = open_session(given.run, {} if given.data is None else {"data.dir": given.data})
    examples, count = examples_in(session)
    others = given.without or [*EVIDENCE, ",".join(name for name in EVIDENCE if name != "dense")]
    found = {"all": recall(examples, count)}
    found |= {f"without {names}": recall(without(examples, names.split(",")), count) for names in others}
    show({name: " ".join(f"{value:.3f}" for value in own.values()) for name, own in found.items()}, given.json)


if __name__ == "__main__":
    main()
