"""report.html in a real browser: it asks for nothing, its charts are readable in light and dark, on every width."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3gal_cli.training.report.page import write_page
from m3gal_cli.training.report.run_log import read_run_log
from tests.helpers.browser import Browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "<script>alert(1)</script>"[:8]
    run.mkdir()
    (run / "config.yaml").write_text("seed: 1\nname: <script>alert(1)</script>\n", encoding="utf-8")
    with (run / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for i in range(1, 101):
            row = {"kind": "step", "step": i, "epoch": 0, "text_loss": 9.0 / i, "location_loss": 8.0, "lr": 0.001}
            file.write(json.dumps(row | {"fused_loss": 17.0 / i, "samples_per_second": 40_000 + i}) + "\n")
            if i % 20 == 0:
                metrics = {
                    k: {"recall@1": i / 200, "recall@5": 0.5, "mrr@5": 0.4} for k in ("text", "location", "fused")
                }
                row = {"kind": "validation", "step": i, "epoch": 0, "n_queries": 9, "metrics": metrics}
                file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"kind": "warning", "step": 50, "text": "<script>alert(1)</script>"}) + "\n")
    write_page(read_run_log(run), run / "report.html")
    return run / "report.html"


def opened(browser: Browser, report: Path) -> Browser:
    browser.driver.get("about:blank")
    for log in ("performance", "browser"):
        browser.driver.get_log(log)
    browser.driver.get(report.as_uri())
    browser.frame()
    return browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_shows_and_asks_for_nothing(browser: Browser, report: Path, width: int, dark: bool) -> None:
    browser.screen(width, 800, dark=dark)
    opened(browser, report)
    assert browser.requests() == [report.as_uri()]
    assert browser.complaints() == []
    assert browser.js("return document.scripts.length") == 0
    assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "no part is wider than the page"
    assert browser.text(".warnings li") == "step 50: <script>alert(1)</script>"
    assert [float(t) for t in browser.texts("#best tbody tr:last-child td data")] == [0.5, 0.5, 0.4]
    assert len(browser.texts("figure")) == 6
    sizes = "return [...document.querySelectorAll('figure > svg')].map(s => s.getBoundingClientRect().width)"
    assert min(browser.js(sizes)) > 250


def test_labels_do_not_overlap(browser: Browser, report: Path) -> None:
    opened(browser, report)
    overlaps = """
    let found = [];
    for (const svg of document.querySelectorAll('figure > svg')) {
      const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
      const all = svg.getBoundingClientRect();
      boxes.forEach(([a, r], i) => {
        if (r.left < all.left || r.right > all.right || r.bottom > all.bottom) found.push(a);
        boxes.slice(i + 1).forEach(([b, q]) => {
          const beside = r.left >= q.right || q.left >= r.right;
          if (!beside && r.top < q.bottom - 2 && q.top < r.bottom - 2) found.push(a + '|' + b);
        });
      });
    }
    return found;"""
    assert browser.js(overlaps) == []


def test_light_and_dark_differ_and_can_be_read(browser: Browser, report: Path) -> None:
    """Contrast of 4.5 between words and paper, of 3 between curves and paper."""
    colours = """
    const rgb = (e, p) => getComputedStyle(e)[p].match(/[\\d.]+/g).slice(0, 3).map(Number);
    return [rgb(document.body, 'backgroundColor'), rgb(document.body, 'color'),
            rgb(document.querySelector('dt'), 'color'),
            ...[...document.querySelectorAll('.legend path')].map(p => rgb(p, 'stroke'))]"""

    def light(rgb: list[float]) -> float:
        parts = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    papers = []
    for dark in (False, True):
        browser.screen(dark=dark)
        paper, ink, soft, *curves = [light(c) for c in opened(browser, report).js(colours)]
        papers.append(paper)
        for found, wanted in [(ink, 4.5), (soft, 4.5), *((c, 3.0) for c in curves)]:
            assert (max(paper, found) + 0.05) / (min(paper, found) + 0.05) >= wanted
    assert papers[0] > 0.9
    assert papers[1] < 0.1
