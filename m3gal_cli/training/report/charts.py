"""The curves of a run as numbers. The HTML page and the PNG picture draw the same charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from m3gal_cli.training.report.run_log import Row, RunLog, metric, number

MAX_POINTS = 1000  # per curve; a longer curve is drawn as means of equally many logged lines
Point = tuple[float, float | None]  # step and value; None interrupts the curve


@dataclass(frozen=True)
class Series:
    """A curve."""

    name: str
    slot: int  # number of the colour and dash pattern; each score has the same one in every chart
    points: Sequence[Point]
    lines: int = 1  # number of logged lines whose mean a point is


@dataclass(frozen=True)
class Chart:
    """Curves over the steps, with a common axis of values."""

    title: str
    series: Sequence[Series]


SCORES = ("text", "location", "fused")
RERANKED = "reranked"
# title; name, slot and metrics.jsonl key of each curve
STEP_CHARTS = (
    ("Loss", tuple((score, slot, f"{score}_loss") for slot, score in enumerate(SCORES))),
    ("Accuracy: positive above all negatives", (("accuracy", 2, "queue_accuracy"),)),
    ("Learning rate", (("text", 0, "lr"), ("location", 1, "location_lr"))),
    ("Rows per second", (("rows", 3, "samples_per_second"),)),
    ("Tokens per second", (("tokens", 3, "tokens_per_second"),)),
    ("Gradient norm", (("gradient", 3, "grad_norm"),)),
    ("Collapse monitor", (("spread", 0, "spread"), ("alignment", 1, "alignment"), ("uniformity", 2, "uniformity"))),
    ("Age of the oldest queue key, steps", (("age", 3, "queue_age"),)),
    ("Peak memory, MB", (("memory", 3, "device_memory_mb"),)),
)
VALIDATION_METRICS = ("recall@1", "recall@5", "mrr@5")
VALIDATION_POSITION = 2  # number of step charts above the validation charts


def charts_of(run_log: RunLog) -> list[Chart]:
    """Return the charts that have at least one value, in the order of the page."""
    rows = run_log.steps
    charts = [
        Chart(title, [_curve(rows, name, slot, [number(row.get(key)) for row in rows]) for name, slot, key in curves])
        for title, curves in STEP_CHARTS
    ]
    charts[VALIDATION_POSITION:VALIDATION_POSITION] = [_validation_chart(run_log, name) for name in VALIDATION_METRICS]
    kept = [Chart(c.title, [s for s in c.series if any(y is not None for _, y in s.points)]) for c in charts]
    return [chart for chart in kept if chart.series]


def _validation_chart(run_log: RunLog, name: str) -> Chart:
    """Return a chart of one metric by all scores; the reranked score is known for the best checkpoint only."""
    sources = [(score, run_log.validations) for score in SCORES]
    sources.append((RERANKED, [] if run_log.reranker is None else [run_log.reranker]))
    series = [
        _curve(rows, score, slot, [metric(row, score, name) for row in rows])
        for slot, (score, rows) in enumerate(sources)
    ]
    return Chart(f"Validation, {name}", series)


def _curve(rows: Sequence[Row], name: str, slot: int, values: Sequence[float | None]) -> Series:
    points = [(float(row["step"]), value) for row, value in zip(rows, values, strict=True)]
    size = -(-len(points) // MAX_POINTS)
    return Series(name, slot, thin(points, size), max(size, 1))


def thin(points: Sequence[Point], size: int) -> list[Point]:
    """Return the mean of the known values of every ``size`` consecutive points; None if all are missing."""
    if size <= 1:
        return list(points)
    out: list[Point] = []
    for i in range(0, len(points), size):
        known = [(x, y) for x, y in points[i : i + size] if y is not None]
        x_mean = sum(x for x, _ in known) / len(known) if known else points[i][0]
        out.append((x_mean, sum(y for _, y in known) / len(known) if known else None))
    return out


def split_at_gaps(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Return the parts of a curve between missing values."""
    out: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            out.append([])
        else:
            out[-1].append((x, y))
    return [part for part in out if part]
