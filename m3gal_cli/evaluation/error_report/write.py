"""Writer of the misses of an evaluation, as a page with maps or as JSON lines."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from m3gal_cli.evaluation.calibration import PRECISION, Calibration
from m3gal_cli.evaluation.misses import KINDS
from m3gal_cli.evaluation.reliability_diagram import reliability_diagram
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.files import atomic_text, suffix_of
from m3gal_cli.inspect.page.rendering import attribution_of, render_map_page

HTML, JSON_LINES = ".html", ".jsonl"
SUFFIXES = (HTML, JSON_LINES)
MAX_MISSES = 2000  # on a page
POINTS = ("answer", "gold", "query location")  # kinds of point on the map


def write_misses(evaluation: Evaluation, path: Path, title: str) -> None:
    """Write the misses of an evaluation atomically, in the format of the suffix. Raises InputError."""
    with atomic_text(path) as file:
        if suffix_of(path) == HTML:
            file.write(render_page(evaluation, title))
        else:
            file.writelines(json.dumps(miss.to_json(), ensure_ascii=False) + "\n" for miss in evaluation.misses)


def render_page(evaluation: Evaluation, title: str) -> str:
    """Return the page as HTML: of the misses, the first ``MAX_MISSES``."""
    misses = evaluation.misses
    shown = misses[:MAX_MISSES]
    score = "reranked" if "reranked" in evaluation.metrics else "fused"
    summary = f"{len(misses):,} of {evaluation.n_queries:,} queries do not have their gold first by the {score} score"
    if len(shown) < len(misses):
        summary += f"; the first {len(shown):,} are shown"
    data = {
        "kinds": POINTS,
        "missKinds": [[kind, explanation] for kind, explanation in KINDS.items()],
        "misses": [miss.to_json() for miss in shown],
        "summary": summary,
        "attribution": attribution_of(a.poi_id or "" for miss in shown for a in miss.answers),
    }
    folder = files(__package__)
    template, panels, style = (
        (folder / name).read_text(encoding="utf-8") for name in ("page.html", "panels.js", "page.css")
    )
    template = template.replace("{{calibration}}", _calibration(evaluation.calibration))
    return render_map_page(title, data, template, panels, style)


def _calibration(calibration: Calibration | None) -> str:
    """Return the figures of the calibration and its diagram as HTML; "" without a reranker."""
    if calibration is None:
        return ""
    facts: list[tuple[str, Any]] = [("ECE", calibration.ece), ("ROC AUC", calibration.auc)]
    facts += [(f"answered at {PRECISION:.0%} precision", calibration.answered), ("threshold", calibration.threshold)]
    items = "".join(
        f"<dt>{name}</dt><dd>{'–' if value is None else format(value, '.3f')}</dd>" for name, value in facts
    )
    hint = "Bars are shares of right first answers, by their probability. On the line, both are equal."
    parts = ['<details id="calibration" open><summary>Calibration</summary>', f"<dl>{items}</dl>"]
    parts += [f'<p class="muted">{hint}</p>', reliability_diagram(calibration), "</details>"]
    return "".join(parts)
