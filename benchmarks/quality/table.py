"""The table: metrics over queries with 95% intervals, and paired differences to one of the rows.

A query's value is its mean over seeds; the mean over the queries of the folds is then that over folds and seeds.
Intervals are percentiles of a bootstrap over queries. A difference is taken query by query, over those that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.evaluation.metrics import bootstrap_interval
from quality.folds import DEV
from quality.ours import PLACELESS

Floats = NDArray[np.float64]
SEED = 2023


def reach(k: int) -> Callable[[Floats], Floats]:
    """1 where the gold is among the first k."""
    return lambda ranks: (ranks <= k).astype(np.float64)


METRICS: dict[str, tuple[str, Callable[[Floats], Floats]]] = {
    "R@1": ("ranks", reach(1)),
    "R@5": ("ranks", reach(5)),
    "R@20": ("ranks", reach(20)),
    "MRR@5": ("ranks", lambda ranks: np.where(ranks <= 5, 1.0 / ranks, 0.0)),
    "rerank R@1": ("rerank", reach(1)),
}


@dataclass
class Line:
    """One row of the table.

    Args:
        name: method and kind of score.
        labels: training queries; None: all.
        seen: by query id: its ranks by each run, as (ranks, rerank).
        runs: (fold, seed) of these.
        minutes, before, ms: of each run that has them.
        trained: training queries of each run.
    """

    name: str
    labels: int | None
    seen: dict[int, list[tuple[int, int | None]]] = field(default_factory=dict)
    runs: set[tuple[str, int]] = field(default_factory=set)
    minutes: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)

    def values(self, metric: str) -> dict[int, float]:
        """By query: the mean over its runs. Empty where the row has no such ranks."""
        which, measure = METRICS[metric]
        out = {}
        for query, pairs in self.seen.items():
            ranks = [pair[0 if which == "ranks" else 1] for pair in pairs]
            if None not in ranks:
                out[query] = float(measure(np.array(ranks, np.float64)).mean())
        return out

    def metric(self, name: str) -> tuple[float, float, float] | None:
        """Mean and 95% interval."""
        values = np.array(list(self.values(name).values()))
        return None if not len(values) else (float(values.mean()), *bootstrap_interval(values, SEED))


def gathered(lines: Sequence[dict[str, Any]], dev: bool, labels: int | None = None) -> list[Line]:
    """The rows of the folds, or of the dev set, with so many labels; in the order in which they first come.

    A row for queries without a place is left out where the places change nothing.
    """
    rows: dict[str, Line] = {}
    for line in lines:
        if (line["fold"] == DEV) != dev or line["labels"] != labels:
            continue
        for kind, found in line["rows"].items():
            name = f"{line['method']}: {kind}" if kind else line["method"]
            row = rows.setdefault(name, Line(name, labels))
            rerank = found.get("rerank") or [None] * len(line["ids"])
            for query, pair in zip(line["ids"], zip(found["ranks"], rerank, strict=True), strict=True):
                row.seen.setdefault(query, []).append(pair)
            row.runs.add((line["fold"], line["seed"]))
            row.minutes.append(line["minutes"])
            row.before.append(line["before"])
            row.trained.append(line["about"].get("train", 0))
            row.ms += [found["ms"]] if "ms" in found else []
    end = f", {PLACELESS}"
    same = {name for name, row in rows.items() if name.endswith(end) and row.seen == rows[name.removesuffix(end)].seen}
    return [row for name, row in rows.items() if name not in same]


def shown(number: float) -> str:
    """.742, 1.000, -.250."""
    text = f"{number:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def cell(found: tuple[float, float, float] | None, signed: bool = False) -> str:
    """Mean (low to high)."""
    if found is None:
        return ""
    plus = "+" if signed and found[0] >= 0 else ""
    return f"{plus}{shown(found[0])} ({shown(found[1])} to {shown(found[2])})"


def markdown(rows: Sequence[Line]) -> str:
    """The rows as a Markdown table; ``runs``: folds and seeds. "12 + 30" minutes: the 30 are those of a pretraining."""
    head = ["method", *METRICS, "minutes", "ms", "runs"]
    out = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        folds, seeds = {fold for fold, _ in row.runs}, {seed for _, seed in row.runs}
        before = f" + {np.mean(row.before):.0f}" if any(row.before) else ""
        cells = [row.name, *(cell(row.metric(name)) for name in METRICS)]
        cells += [f"{np.mean(row.minutes):.1f}{before}" if any(row.minutes) or before else ""]
        cells += [f"{np.mean(row.ms):.1f}" if row.ms else "", f"{len(folds)} × {len(seeds)}"]
        if len(row.runs) != len(folds) * len(seeds):
            cells[-1] += f" ({len(row.runs)} done)"
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def differences(rows: Sequence[Line], base: str) -> str:
    """Each row less ``base``, which is one of them, query by query, as a Markdown table."""
    known = {row.name: row for row in rows}
    head = [f"less {base}", *METRICS, "queries"]
    out = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        if row.name == base:
            continue
        found = {name: difference(row, known[base], name) for name in METRICS}
        shared = len(row.seen.keys() & known[base].seen.keys())
        out.append(f"| {' | '.join([row.name, *(cell(x, True) for x in found.values()), str(shared)])} |")
    return "\n".join(out)


def difference(row: Line, base: Line, metric: str) -> tuple[float, float, float] | None:
    """Mean of a row's values less those of another, over the queries of both, and its 95% interval."""
    own, other = row.values(metric), base.values(metric)
    paired = np.array([own[query] - other[query] for query in own if query in other])
    return None if not len(paired) else (float(paired.mean()), *bootstrap_interval(paired, SEED))
