"""Measure the sparse search over a large POI table, on one core.

    python benchmarks/sparse.py [--pois FILE] [--count 1000000] [--json]

The addresses are recombined from a POI table (default: the sample city): the name of one POI with the rest of another.
Values:
    build_s                        seconds to compute terms and postings
    ngrams                         n-grams per address
    name_ms, name_p95_ms           milliseconds of one query: a name with two letters swapped
    address_ms, address_p95_ms     milliseconds of one query: a whole address
    name_overlap, address_overlap  share of the exact best 300 that the search finds
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from command_line import create_parser, print_values

from m3gal_cli.data.sample import copy_sample
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidates import DEPTHS
from m3gal_cli.poi_source import read_pois

QUERIES = 50


def recombined(addresses: Sequence[str], count: int) -> list[str]:
    """Return addresses with the name of one and the rest of another, at random."""
    names, rests = zip(*(address.partition(",")[::2] for address in addresses), strict=True)
    one, other = np.random.default_rng(0).integers(0, len(addresses), (2, count)).tolist()
    return [f"{names[i]},{rests[j]}" for i, j in zip(one, other, strict=True)]


def swapped(text: str) -> str:
    """Return a text with two letters in its middle swapped."""
    middle = len(text) // 2
    return text[: middle - 1] + text[middle : middle + 1] + text[middle - 1 : middle] + text[middle + 1 :]


def measure(addresses: list[str]) -> dict[str, float]:
    """Measure the search over addresses."""
    started, nowhere = time.perf_counter(), np.zeros(len(addresses))
    table = SparseTable.of(addresses, nowhere, nowhere)
    searcher = table.searcher
    values = {"build_s": time.perf_counter() - started, "ngrams": float(table.terms.ngrams.counts.mean())}
    exact = SparseSearcher([table], table.frequencies, max_postings=10**12, min_rescored=len(addresses))
    rows = np.random.default_rng(1).integers(0, len(addresses), QUERIES).tolist()
    kinds = {"name": [swapped(addresses[i].partition(",")[0]) for i in rows], "address": [addresses[i] for i in rows]}
    searcher.search([addresses[0]], 1)
    for kind, queries in kinds.items():
        times, overlaps = [], []
        for query in queries:
            started = time.perf_counter()
            found = searcher.search([query], DEPTHS.sparse).rows[0]
            times.append(1000.0 * (time.perf_counter() - started))
            best = exact.search([query], DEPTHS.sparse).rows[0]
            overlaps.append(len(np.intersect1d(found, best[best >= 0])) / max(int((best >= 0).sum()), 1))
        values[f"{kind}_ms"], values[f"{kind}_p95_ms"] = np.quantile(times, [0.5, 0.95]).tolist()
        values[f"{kind}_overlap"] = float(np.mean(overlaps))
    return {name: round(value, 4) for name, value in values.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--pois", type=Path, help="POI table (default: the sample city)")
    parser.add_argument("--count", type=int, default=1_000_000, help="number of addresses (default: 1000000)")
    given = parser.parse_args(words)
    with TemporaryDirectory() as folder:
        pois = read_pois(given.pois or copy_sample(Path(folder)))
    print_values(measure(recombined(pois["address"].tolist(), given.count)), given.json)


if __name__ == "__main__":
    main()
