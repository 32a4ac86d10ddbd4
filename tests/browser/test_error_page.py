"""The error page in Chromium: list, filter by kind, map, tables, phones, safety."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.evaluation.calibration import Confidences, calibration_of
from m3gal_cli.evaluation.error_report import write_misses
from m3gal_cli.evaluation.misses import BRANCH, KINDS, NOT_FOUND, OTHER, Answer, FeatureValues, Miss
from m3gal_cli.evaluation.result import Evaluation
from tests.browser.test_map_page import HOSTILE, box, colour, drawn, pixel, point_of
from tests.helpers.browser import Browser

pytestmark = pytest.mark.integration


def answer(number: int, name: str, lng: float, lat: float, gold: bool = False, chance: float | None = 0.25) -> Answer:
    return Answer(f"n{number}", f"{name}, shop, Katu {number}", lng, lat, gold, chance)


def misses() -> list[Miss]:
    """Return three misses: the gold among the answers, of hostile texts, and not in the table."""
    near, far = answer(1, "Alepa", 24.90, 60.10, chance=0.7), answer(2, "Alepa", 24.95, 60.12, True, 0.2)
    third = answer(3, "Kauppa", 24.91, 60.11, chance=0.1)
    features = [
        FeatureValues("query_coverage", 0.5, 1.75),
        FeatureValues("nearness_700m", 1.0, 0.25),
        FeatureValues("sparse_score", None, 0.25),
    ]
    hostile = [answer(10 + i, text, 24.9 + i / 100, 60.1) for i, text in enumerate(HOSTILE)]
    absent = Answer(None, "莫干山路东村, 住宅", 120.1, 30.2, True, None)
    return [
        Miss("alepa katu", "q1", 24.93, 60.13, BRANCH, 2, 3553.4, far, [near, far, third], 0.125, features),
        Miss(HOSTILE[0], None, None, None, OTHER, 7, 12.0, answer(30, HOSTILE[1], 24.9, 60.1, True), hostile, 0.5, []),
        Miss("东村", None, None, None, NOT_FOUND, None, 6_500_000.0, absent, [near], None, []),
    ]


def write(folder: Path, found: list[Miss]) -> Path:
    metrics = {"reranked": {"recall@1": 0.5}}
    evaluation = Evaluation(6, 100, True, 0.1, metrics, {}, {}, {}, misses=found)
    values = np.array([0.05, 0.95, 0.9, 0.5])
    evaluation.calibration = calibration_of(Confidences(values, values > 0.6, values > 0.4))
    write_misses(evaluation, folder / "errors.html", "Misses of runs/a")
    return folder / "errors.html"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("errors"), misses())


def open_page(browser: Browser, path: Path) -> Browser:
    browser.open(path)
    browser.wait("return document.getElementById('canvas').dataset.painted !== undefined")
    return browser


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    return open_page(browser, file)


def query(page: Browser) -> str:
    return page.text("#details h2")


def test_the_page_requests_only_itself_and_shows_the_first_miss(page: Browser, file: Path) -> None:
    assert page.requests() == [file.as_uri()]
    assert page.console_errors() == []
    assert page.text("#summary") == "3 of 6 queries do not have their gold first by the reranked score"
    assert page.text("#attribution") == "© OpenStreetMap contributors"
    assert query(page) == "alepa katu"
    assert page.text("#details .kind").startswith(f"{BRANCH}: {KINDS[BRANCH]}")
    assert "The gold has rank 2. The first answer is 3.6 km from it." in page.text("#details")
    columns = [page.texts(f"#details table:first-of-type tbody tr td:nth-child({n})")[:4] for n in (1, 3, 4)]
    assert columns[0] == ["1", "2", "3", "–"]
    assert columns[1] == ["0.700", "0.200", "0.100", "0.125"]
    assert columns[2] == ["3.6 km", "gold", "2.5 km", "–"]
    rows = page.texts("#details table:last-of-type tbody tr")
    assert [row.replace("\u200b", "") for row in rows] == [
        "query_coverage0.501.751.25",
        "nearness_700m1.000.25−0.75",
        "sparse_score–0.25–",
    ]


def test_the_map_shows_query_gold_and_answers(page: Browser) -> None:
    places = np.array([24.93, 24.90, 24.91, 24.95]), np.array([60.13, 60.10, 60.11, 60.12])
    assert drawn(page) == 4
    left, top, width, height = box(page)
    for i, name in enumerate(("--k2", "--k0", "--k0", "--k1")):  # query location, answers, gold
        x, y = point_of(page, i, places)
        assert pixel(page, x, y) == colour(page, name)
        assert left < x < left + width
        assert top < y < top + height


def test_kinds_filter_the_list(page: Browser) -> None:
    visible = "return [...document.querySelectorAll('#misses li')].map(e => e.offsetHeight > 0)"
    assert page.texts("#kinds label") == [f"{kind}{int(kind in (BRANCH, OTHER, NOT_FOUND))}" for kind in KINDS]
    assert (page.js(visible), page.text("#shown-count")) == ([True, True, True], "3 misses")
    page.js(f"document.querySelectorAll('#kinds input')[{list(KINDS).index(BRANCH)}].click()")
    assert (page.js(visible), page.text("#shown-count")) == ([False, True, True], "2 misses")
    assert query(page) == HOSTILE[0], "the first of the others is selected"
    page.js("none.click()")
    assert (page.js(visible), page.text("#shown-count")) == ([False, False, False], "0 misses")
    page.js("all.click()")
    assert page.js(visible) == [True, True, True]


def test_a_miss_is_selected_in_the_list_and_by_the_buttons(page: Browser) -> None:
    page.js("document.querySelectorAll('#misses button')[2].click()")
    assert query(page) == "东村"
    assert page.js("return document.querySelectorAll('#misses button')[2].getAttribute('aria-current')") == "true"
    assert "The gold is not in the table. The first answer is 6,500 km from it." in page.text("#details")
    assert page.texts("#details tbody td:nth-child(1)") == ["1", "–"]
    assert page.texts("#details h3") == ["Answers"], "without features there is no table of them"
    page.wait_for_frame()
    assert drawn(page) == 2
    for step, expected in (("Previous", HOSTILE[0]), ("Previous", "alepa katu"), ("Next", HOSTILE[0])):
        number = ("Previous", "Next").index(step)
        page.js(f"document.querySelectorAll('#details .row button')[{number}].click()")
        assert query(page) == expected


def test_hostile_texts_are_shown_as_text(page: Browser, file: Path) -> None:
    page.js("document.querySelectorAll('#misses button')[1].click()")
    shown = page.texts("#details tbody td:nth-child(2)")
    for i, text in enumerate(HOSTILE):
        assert f"{text}, shop, Katu {10 + i}" in shown[i]
    assert HOSTILE[1] in shown[-2]
    assert shown[-1] == "no match"
    assert page.js("return window.hacked") is None
    assert page.js("return document.querySelectorAll('main img, main b, main script').length") == 0
    assert page.console_errors() == []


def test_the_reliability_diagram_is_drawn(page: Browser) -> None:
    assert page.texts("#calibration dd") == ["0.175", "1.000", "0.667", "0.900"]
    heights = page.js("return [...document.querySelectorAll('.bar')].map(e => e.getBoundingClientRect().height)")
    assert heights[0] == heights[1] == 0.0
    assert heights[2] > 100
    fill = page.js("return getComputedStyle(document.querySelector('.bar')).fill")
    assert fill == f"rgb{colour(page, '--k0')}"


def test_the_page_fits_a_phone_and_starts_at_its_top(browser: Browser, file: Path) -> None:
    browser.set_screen(390, 844, touch=True)
    page = open_page(browser, file)
    assert page.js("return document.documentElement.scrollWidth") <= 390
    assert page.js("return window.scrollY") == 0
    page.js("document.querySelectorAll('#misses button')[2].click()")
    page.wait_for_frame()
    assert abs(page.js("return document.getElementById('map').getBoundingClientRect().top")) < 200


def test_a_page_without_misses_says_so(browser: Browser, tmp_path: Path) -> None:
    page = open_page(browser, write(tmp_path, []))
    assert page.text("#details") == "Every query has its gold first."
    assert page.console_errors() == []
