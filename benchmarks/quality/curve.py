"""The label curve as a picture: what methods reach with how many labelled queries."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path
from quality.table import METRICS, gathered

KINDS = {"text": "dotted", "fused": "dashed", "reranked": "solid"}
COLOURS = ("#1f6fb4", "#b3460b", "#2a7d3a", "#5a6470")
PANELS = ("R@1", "R@5")
WIDE, HIGH = 5.0, 3.6  # inches a panel


@dataclass(frozen=True)
class Curve:
    """A row at several numbers of labels.

    Args:
        points: labels, and by metric the mean and its interval.
    """

    method: str
    kind: str
    points: list[tuple[int, dict[str, tuple[float, float, float]]]]


def curves_of(lines: Sequence[dict[str, Any]], dev: bool = False) -> list[Curve]:
    """The rows of methods that were run with more than one number of labels."""
    points: dict[tuple[str, str], list[tuple[int, dict[str, tuple[float, float, float]]]]] = {}
    for labels in dict.fromkeys(line["labels"] for line in lines):
        for row in gathered(lines, dev, labels):
            method, _, kind = row.name.partition(": ")
            if kind in KINDS:
                count = round(float(np.mean(row.trained))) if labels is None else labels
                found = {name: row.metric(name) for name in METRICS}
                kept = {name: value for name, value in found.items() if value is not None}
                points.setdefault((method, kind), []).append((count, kept))
    return [Curve(*key, sorted(own, key=lambda p: p[0])) for key, own in points.items() if len(own) > 1]


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write the picture, atomically. Raises InputError where there is nothing to draw."""
    if not curves:
        raise InputError("no method was run with more than one number of labels", hint="Run --queries 0 50 200 all.")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = sorted({count for curve in curves for count, _ in curve.points})
    methods = list(dict.fromkeys(curve.method for curve in curves))
    figure = Figure(figsize=(WIDE * len(PANELS), HIGH), dpi=120, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, metric in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for curve in curves:
            at = [counts.index(count) for count, _ in curve.points]
            mean, low, high = np.array([values[metric] for _, values in curve.points]).T
            colour = COLOURS[methods.index(curve.method) % len(COLOURS)]
            style = {"color": colour, "linestyle": KINDS[curve.kind], "marker": "o", "markersize": 3}
            axes.plot(at, mean, label=f"{curve.method}: {curve.kind}", **style)
            axes.fill_between(at, low, high, color=colour, alpha=0.08, linewidth=0)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_title(metric, loc="left", fontsize=10)
        axes.set_xlabel("labelled queries trained on", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="#d8dbdf", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    with atomic_path(path) as temporary:
        canvas.print_png(str(temporary))
