"""report.html: a run as one page that asks no network for anything and runs no script.

A run's name, settings and warnings are anybody's words: all of them stand escaped, and the page's policy lets nothing
but its own style in.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from m3gal_cli.files import atomic_text
from m3gal_cli.training.report.charts import KINDS, Chart, charts_of
from m3gal_cli.training.report.run_log import Row, RunLog, metric, number
from m3gal_cli.training.report.svg import draw

SHOWN = ("recall@1", "recall@3", "recall@5", "mrr@5", "ndcg@5", "median_error_m", "within_100m", "within_1km")
IN_ROWS = ("recall@1", "recall@5", "mrr@5")  # of every validation
MOST_WARNINGS = 200
LATER_STARTS = ("started", "seconds", "first_step", "last_step")  # what a resumed run's start tells of its own
NAMES = {
    "cpus": "CPUs",
    "cpu": "CPU",
    "gpu": "GPU",
    "cuda": "CUDA",
    "seconds": "took",
    "median_error_m": "median error, m",
}
NAMES |= {"within_100m": "within 100 m", "within_1km": "within 1 km"}


def write_page(run_log: RunLog, path: Path) -> None:
    """Write the page of a run, atomically. Raises InputError where that fails."""
    text = page(run_log)
    with atomic_text(path) as file:
        file.write(text)


def page(run_log: RunLog) -> str:
    """The page as HTML."""
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    name = escape(run_log.name)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}</title>\n<style>{style}</style>\n</head>\n<body>",
        f"<h1>{name}</h1>",
        _facts(_summary(run_log)),
        _warnings(run_log.warnings),
        _charts(run_log),
        _validations(run_log),
        _environment(run_log),
        f'<h2>Settings</h2>\n<pre id="settings">{escape(run_log.config)}</pre>',
        "</body>\n</html>\n",
    ]
    return _whole("\n".join(part for part in parts if part))


def _whole(text: str) -> str:
    """Text that UTF-8 can hold: a lone surrogate, of a file name or a JSON escape, becomes a question mark."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _text(value: Any) -> str:
    """Any value as text of the page."""
    return escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _summary(run_log: RunLog) -> list[tuple[str, str]]:
    start = run_log.starts[-1] if run_log.starts else {}
    steps, total = run_log.last_step, start.get("steps")
    of = f" of {_text(total)}" if total is not None else ""
    facts = [("stage", _text(start["stage"]))] if "stage" in start else []
    facts += [("rows", _text(start["rows"]))] if "rows" in start else []
    facts.append(("steps", f'<data id="steps" value="{steps}">{steps:,}</data>{of}'))
    each = number(start.get("steps_per_epoch"))
    if each:
        facts.append(("epochs", f"{steps / each:.4g} (of {_text(start['steps_per_epoch'])} steps)"))
    seconds = run_log.seconds
    facts.append(("run time", "not known" if seconds is None else took(seconds)))
    resumed = [_text(s.get("first_step", "?")) for s in run_log.starts[1:]]
    if resumed:
        facts.append(("resumed", f"at step {', '.join(resumed)}"))
    spent = sum(number(row.get("seconds")) or 0.0 for row in run_log.validations)
    facts.append(("validations", f"{len(run_log.validations):,}" + (f", {took(spent)} in all" if spent else "")))
    facts.append(("warnings", f"{len(run_log.warnings):,}"))
    if run_log.broken:
        facts.append(("unreadable lines", f"{run_log.broken:,} of metrics.jsonl, left out"))
    return facts


def took(seconds: float) -> str:
    """A time in words: 12.3 s, 4 min 05 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values, the values being HTML already."""
    return '<dl class="facts">' + "".join(f"<dt>{_text(n)}</dt><dd>{v}</dd>" for n, v in rows) + "</dl>"


