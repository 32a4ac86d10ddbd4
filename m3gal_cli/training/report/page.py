"""Write report.html: a run as one page without scripts and without requests to the network.

Names, settings and warnings of a run may contain anything. They are escaped, and the content security policy of the
page allows its own style sheet only.
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
from m3gal_cli.training.report.charts import RERANKED, SCORES, Chart, charts_of
from m3gal_cli.training.report.run_log import Row, RunLog, metric, number
from m3gal_cli.training.report.svg import draw

METRICS = ("recall@1", "recall@3", "recall@5", "mrr@5", "ndcg@5", "median_error_m", "within_100m", "within_1km")
METRICS_OF_ALL = ("recall@1", "recall@5", "mrr@5")  # in the table of all validations
MAX_WARNINGS = 200
SUMMARY_FACTS = ("stage", "rows", "steps", "steps_per_epoch", "first_step", "last_step")  # not repeated as environment
OWN_FACTS = ("started", "seconds", "first_step", "last_step")  # shown for every start, even if unchanged
LABELS = {
    "cpus": "CPUs",
    "cpu": "CPU",
    "gpu": "GPU",
    "cuda": "CUDA",
    "seconds": "duration",
    "median_error_m": "median error, m",
    "within_100m": "within 100 m",
    "within_1km": "within 1 km",
}


def write_page(run_log: RunLog, path: Path) -> None:
    """Write the page of a run, atomically. Raises InputError if that fails."""
    with atomic_text(path) as file:
        file.write(render_page(run_log))


def render_page(run_log: RunLog) -> str:
    """Return the page as HTML."""
    style = (files(__package__) / "page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    name = escape(run_log.name)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}</title>\n<style>{style}</style>\n</head>\n<body>",
        f"<h1>{name}</h1>",
        _fact_list(_summary(run_log)),
        _warnings(run_log.warnings),
        _charts(run_log),
        _validations(run_log),
        _environment(run_log),
        f'<h2>Settings</h2>\n<pre id="settings">{escape(run_log.config)}</pre>',
        "</body>\n</html>\n",
    ]
    text = "\n".join(part for part in parts if part)
    return text.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate becomes a question mark


def _text(value: Any) -> str:
    """Return a value as escaped text, whole numbers with thousands separators."""
    return escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))


def _summary(run_log: RunLog) -> list[tuple[str, str]]:
    start = run_log.starts[-1] if run_log.starts else {}
    steps, total = run_log.last_step, start.get("steps")
    of = f" of {_text(total)}" if total is not None else ""
    facts: list[tuple[str, str]] = [(name, _text(start[name])) for name in ("stage", "rows") if name in start]
    facts.append(("steps", f'<data id="steps" value="{steps}">{steps:,}</data>{of}'))
    per_epoch = number(start.get("steps_per_epoch"))
    if per_epoch:
        facts.append(("epochs", f"{steps / per_epoch:.4g} (of {_text(start['steps_per_epoch'])} steps)"))
    facts.append(("run time", "unknown" if run_log.seconds is None else format_duration(run_log.seconds)))
    resumed = [_text(s.get("first_step", "?")) for s in run_log.starts[1:]]
    if resumed:
        facts.append(("resumed", f"at step {', '.join(resumed)}"))
    seconds = sum(number(row.get("seconds")) or 0.0 for row in run_log.validations)
    time = f", {format_duration(seconds)} in total" if seconds else ""
    facts.append(("validations", f"{len(run_log.validations):,}{time}"))
    facts += _best_scores(run_log)
    facts.append(("warnings", f"{len(run_log.warnings):,}"))
    if run_log.unreadable:
        facts.append(("unreadable lines", f"{run_log.unreadable:,} lines of metrics.jsonl are left out"))
    return facts


def _best_scores(run_log: RunLog) -> list[tuple[str, str]]:
    """Return recall@1 of the best checkpoint by the fused score and by the reranked one, which ``predict`` uses."""
    values = [(SCORES[-1], run_log.best), (RERANKED, run_log.reranker)]
    known = [(score, metric(row, score, "recall@1")) for score, row in values if row is not None]
    parts = [f"{score} {value:.3f}" for score, value in known if value is not None]
    return [("best recall@1", ", ".join(parts))] if parts else []


def format_duration(seconds: float) -> str:
    """Return a duration as text: 12.3 s, 4 min 05 s, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole // 60 % 60:02} min"


