"""Draw a chart as SVG. The style sheet of the page sets its colours, light or dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from m3gal_cli.training.report.charts import Chart, Series, split_at_gaps
from m3gal_cli.training.report.run_log import Row

WIDTH, HEIGHT = 420, 230  # close to the displayed size, so that texts are neither scaled up nor down
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 38
MARKER_LIMIT = 60  # longer curves have no point markers (and no tooltips)
THIN_FROM = 200  # curves with this many points have a thin line


class Axis:
    """A linear axis that contains ``values``, from position ``start`` to ``end`` of the drawing, with round ticks."""

    def __init__(self, values: Sequence[float], start: float, end: float, whole: bool = False) -> None:
        low, high = min(values), max(values)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            margin = max(abs(low) * 0.1, 1.0 if whole else 1e-3 if low else 1.0)
            low, high = low - margin, high + margin
        elif not whole:
            low, high = low - 0.04 * (high - low), high + 0.04 * (high - low)
        if min(values) >= 0:
            low = max(low, 0.0)
        self.low, self.high, self.start, self.end = low, high, start, end
        self.step = _round_step((high - low) / 5, whole)
        first, last = math.ceil(low / self.step - 1e-9), math.floor(high / self.step + 1e-9)
        self.ticks = [i * self.step for i in range(first, last + 1)]

    def __call__(self, value: float) -> float:
        """Return the position of a value in the drawing."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def label(self, tick: float) -> str:
        """Return the label of a tick, with enough digits to differ from the next tick."""
        if self.step < 1e-4 or abs(self.high) >= 1e7:
            return f"{tick:.3g}" if tick else "0"
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        if round(self.step * 10**digits, 6) % 1:
            digits += 1
        return f"{tick:,.{digits}f}"


def _round_step(minimum: float, whole: bool) -> float:
    power = 10.0 ** math.floor(math.log10(minimum))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= minimum * (1 - 1e-9))
    return max(math.ceil(step), 1) if whole else step


def draw(chart: Chart, best: int | None, warnings: Sequence[Row]) -> str:
    """Return the chart as one svg element; ``best`` is the step of the best validation."""
    known = [(x, y) for s in chart.series for x, y in s.points if y is not None]
    steps = [x for x, _ in known] + [float(row["step"]) for row in warnings] + ([] if best is None else [float(best)])
    x = Axis(steps, LEFT, WIDTH - RIGHT, whole=True)
    y = Axis([v for _, v in known], HEIGHT - BOTTOM, TOP)
    label = f"{chart.title}: {', '.join(s.name for s in chart.series)} by step"
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label)}">']
    for tick in y.ticks:
        at = f"{y(tick):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT} {at}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at}" dy="4" text-anchor="end">{y.label(tick)}</text>')
    for tick in x.ticks:
        at = f"{x(tick):.1f}"
        parts.append(f'<path class="axis" d="M{at} {HEIGHT - BOTTOM}v4"/>')
        anchor = "end" if x(tick) > WIDTH - 30 else "middle"
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{x.label(tick)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text>')
    if best is not None:
        parts.append(f'<path class="best" d="M{x(best):.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    parts += [_curve(series, x, y) for series in chart.series]
    for row in warnings:
        text = html.escape(f"step {row['step']}: {row.get('text', '')}")
        corner = f"M{x(row['step']):.1f} {HEIGHT - BOTTOM - 11}l6 11h-12z"
        parts.append(f'<path class="warning" d="{corner}"><title>{text}</title></path>')
    return "".join([*parts, "</svg>"])


def _curve(series: Series, x: Axis, y: Axis) -> str:
    out = []
    count = len(series.points)
    kind = f"line s{series.slot}" + (" thin" if count >= THIN_FROM else "")
    for part in split_at_gaps(series.points):
        positions = [f"{x(a):.1f} {y(b):.1f}" for a, b in part]
        if len(part) > 1:
            out.append(f'<path class="{kind}" d="M{"L".join(positions)}"/>')
        if len(part) == 1 or count <= MARKER_LIMIT:
            for (a, b), position in zip(part, positions, strict=True):
                cx, cy = position.split()
                tip = f"<title>{series.name}, step {a:,.0f}: {b:.6g}</title>"
                out.append(f'<circle class="s{series.slot}" cx="{cx}" cy="{cy}" r="3">{tip}</circle>')
    return "".join(out)