def _warnings(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    items = [f"<li><b>step {row['step']:,}</b>: {_text(row.get('text', ''))}</li>" for row in rows[:MOST_WARNINGS]]
    if len(rows) > MOST_WARNINGS:
        items.append(f"<li>and {len(rows) - MOST_WARNINGS:,} more in metrics.jsonl</li>")
    return f'<h2>Warnings</h2>\n<ul class="warnings">{"".join(items)}</ul>'


def _charts(run_log: RunLog) -> str:
    charts, best = charts_of(run_log), run_log.best
    if not charts:
        return '<h2>Curves</h2>\n<p class="soft">Nothing is logged yet.</p>'
    step = None if best is None else best["step"]
    drawn = "\n".join(_figure(chart, draw(chart, step, run_log.warnings)) for chart in charts)
    words = ["The dotted line marks the best validation."] if best is not None else []
    words += ["Triangles mark warnings."] if run_log.warnings else []
    thinned = max((s.lines for c in charts for s in c.series), default=1)
    words += [f"Of the longest curves each point is the mean of {thinned} logged lines."] if thinned > 1 else []
    return f'<h2>Curves</h2>\n<p class="soft">{" ".join(words)}</p>\n<div class="charts">\n{drawn}\n</div>'


def _figure(chart: Chart, drawing: str) -> str:
    title = f"<h3>{_text(chart.title)}</h3>"
    key = "".join(f"<li>{_dash(s.slot)}{_text(s.name)}</li>" for s in chart.series)
    legend = f'<ul class="legend">{key}</ul>' if len(chart.series) > 1 else ""
    return f"<figure><figcaption>{title}{legend}</figcaption>{drawing}</figure>"


def _dash(slot: int) -> str:
    return f'<svg viewBox="0 0 30 10" aria-hidden="true"><path class="line s{slot}" d="M0 5H30"/></svg>'


def _validations(run_log: RunLog) -> str:
    best = run_log.best
    if best is None:
        return ""
    last = run_log.validations[-1]
    tables = [_scores("Best validation", "best", best)]
    tables += [_scores("Last validation", "last", last)] if last is not best else []
    words = '<p class="soft">It is the last one too.</p>' if last is best else ""
    return (
        f'<h2>Metrics</h2>\n<div class="tables">{"".join(tables)}</div>{words}\n'
        f"<details><summary>All {len(run_log.validations):,} validations</summary>{_all(run_log, best)}</details>"
    )


def _scores(title: str, name: str, row: Row) -> str:
    """A row a kind of score, a column a metric."""
    kinds = [kind for kind, scores in row["metrics"].items() if isinstance(scores, dict)]
    names = [n for n in SHOWN if any(metric(row, kind, n) is not None for kind in kinds)]
    head = "".join(f'<th scope="col">{_text(NAMES.get(n, n))}</th>' for n in names)
    body = "".join(
        f'<tr><th scope="row">{_text(kind)}</th>{"".join(_cell(row, kind, n) for n in names)}</tr>' for kind in kinds
    )
    queries = row.get("n_queries")
    of = "" if queries is None else f", {_text(queries)} queries"
    caption = f"{title}: step {row['step']:,}{of}"
    return (
        f'<div class="wide"><table id="{name}"><caption>{caption}</caption>'
        f'<thead><tr><th scope="col">score</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(row: Row, kind: str, name: str) -> str:
    value = metric(row, kind, name)
    if value is None:
        return "<td>–</td>"
    text = f"{value:,.0f}" if name.endswith("_m") else f"{value:.3f}"
    return f'<td><data value="{value!r}">{text}</data></td>'


def _all(run_log: RunLog, best: Row) -> str:
    kinds = [k for k in KINDS if any(k in row["metrics"] for row in run_log.validations)]
    over = "".join(f'<th scope="colgroup" colspan="{len(IN_ROWS)}">{kind}</th>' for kind in kinds)
    head = "".join(f'<th scope="col">{n}</th>' for _ in kinds for n in IN_ROWS)
    body = []
    for row in run_log.validations:
        cells = "".join(_cell(row, kind, n) for kind in kinds for n in IN_ROWS)
        mark = ' class="chosen"' if row is best else ""
        note = " (best)" if row is best else ""
        body.append(f'<tr{mark}><th scope="row">{row["step"]:,}{note}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table id="all"><thead><tr><th></th>{over}</tr><tr><th scope="col">step</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _fact(name: str, value: Any) -> str:
    seconds = number(value) if name == "seconds" else None
    return _text(value) if seconds is None else took(seconds)


def _environment(run_log: RunLog) -> str:
    if not run_log.starts:
        return '<h2>Environment</h2>\n<p class="soft">It is not known: there is no environment.json.</p>'
    shown = ("stage", "rows", "steps", "steps_per_epoch", "first_step", "last_step")
    parts = []
    for i, start in enumerate(run_log.starts):
        same = {k for k, v in start.items() if i and v == run_log.starts[i - 1].get(k)} - set(LATER_STARTS)
        facts = [(k, v) for k, v in start.items() if k not in shown and k not in same and v is not None]
        rows = [
            (NAMES.get(k, str(k)), took(v) if k == "seconds" and number(v) is not None else _text(v)) for k, v in facts
        ]
        title = "" if not i else f"<h3>Resumed at step {_text(start.get('first_step', '?'))}</h3>"
        parts.append(title + _facts(rows))
    return "<h2>Environment</h2>\n" + "\n".join(parts)
