"""Draw progress.png: the charts of a run in one picture."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from m3gal_cli.files import atomic_path
from m3gal_cli.training.report.charts import Chart, charts_of, split_at_gaps
from m3gal_cli.training.report.run_log import RunLog

COLOURS = ("#1f6fb4", "#b3460b", "#2a7d3a", "#5a6470")
DASHES = ("solid", "dashed", "dashdot", "solid")
COLUMNS = 3
WIDTH, HEIGHT = 4.6, 3.1  # of a chart, inches
LEFT, RIGHT, TOP, BOTTOM, TITLE = 0.75, 0.2, 0.6, 0.55, 0.4  # margins of a chart and height of the title, inches
MARKER_LIMIT = 40  # longer curves have no point markers
THIN_FROM = 200  # curves with this many points have a thin line


def write_picture(run_log: RunLog, path: Path) -> None:
    """Draw and write the picture, atomically. matplotlib is imported here because that takes half a second."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # hide its messages about caches and fonts
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    charts = charts_of(run_log)
    columns = min(max(len(charts), 1), COLUMNS)
    rows = max(-(-len(charts) // columns), 1)
    width, height = WIDTH * columns, HEIGHT * rows + TITLE
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.15 / width, 1 - 0.1 / height, _title(run_log), va="top", fontsize=12, parse_math=False)
    for i, chart in enumerate(charts):
        left, top = WIDTH * (i % columns) + LEFT, height - TITLE - HEIGHT * (i // columns) - TOP
        size = ((WIDTH - LEFT - RIGHT) / width, (HEIGHT - TOP - BOTTOM) / height)
        axes = figure.add_axes((left / width, top / height - size[1], *size))  # a layout engine draws three times
        _draw(axes, chart, run_log)
    if not charts:
        figure.text(0.5, 0.4, "no step is logged yet", ha="center", color="#555d66")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore")  # about characters that the font lacks
        canvas.print_png(str(temporary))


def _title(run_log: RunLog) -> str:
    name = "".join(c if c.isprintable() else " " for c in run_log.name)
    name = name if len(name) <= 60 else f"{name[:59]}…"
    parts = [f"{name}: step {run_log.last_step:,}"]
    parts += ["dotted: best validation"] if run_log.best is not None else []
    parts += ["triangles: warnings"] if run_log.warnings else []
    return ";  ".join(parts)


def _draw(axes: Any, chart: Chart, run_log: RunLog) -> None:
    from matplotlib.ticker import MaxNLocator

    for series in chart.series:
        colour, label = COLOURS[series.slot], series.name
        marker = "o" if len(series.points) <= MARKER_LIMIT else ""
        for part in split_at_gaps(series.points):
            xs, ys = zip(*part, strict=True)
            style = {"color": colour, "linestyle": DASHES[series.slot], "markersize": 3}
            style["marker"] = "o" if len(part) == 1 else marker
            axes.plot(xs, ys, linewidth=0.8 if len(series.points) >= THIN_FROM else 1.4, label=label, **style)
            label = "_nolegend_"
    best = run_log.best
    if best is not None:
        axes.axvline(best["step"], color="#8a929b", linewidth=1, linestyle="dotted")
    if run_log.warnings:
        steps = [row["step"] for row in run_log.warnings]
        style = {"marker": "^", "markersize": 7, "color": "#b3261e", "linestyle": "", "clip_on": False}
        axes.plot(steps, [0.0] * len(steps), transform=axes.get_xaxis_transform(), **style)
    legend = len(chart.series) > 1
    axes.set_title(chart.title, loc="left", fontsize=10, pad=22 if legend else 8)
    if legend:
        style = {"frameon": False, "fontsize": 9, "borderaxespad": 0.2, "handlelength": 2, "columnspacing": 1}
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, **style)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color="#d8dbdf", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
