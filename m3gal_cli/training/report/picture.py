"""progress.png: the charts of a run as one picture, by matplotlib."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from m3gal_cli.files import atomic_path
from m3gal_cli.training.report.charts import Chart, charts_of, pieces
from m3gal_cli.training.report.run_log import RunLog

COLOURS = ("#1f6fb4", "#b3460b", "#2a7d3a", "#5a6470")
DASHES = ("solid", "dashed", "dashdot", "solid")
COLUMNS, WIDE, HIGH = 3, 4.6, 3.1  # inches a chart
LEFT, RIGHT, ABOVE, BELOW, HEAD = 0.75, 0.2, 0.6, 0.55, 0.4  # inches around a chart's axes, and above them all
MARKED, MANY = 40, 200  # up to so many points each is marked; from so many on the line is thin


def write_picture(run_log: RunLog, path: Path) -> None:
    """Draw and write the picture, atomically. matplotlib is asked only here: it takes half a second to come."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its word on caches and fonts is none of a training's
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    charts = charts_of(run_log)
    columns = min(max(len(charts), 1), COLUMNS)
    rows = max(-(-len(charts) // columns), 1)
    wide, high = WIDE * columns, HIGH * rows + HEAD
    figure = Figure(figsize=(wide, high), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    figure.text(0.15 / wide, 1 - 0.1 / high, _title(run_log), va="top", fontsize=12, parse_math=False)
    for i, chart in enumerate(charts):
        left, top = WIDE * (i % columns) + LEFT, high - HEAD - HIGH * (i // columns) - ABOVE
        size = ((WIDE - LEFT - RIGHT) / wide, (HIGH - ABOVE - BELOW) / high)
        axes = figure.add_axes((left / wide, top / high - size[1], *size))  # a layout engine would draw all thrice
        _draw(axes, chart, run_log)
    if not charts:
        figure.text(0.5, 0.4, "nothing is logged yet", ha="center", color="#555d66")
    with warnings.catch_warnings(), atomic_path(path) as temporary:
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is drawn as boxes
        canvas.print_png(str(temporary))


def _title(run_log: RunLog) -> str:
    name = "".join(c if c.isprintable() else " " for c in run_log.name)
    name = name if len(name) <= 60 else f"{name[:59]}…"
    words = [f"{name}: step {run_log.last_step:,}"]
    words += ["dotted: best validation"] if run_log.best is not None else []
    words += ["triangles: warnings"] if run_log.warnings else []
    return ";  ".join(words)


def _draw(axes: Any, chart: Chart, run_log: RunLog) -> None:
    from matplotlib.ticker import MaxNLocator

    for series in chart.series:
        colour, label = COLOURS[series.slot], series.name
        marker = "o" if len(series.points) <= MARKED else ""
        for piece in pieces(series.points):
            alone = "o" if len(piece) == 1 else marker
            xs, ys = zip(*piece, strict=True)
            style = {"color": colour, "linestyle": DASHES[series.slot], "marker": alone, "markersize": 3}
            axes.plot(xs, ys, linewidth=0.8 if len(series.points) >= MANY else 1.4, label=label, **style)
            label = "_nolegend_"
    best = run_log.best
    if best is not None:
        axes.axvline(best["step"], color="#8a929b", linewidth=1, linestyle="dotted")
    if run_log.warnings:
        places = [row["step"] for row in run_log.warnings]
        look = {"marker": "^", "markersize": 7, "color": "#b3261e", "linestyle": "", "clip_on": False}
        axes.plot(places, [0.0] * len(places), transform=axes.get_xaxis_transform(), **look)
    legend = len(chart.series) > 1
    axes.set_title(chart.title, loc="left", fontsize=10, pad=22 if legend else 8)
    if legend:
        look = {"frameon": False, "fontsize": 9, "borderaxespad": 0.2, "handlelength": 3}
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, **look)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(color="#d8dbdf", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
