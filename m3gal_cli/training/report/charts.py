"""Which curves a run has, as plain numbers: page and picture draw the same ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from m3gal_cli.training.report.run_log import Row, RunLog, metric, number

MOST_POINTS = 1000  # a curve; of more, each point is the mean of equally many lines
Point = tuple[float, float | None]  # step and value; None is a gap


@dataclass(frozen=True)
class Series:
    """A curve. ``slot`` chooses its colour and dashes, the same for the same thing in every chart."""

    name: str
    slot: int
    points: Sequence[Point]
    lines: int = 1  # of metrics.jsonl that a point is the mean of


@dataclass(frozen=True)
class Chart:
    """Curves over the steps that share an axis."""

    title: str
    series: Sequence[Series]


KINDS = ("text", "location", "fused")  # of scores; each training has some of them
# title, then name, slot and key of each curve
OF_STEPS = (
    ("Loss", tuple((kind, slot, f"{kind}_loss") for slot, kind in enumerate(KINDS))),
    ("Rows whose positive beats all negatives", (("accuracy", 2, "queue_accuracy"),)),
    ("Learning rate", (("text", 0, "lr"), ("location", 1, "location_lr"))),
    ("Rows a second", (("rows", 3, "samples_per_second"),)),
    ("Tokens a second", (("tokens", 3, "tokens_per_second"),)),
    ("Norm of the gradient", (("gradient", 3, "grad_norm"),)),
    ("Collapse monitor", (("spread", 0, "spread"), ("alignment", 1, "alignment"), ("uniformity", 2, "uniformity"))),
    ("Age of the oldest key in the queue, steps", (("age", 3, "queue_age"),)),
    ("Memory of the device, MB", (("memory", 3, "device_memory_mb"),)),
)
OF_VALIDATIONS = ("recall@1", "recall@5", "mrr@5")
BEFORE_VALIDATIONS = 2  # charts of steps that stand before those of validations


def charts_of(run_log: RunLog) -> list[Chart]:
    """The charts that have something to show, in the order of the page."""
    found = [Chart(title, _curves(run_log.steps, curves)) for title, curves in OF_STEPS]
    rows = run_log.validations
    scores = [
        Chart(f"Validation, {name}", [_curve(rows, kind, i, _metric_of(kind, name)) for i, kind in enumerate(KINDS)])
        for name in OF_VALIDATIONS
    ]
    found[BEFORE_VALIDATIONS:BEFORE_VALIDATIONS] = scores
    kept = [Chart(c.title, [s for s in c.series if any(y is not None for _, y in s.points)]) for c in found]
    return [chart for chart in kept if chart.series]


def _value_of(key: str) -> Callable[[Row], float | None]:
    return lambda row: number(row.get(key))


def _curves(rows: Sequence[Row], curves: Sequence[tuple[str, int, str]]) -> list[Series]:
    return [_curve(rows, name, slot, _value_of(key)) for name, slot, key in curves]


def _metric_of(kind: str, name: str) -> Callable[[Row], float | None]:
    return lambda row: metric(row, kind, name)


def _curve(rows: Sequence[Row], name: str, slot: int, value: Callable[[Row], float | None]) -> Series:
    points = [(float(row["step"]), value(row)) for row in rows]
    size = -(-len(points) // MOST_POINTS)
    return Series(name, slot, thinned(points, size), max(size, 1))


def thinned(points: Sequence[Point], size: int) -> list[Point]:
    """Means of so many points each; a gap stays one only where nothing else is."""
    if size <= 1:
        return list(points)
    out: list[Point] = []
    for i in range(0, len(points), size):
        part = points[i : i + size]
        known = [(x, y) for x, y in part if y is not None]
        if known:
            out.append((sum(x for x, _ in known) / len(known), sum(y for _, y in known) / len(known)))
        else:
            out.append((part[0][0], None))
    return out


def pieces(points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """A curve cut at its gaps."""
    out: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None:
            out.append([])
        else:
            out[-1].append((x, y))
    return [piece for piece in out if piece]
