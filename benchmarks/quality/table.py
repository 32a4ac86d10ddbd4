"""Result table: metrics over queries with 95% intervals, and paired differences to one of the rows.

The value of a query is its mean over seeds, so the mean over the queries of all folds is the mean over folds and seeds.
Intervals are percentiles of a bootstrap over queries. Differences are paired, over the queries that both rows have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.metrics import bootstrap_interval
from m3gal_cli.files import atomic_text, require_file
from quality.folds import DEV
from quality.m3gal_methods import NO_LOCATION

Floats = NDArray[np.float64]
Interval = tuple[float, float, float]  # mean, lower and upper end
SEED = 2023


def hits_at(k: int) -> Callable[[Floats], Floats]:
    """Return a function that maps ranks to 1 if the gold is among the first k, else 0."""
    return lambda ranks: (ranks <= k).astype(np.float64)


METRICS: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "R@1": ("ranks", hits_at(1)),
    "R@5": ("ranks", hits_at(5)),
    "R@20": ("ranks", hits_at(20)),
    "MRR@5": ("ranks", lambda ranks: np.where(ranks <= 5, 1.0 / ranks, 0.0)),
    "rerank R@1": ("rerank", hits_at(1)),
}


@dataclass
class TableRow:
    """One row of the table.

    Attributes:
        name: Method and kind of score.
        labels: Number of training queries; None: all.
        ranks: By query id, (rank in the table, rank among the candidates) of each run.
        runs: (fold, seed) of each run.
        minutes: Minutes of finetuning of each run.
        before: Minutes of pretraining of each run.
        ms: Milliseconds per query of each timed run.
        trained: Number of training queries of each run.
    """

    name: str
    labels: int | None
    ranks: dict[int, list[tuple[int, int | None]]] = field(default_factory=dict)
    runs: set[tuple[str, int]] = field(default_factory=set)
    minutes: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)

    def values(self, metric: str) -> dict[int, float]:
        """Return the mean over runs by query id; {} if the row has no such ranks."""
        source, measure = METRICS[metric]
        values = {}
        for query, pairs in self.ranks.items():
            ranks = [pair[0 if source == "ranks" else 1] for pair in pairs]
            if None not in ranks:
                values[query] = float(measure(np.array(ranks, np.float64)).mean())
        return values

    def metric(self, name: str) -> Interval | None:
        """Return the mean over queries and its 95% interval; None if the row has no such ranks."""
        return _mean_with_interval(list(self.values(name).values()))


def _mean_with_interval(values: Sequence[float]) -> Interval | None:
    array = np.array(values)
    return (float(array.mean()), *bootstrap_interval(array, SEED)) if len(array) else None


def collect_rows(lines: Sequence[dict[str, Any]], dev: bool, labels: int | None = None) -> list[TableRow]:
    """Return the rows of the folds, or of the dev set, with this number of labels, in the order of the lines.

    A row without query locations is omitted if the locations change nothing.
    """
    rows: dict[str, TableRow] = {}
    for line in lines:
        if (line["fold"] == DEV) != dev or line["labels"] != labels:
            continue
        for kind, result in line["rows"].items():
            name = f"{line['method']}: {kind}" if kind else line["method"]
            row = rows.setdefault(name, TableRow(name, labels))
            rerank = result.get("rerank") or [None] * len(line["ids"])
            for query, pair in zip(line["ids"], zip(result["ranks"], rerank, strict=True), strict=True):
                row.ranks.setdefault(query, []).append(pair)
            row.runs.add((line["fold"], line["seed"]))
            row.minutes.append(line["minutes"])
            row.before.append(line["before"])
            row.trained.append(line["about"].get("train", 0))
            row.ms += [result["ms"]] if "ms" in result else []
    end = f", {NO_LOCATION}"
    same = {
        name for name, row in rows.items() if name.endswith(end) and row.ranks == rows[name.removesuffix(end)].ranks
    }
    return [row for name, row in rows.items() if name not in same]


def format_number(number: float) -> str:
    """Return a number with three decimals and without a leading zero: .742, 1.000, -.250."""
    text = f"{number:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def format_interval(interval: Interval | None, signed: bool = False) -> str:
    """Return "mean (low to high)"; "" for None."""
    if interval is None:
        return ""
    mean, low, high = interval
    return f"{'+' if signed and mean >= 0 else ''}{format_number(mean)} ({format_number(low)} to {format_number(high)})"


def markdown_table(rows: Sequence[TableRow]) -> str:
    """Return the rows as Markdown. "12 + 30" minutes: 12 of finetuning, 30 of pretraining; runs: folds × seeds."""
    lines = header(["method", *METRICS, "minutes", "ms", "runs"])
    for row in rows:
        folds, seeds = {fold for fold, _ in row.runs}, {seed for _, seed in row.runs}
        before = f" + {np.mean(row.before):.0f}" if any(row.before) else ""
        cells = [row.name, *(format_interval(row.metric(name)) for name in METRICS)]
        cells += [f"{np.mean(row.minutes):.1f}{before}" if any(row.minutes) or before else ""]
        cells += [f"{np.mean(row.ms):.1f}" if row.ms else "", f"{len(folds)} × {len(seeds)}"]
        if len(row.runs) != len(folds) * len(seeds):
            cells[-1] += f" ({len(row.runs)} done)"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def markdown_differences(rows: Sequence[TableRow], base: str) -> str:
    """Return the paired differences of all other rows to the row ``base`` as Markdown."""
    reference = next(row for row in rows if row.name == base)
    lines = header([f"minus {base}", *METRICS, "queries"])
    for row in rows:
        if row.name == base:
            continue
        cells = [format_interval(paired_difference(row, reference, name), signed=True) for name in METRICS]
        shared = len(row.ranks.keys() & reference.ranks.keys())
        lines.append(f"| {' | '.join([row.name, *cells, str(shared)])} |")
    return "\n".join(lines)


def header(names: Sequence[str]) -> list[str]:
    """Return the two head lines of a Markdown table."""
    return [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]


def paired_difference(row: TableRow, base: TableRow, metric: str) -> Interval | None:
    """Return the mean difference over the queries of both rows and its 95% interval."""
    own, other = row.values(metric), base.values(metric)
    return _mean_with_interval([own[query] - other[query] for query in own if query in other])


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace the text between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` in a page, atomically.

    Raises:
        InputError: The page is missing, or has no such marks.
    """
    page = require_file(path, "page").read_text(encoding="utf-8")
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if start not in page or end not in page:
        raise InputError(f"the page has no marks {start} and {end}", where=path, hint="Add both, each on its own line.")
    before, rest = page.split(start, 1)
    with atomic_text(path) as file:
        file.write(f"{before}{start}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
