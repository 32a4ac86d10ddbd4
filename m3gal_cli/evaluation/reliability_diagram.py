"""Draw the reliability diagram of a calibration as SVG. The style sheet of the page sets its colours."""

from __future__ import annotations

from m3gal_cli.evaluation.calibration import Calibration

WIDTH, HEIGHT = 300, 260
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 10, 40
TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def reliability_diagram(calibration: Calibration) -> str:
    """Return an svg element: a bar per bin up to its share of right answers, and its mean confidence as a point.

    Bars of a calibrated model end at the diagonal.
    """
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Reliability diagram">']
    for tick in TICKS:
        x, y = _x(tick), _y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y:.1f}" dy="4" text-anchor="end">{tick:.1f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:.1f}</text>')
    for one in calibration.bins:
        if one.right is None or one.confidence is None:
            continue
        x, y, width = _x(one.low) + 1, _y(one.right), _x(one.high) - _x(one.low) - 2
        tip = (
            f"{one.low:.1f} to {one.high:.1f}: {one.count:,} answers, {one.right:.3f} right, mean {one.confidence:.3f}"
        )
        bar = f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_y(0) - y:.1f}">'
        parts.append(f"{bar}<title>{tip}</title></rect>")
        parts.append(f'<circle class="mean" cx="{_x(one.confidence):.1f}" cy="{y:.1f}" r="3"/>')
    parts.append(f'<path class="diagonal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>')
    middle = f'x="{_x(0.5):.1f}" y="{HEIGHT - 6}" text-anchor="middle"'
    parts.append(f"<text {middle}>probability of the first answer</text>")
    return "".join([*parts, "</svg>"])


def _x(value: float) -> float:
    return LEFT + value * (WIDTH - LEFT - RIGHT)


def _y(value: float) -> float:
    return HEIGHT - BOTTOM - value * (HEIGHT - TOP - BOTTOM)
