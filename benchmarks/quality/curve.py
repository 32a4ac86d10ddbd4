"""Plot of the label curve: metrics of methods by the number of labelled training queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path
from quality.table import Interval, collect_rows

LINE_STYLES = {"text": "dotted", "fused": "dashed", "reranked": "solid"}  # by kind of score
COLOURS = ("#1f6fb4", "#b3460b", "#2a7d3a", "#5a6470")
PANELS = ("R@1", "R@5")
PANEL_INCHES = (5.0, 3.6)


@dataclass(frozen=True)
class Curve:
    """A table row at several numbers of labels; ``points`` are (labels, interval by metric)."""

    method: str
    kind: str
    points: list[tuple[int, dict[str, Interval]]]


def label_curves(lines: Sequence[dict[str, Any]], dev: bool = False) -> list[Curve]:
    """Return the curves of methods that ran with more than one number of labels."""
    points: dict[tuple[str, str], list[tuple[int, dict[str, Interval]]]] = {}
    for labels in dict.fromkeys(line["labels"] for line in lines):
        for row in collect_rows(lines, dev, labels):
            method, _, kind = row.name.partition(": ")
            if kind in LINE_STYLES:
                count = round(float(np.mean(row.trained))) if labels is None else labels
                values = {name: value for name in PANELS if (value := row.metric(name)) is not None}
                points.setdefault((method, kind), []).append((count, values))
    return [Curve(*key, sorted(own, key=lambda point: point[0])) for key, own in points.items() if len(own) > 1]


def draw_curves(curves: Sequence[Curve], path: Path) -> None:
    """Write the plot as PNG, atomically. Raises InputError without curves."""
    if not curves:
        hint = "Run --queries 0 50 200 all."
        raise InputError("no method ran with more than one number of labels", where="--curve", hint=hint)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = sorted({count for curve in curves for count, _ in curve.points})
    methods = list(dict.fromkeys(curve.method for curve in curves))
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width * len(PANELS), height), dpi=120, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for curve in curves:
            x = [counts.index(count) for count, _ in curve.points]
            mean, low, high = np.array([values[metric] for _, values in curve.points]).T
            colour = COLOURS[methods.index(curve.method) % len(COLOURS)]
            style = {"color": colour, "linestyle": LINE_STYLES[curve.kind], "marker": "o", "markersize": 3}
            axes.plot(x, mean, label=f"{curve.method}: {curve.kind}", **style)
            axes.fill_between(x, low, high, color=colour, alpha=0.08, linewidth=0)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_title(metric, loc="left", fontsize=10)
        axes.set_xlabel("labelled training queries", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#d8dbdf", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        canvas.print_png(str(temporary))
