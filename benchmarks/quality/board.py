"""The board: recall of m3gal on all sets, beside the values that it has to reach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quality.sets import ADDRESS_PAIRS, GEOTES, HELSINKI_VIEWS, NAME_PAIRS, PERTURBED_NAMES
from quality.table import format_number, header

TFIDF, BM25, PACKAGED, FINETUNED = "TF-IDF", "BM25", "packaged", "finetuned"
COLUMNS = (TFIDF, BM25, PACKAGED, FINETUNED)
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Bar:
    """The value that a metric has to reach: the largest of some columns, plus ``value``.

    Attributes:
        value: Difference to the columns; without columns, the bar itself.
        columns: Columns of the same set and metric.
        above: Whether the metric has to be greater, not only as great.
    """

    value: float
    columns: tuple[str, ...] = ()
    above: bool = False

    def threshold(self, cells: Mapping[str, float]) -> float | None:
        """Return the value to reach; None while a column is missing."""
        if any(column not in cells for column in self.columns):
            return None
        return max((cells[column] for column in self.columns), default=0.0) + self.value

    def is_met(self, value: float, threshold: float) -> bool:
        """Return whether a value reaches the threshold; both are rounded to three decimals, as in the table."""
        value, threshold = round(value, 3), round(threshold, 3)
        return value > threshold if self.above else value >= threshold


@dataclass(frozen=True)
class BoardRow:
    """A metric of a set, with the bars of the packaged and the finetuned model."""

    set: str
    metric: str
    packaged: Bar
    finetuned: Bar


KEPT = Bar(-0.01, (PACKAGED,))  # finetuning on GeoTES forgets little
NAME_BARS = dict(zip(PERTURBED_NAMES, (0.98, 0.93, 0.87, 0.75, 0.95), strict=True))
ROWS = [
    BoardRow(GEOTES, "recall@1", Bar(0.78), Bar(0.84)),
    BoardRow(GEOTES, "recall@5", Bar(0.94), Bar(0.96)),
    BoardRow(GEOTES, "recall@20", Bar(0.98), Bar(0.985)),
    *(BoardRow(name, "recall@1", Bar(0.04, (TFIDF,)), KEPT) for name in NAME_PAIRS),
    BoardRow(ADDRESS_PAIRS, "mrr@5", Bar(0.0, (TFIDF, BM25), above=True), Bar(0.0, (PACKAGED,), above=True)),
    BoardRow(HELSINKI_VIEWS, "recall@1", Bar(0.93), KEPT),
    *(BoardRow(f"helsinki {kind}", "recall@1", Bar(bar), KEPT) for kind, bar in NAME_BARS.items()),
]
# Metrics of confidence and time: (name, key, bar, whether a smaller value is better).
CONFIDENCE = [
    ("ECE", "ece", 0.03, True),
    ("ROC AUC", "auc", 0.95, False),
    ("answered at 95% precision", "answered", 0.85, False),
    ("ms", "ms", 15.0, True),
]


def board_cells(lines: Iterable[Line], key: str) -> dict[tuple[str, str], list[float]]:
    """Return the values of a metric by column and set: one per seed, the mean over folds weighted by their queries.

    Args:
        lines: Stored measurements, oldest first; the newest of each column, set, fold and seed counts. Those of another
            model or other settings than the newest of their column are left out.
        key: Name of the metric.
    """
    lines = list(lines)
    current = {line["column"]: line["identity"] for line in lines}
    newest = {
        (line["column"], line["set"], line["fold"], line["seed"]): line
        for line in lines
        if line["identity"] == current[line["column"]]
    }
    parts: dict[tuple[str, str], dict[int, list[tuple[float, int]]]] = {}
    for (column, name, _, seed), line in newest.items():
        if key in line:
            parts.setdefault((column, name), {}).setdefault(seed, []).append((line[key], line["queries"]))
    return {cell: [_weighted_mean(folds) for folds in seeds.values()] for cell, seeds in parts.items()}


def _weighted_mean(parts: Sequence[tuple[float, int]]) -> float:
    """Return the mean of values with their weights."""
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)


def markdown_board(lines: Sequence[Line]) -> str:
    """Return the table of all rows, and that of confidence and time."""
    return f"{_recall_table(lines)}\n\n{_confidence_table(lines)}"


def _recall_table(lines: Sequence[Line]) -> str:
    out = header(["set", "metric", TFIDF, BM25, "packaged model, no label", "bar", "finetuned on GeoTES", "bar"])
    for row in ROWS:
        own = {column: values for (column, name), values in board_cells(lines, row.metric).items() if name == row.set}
        means = {column: float(np.mean(values)) for column, values in own.items()}
        cells = [row.set, row.metric, *(_number(own.get(column)) for column in (TFIDF, BM25))]
        for column, bar in ((PACKAGED, row.packaged), (FINETUNED, row.finetuned)):
            threshold = bar.threshold(means)
            met = None if threshold is None or column not in means else bar.is_met(means[column], threshold)
            cells += [_number(own.get(column), met), _bar(threshold, ">" if bar.above else "≥")]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def _confidence_table(lines: Sequence[Line]) -> str:
    names = [f"{title} ({'≤' if less else '≥'} {bar:g})" for title, _, bar, less in CONFIDENCE]
    out = header(["set", *(f"{column}: {name}" for column in (PACKAGED, FINETUNED) for name in names)])
    cells = {key: board_cells(lines, key) for _, key, _, _ in CONFIDENCE}
    for name in dict.fromkeys(row.set for row in ROWS if row.set != ADDRESS_PAIRS):
        values = [name]
        for column in (PACKAGED, FINETUNED):
            for _, key, bar, less in CONFIDENCE:
                own = cells[key].get((column, name))
                decimals = 1 if key == "ms" else 3
                mean = None if own is None else round(float(np.mean(own)), decimals)
                met = None if mean is None else (mean <= bar if less else mean >= bar)
                values.append(_number(own, met, decimals))
        out.append(f"| {' | '.join(values)} |")
    return "\n".join(out)


def _number(values: Sequence[float] | None, met: bool | None = None, decimals: int = 3) -> str:
    """Return the mean of values, their range if there are several, and a mark: bold if met, "missed" if not."""
    if values is None:
        return ""
    text = [format_number(value) if decimals == 3 else f"{value:.{decimals}f}" for value in values]
    mean = format_number(float(np.mean(values))) if decimals == 3 else f"{np.mean(values):.{decimals}f}"
    mean = f"**{mean}**" if met else mean
    mean += f" ({min(text)} to {max(text)})" if len(values) > 1 else ""
    return mean + (" missed" if met is False else "")


def _bar(threshold: float | None, sign: str) -> str:
    return "" if threshold is None else f"{sign} {format_number(threshold)}"
