"""report.html in Chromium: no requests, readable charts in both colour schemes and on narrow screens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3gal_cli.training.report.page import write_page
from m3gal_cli.training.report.run_log import read_run_log
from tests.helpers.browser import Browser, contrast, luminance

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run of 100 steps with 5 validations and a warning."""
    run = tmp_path_factory.mktemp("runs") / HOSTILE[:8]
    run.mkdir()
    (run / "config.yaml").write_text(f"seed: 1\nname: {HOSTILE}\n", encoding="utf-8")
    rows = []
    for i in range(1, 101):
        row = {"kind": "step", "step": i, "epoch": 0, "text_loss": 9.0 / i, "location_loss": 8.0, "lr": 0.001}
        rows.append(row | {"fused_loss": 17.0 / i, "samples_per_second": 40_000 + i})
        if i % 20 == 0:
            values = {"recall@1": i / 200, "recall@5": 0.5, "mrr@5": 0.4}
            row = {"kind": "validation", "step": i, "epoch": 0, "n_queries": 9}
            rows.append(row | {"metrics": dict.fromkeys(("text", "location", "fused"), values)})
    rows.append({"kind": "warning", "step": 50, "text": HOSTILE})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_page(read_run_log(run), run / "report.html")
    return run / "report.html"


def open_report(browser: Browser, report: Path) -> Browser:
    browser.open(report)
    browser.wait_for_frame()
    return browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_report_requests_nothing_and_fits_a_screen(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.set_screen(width, 800, dark=dark)
    page = open_report(browser, report)
    assert page.requests() == [report.as_uri()]
    assert page.console_errors() == []
    assert page.js("return document.scripts.length") == 0
    assert page.js("return document.documentElement.scrollWidth <= innerWidth")
    assert page.text(".warnings li") == f"step 50: {HOSTILE}"
    assert [float(t) for t in page.texts("#best tbody tr:last-child td data")] == [0.5, 0.5, 0.4]
    assert len(page.texts("figure")) == 6
    widths = "return [...document.querySelectorAll('figure > svg')].map(s => s.getBoundingClientRect().width)"
    assert min(page.js(widths)) > 250


def test_labels_of_charts_do_not_overlap(browser: Browser, report: Path) -> None:
    overlaps = """
    let overlapping = [];
    for (const svg of document.querySelectorAll('figure > svg')) {
      const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
      const all = svg.getBoundingClientRect();
      boxes.forEach(([a, r], i) => {
        if (r.left < all.left || r.right > all.right || r.bottom > all.bottom) overlapping.push(a);
        boxes.slice(i + 1).forEach(([b, q]) => {
          const beside = r.left >= q.right || q.left >= r.right;
          if (!beside && r.top < q.bottom - 2 && q.top < r.bottom - 2) overlapping.push(a + '|' + b);
        });
      });
    }
    return overlapping;"""
    assert open_report(browser, report).js(overlaps) == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_curves_have_enough_contrast_in_both_schemes(browser: Browser, report: Path, dark: bool) -> None:
    colours = """
    const rgb = (e, p) => getComputedStyle(e)[p].match(/[\\d.]+/g).slice(0, 3).map(Number);
    return [rgb(document.body, 'backgroundColor'), rgb(document.body, 'color'),
            rgb(document.querySelector('dt'), 'color'),
            ...[...document.querySelectorAll('.legend path')].map(p => rgb(p, 'stroke'))]"""
    browser.set_screen(dark=dark)
    background, text, muted, *curves = open_report(browser, report).js(colours)
    assert luminance(background) < 0.1 if dark else luminance(background) > 0.9
    assert min(contrast(background, colour) for colour in (text, muted)) >= 4.5
    assert min(contrast(background, colour) for colour in curves) >= 3