def _fact_list(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a list. The values are HTML."""
    return '<dl class="facts">' + "".join(f"<dt>{_text(n)}</dt><dd>{v}</dd>" for n, v in rows) + "</dl>"


def _warnings(rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    items = [f"<li><b>step {row['step']:,}</b>: {_text(row.get('text', ''))}</li>" for row in rows[:MAX_WARNINGS]]
    if len(rows) > MAX_WARNINGS:
        items.append(f"<li>and {len(rows) - MAX_WARNINGS:,} more in metrics.jsonl</li>")
    return f'<h2>Warnings</h2>\n<ul class="warnings">{"".join(items)}</ul>'


def _charts(run_log: RunLog) -> str:
    charts, best = charts_of(run_log), run_log.best
    if not charts:
        return '<h2>Curves</h2>\n<p class="soft">No step is logged yet.</p>'
    step = None if best is None else best["step"]
    figures = "\n".join(_figure(chart, draw(chart, step, run_log.warnings)) for chart in charts)
    notes = ["The dotted line marks the best validation."] if best is not None else []
    notes += ["Triangles mark warnings."] if run_log.warnings else []
    lines = max((s.lines for c in charts for s in c.series), default=1)
    notes += [f"In the longest curves each point is the mean of {lines} logged lines."] if lines > 1 else []
    return f'<h2>Curves</h2>\n<p class="soft">{" ".join(notes)}</p>\n<div class="charts">\n{figures}\n</div>'


def _figure(chart: Chart, svg: str) -> str:
    title = f"<h3>{_text(chart.title)}</h3>"
    items = "".join(
        f'<li><svg viewBox="0 0 30 10" aria-hidden="true"><path class="line s{s.slot}" d="M0 5H30"/></svg>'
        f"{_text(s.name)}</li>"
        for s in chart.series
    )
    legend = f'<ul class="legend">{items}</ul>' if len(chart.series) > 1 else ""
    return f"<figure><figcaption>{title}{legend}</figcaption>{svg}</figure>"


def _validations(run_log: RunLog) -> str:
    best = run_log.best
    if best is None:
        return ""
    last, reranker = run_log.validations[-1], run_log.reranker
    shown, note = best, ""
    if reranker is not None and reranker["step"] == best["step"]:
        shown = best | {"metrics": best["metrics"] | reranker["metrics"]}
        note = '<p class="soft">The weights of the reranked score are fitted on these validation queries.</p>'
    tables = [_score_table("Best validation", "best", shown)]
    tables += [_score_table("Last validation", "last", last)] if last is not best else []
    note += '<p class="soft">The best validation is the last one.</p>' if last is best else ""
    return (
        f'<h2>Metrics</h2>\n<div class="tables">{"".join(tables)}</div>{note}\n'
        f"<details><summary>All {len(run_log.validations):,} validations</summary>{_all(run_log, best)}</details>"
    )


def _score_table(title: str, name: str, row: Row) -> str:
    """Return a table with one row per score and one column per metric."""
    scores = [score for score, metrics in row["metrics"].items() if isinstance(metrics, dict)]
    names = [n for n in METRICS if any(metric(row, score, n) is not None for score in scores)]
    head = "".join(f'<th scope="col">{_text(LABELS.get(n, n))}</th>' for n in names)
    body = "".join(
        f'<tr><th scope="row">{_text(score)}</th>{"".join(_cell(row, score, n) for n in names)}</tr>'
        for score in scores
    )
    queries = row.get("n_queries")
    of = "" if queries is None else f", {_text(queries)} queries"
    caption = f"{title}: step {row['step']:,}{of}"
    return (
        f'<div class="wide"><table id="{name}"><caption>{caption}</caption>'
        f'<thead><tr><th scope="col">score</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(row: Row, score: str, name: str) -> str:
    value = metric(row, score, name)
    if value is None:
        return "<td>–</td>"
    text = f"{value:,.0f}" if name.endswith("_m") else f"{value:.3f}"
    return f'<td><data value="{value!r}">{text}</data></td>'


def _all(run_log: RunLog, best: Row) -> str:
    """Return a table with one row per validation."""
    scores = [s for s in SCORES if any(s in row["metrics"] for row in run_log.validations)]
    groups = "".join(f'<th scope="colgroup" colspan="{len(METRICS_OF_ALL)}">{score}</th>' for score in scores)
    head = "".join(f'<th scope="col">{n}</th>' for _ in scores for n in METRICS_OF_ALL)
    body = []
    for row in run_log.validations:
        cells = "".join(_cell(row, score, n) for score in scores for n in METRICS_OF_ALL)
        mark, note = (' class="chosen"', " (best)") if row is best else ("", "")
        body.append(f'<tr{mark}><th scope="row">{row["step"]:,}{note}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table id="all"><thead><tr><th></th>{groups}</tr><tr><th scope="col">step</th>{head}</tr>'
        f"</thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _environment(run_log: RunLog) -> str:
    """Return the facts of each start; a resumed start shows only what has changed."""
    if not run_log.starts:
        return '<h2>Environment</h2>\n<p class="soft">Unknown: the run has no environment.json.</p>'
    parts = []
    for i, start in enumerate(run_log.starts):
        same = {k for k, v in start.items() if i and v == run_log.starts[i - 1].get(k)} - set(OWN_FACTS)
        facts = [(k, v) for k, v in start.items() if k not in SUMMARY_FACTS and k not in same and v is not None]
        seconds = number(start.get("seconds"))
        durations = {} if seconds is None else {"seconds": format_duration(seconds)}
        rows = [(LABELS.get(k, str(k)), durations.get(k, _text(v))) for k, v in facts]
        title = "" if not i else f"<h3>Resumed at step {_text(start.get('first_step', '?'))}</h3>"
        parts.append(title + _fact_list(rows))
    return "<h2>Environment</h2>\n" + "\n".join(parts)
