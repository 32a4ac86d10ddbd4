"""The map page in a real browser, opened from a file: what is drawn where, what a click, a tap and a key show."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.tables import write_pois, write_views
from m3gal_cli.inspect import Look, inspect_file
from m3gal_cli.inspect.page import write_page
from tests.helpers.browser import Browser

ENTER, DOWN, ESCAPE, HOME = "\ue007", "\ue015", "\ue00c", "\ue011"
HOSTILE = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "\"'`${window.hacked = 1}`'\"",
    "line\u2028separator\u2029<!--<script>",
    "&lt;b&gt; <b>bold</b> {{data}}",
    "javascript:window.hacked=1",
]
KINDS = ("shop=bakery", "shop=kiosk", "amenity=cafe", "railway=station")


def city(folder: Path, names: list[str], lng: np.ndarray, lat: np.ndarray, ids: str = "n{}") -> Path:
    """The tables of ``data osm`` for places with these names: three views each."""
    count = len(names)
    pois = pd.DataFrame({"poi_id": [ids.format(i) for i in range(count)], "lng": lng, "lat": lat, "name": names})
    pois["address"] = [f"{name}, Mannerheimintie {i}" for i, name in enumerate(names)]
    pois["category"] = [KINDS[i % len(KINDS)] for i in range(count)]
    pois["street"] = "Mannerheimintie"
    write_pois(pois, folder / "poi_database_t.csv")
    sides = pois[["poi_id", "lng", "lat"]]
    views = [
        sides.assign(address1=[f"{n} door {i}" for i, n in enumerate(names)], address2=pois["address"], kind1="door"),
        sides.assign(address1=[f"corner of {n}" for n in names], address2=pois["address"], kind1="corner"),
    ]
    write_views(pd.concat(views, ignore_index=True).assign(kind2="poi"), folder / "same_poi_views_t.csv")
    return folder / "same_poi_views_t.csv"


def page(folder: Path, names: list[str], lng: np.ndarray, lat: np.ndarray, ids: str = "n{}") -> Path:
    found = inspect_file(city(folder, names, lng, lat, ids), Look(places=0))
    assert found.city is not None
    write_page(found.city, folder / "map.html", "Kaupunki 城市")
    return folder / "map.html"


def spread(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places on a grid of about 100 m: none under another."""
    side = math.ceil(math.sqrt(count))
    steps = np.arange(count)
    return 24.9007 + (steps % side) * 0.002, 60.1003 + (steps // side) * 0.001  # off the lines of the graticule


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"Kauppa {i}" for i in range(18)] + ["莫干山路东村", "Café Ärlig"]
    return page(tmp_path_factory.mktemp("small"), names, *spread(20))


def mercator(lng: float, lat: float) -> tuple[float, float]:
    """Web Mercator as a unit square, by the textbook."""
    return lng / 360 + 0.5, 0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)


def on_screen(browser: Browser, lng: float, lat: float) -> tuple[float, float]:
    """Where a place must be on the page, from where the map says that it looks."""
    middle_lng, middle_lat, scale = map(float, browser.js("return canvas.dataset.view").split())
    box = browser.js("const b = canvas.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]")
    (x, y), (middle_x, middle_y) = mercator(lng, lat), mercator(middle_lng, middle_lat)
    return (x - middle_x) * scale + box[0] + box[2] / 2, (y - middle_y) * scale + box[1] + box[3] / 2


def colour(browser: Browser, name: str) -> tuple[int, int, int]:
    value = browser.js(f"return getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    return tuple(int(value[i : i + 2], 16) for i in (1, 3, 5))  # type: ignore[return-value]


def test_it_opens_from_a_file_and_asks_for_nothing_else(browser: Browser, small: Path) -> None:
    browser.open(small)
    assert browser.requests() == [small.as_uri()], "nothing but the page itself, and its empty icon, is fetched"
    assert browser.complaints() == []
    assert browser.driver.title == "Kaupunki 城市"
    assert browser.text("#summary") == "20 places"
    assert browser.text("#attribution") == "© OpenStreetMap contributors"
    assert int(browser.js("return canvas.dataset.drawn")) == 20


def test_points_are_where_they_belong_in_the_colour_of_their_kind(browser: Browser, small: Path) -> None:
    browser.open(small)
    order = {"shop": "--k0", "amenity": "--k1", "railway": "--k2"}  # by size, then by name
    lng, lat = spread(20)
    for i in range(20):
        x, y = on_screen(browser, lng[i], lat[i])
        kind = KINDS[i % 4].split("=")[0]
        assert browser.pixel(x, y) == colour(browser, order[kind]), i
    west, east = on_screen(browser, lng.min(), lat[0])[0], on_screen(browser, lng.max(), lat[0])[0]
    box = browser.js("const b = canvas.getBoundingClientRect(); return [b.left, b.right]")
    assert box[0] < west < east < box[1], "the whole city is shown"


def test_a_few_strays_do_not_shrink_the_city(browser: Browser, tmp_path: Path) -> None:
    lng, lat = spread(100)
    lng[-3:] += 3.0
    browser.open(page(tmp_path, [f"x{i}" for i in range(100)], lng, lat))
    west, east = (on_screen(browser, x, lat[0])[0] for x in (lng[0], lng[9]))
    box = browser.js("const b = canvas.getBoundingClientRect(); return [b.left, b.right]")
    assert box[0] < west < east < box[1]
    assert east - west > (box[1] - box[0]) / 3
    assert int(browser.js("return canvas.dataset.drawn")) == 97


def test_a_click_on_a_point_shows_its_views(browser: Browser, small: Path) -> None:
    browser.open(small)
    lng, lat = spread(20)
    for i in (7, 18):
        name = "莫干山路东村" if i == 18 else f"Kauppa {i}"
        browser.click_at(*on_screen(browser, lng[i], lat[i]))
        assert browser.text("#place h2") == name
        assert KINDS[i % 4] in browser.text("#place .kind")
        assert f"n{i} · {lng[i]:.6f}, {lat[i]:.6f}" in browser.text("#place .soft")
        assert browser.texts("#place .views dt") == ["poi", "corner", "door"]
        assert browser.texts("#place .views dd") == [
            f"{name}, Mannerheimintie {i}",
            f"corner of {name}",
            f"{name} door {i}",
        ]
        assert browser.texts("#place .facts dt") == ["street"]
        assert browser.texts("#place .facts dd") == ["Mannerheimintie"]
    browser.click_at(*on_screen(browser, lng[0] + 0.001, lat[0] + 0.0005))
    assert browser.text("#place h2") == "莫干山路东村", "a click beside every point chooses none"


def test_what_lies_on_one_spot_can_all_be_reached(browser: Browser, tmp_path: Path) -> None:
    lng, lat = np.array([24.9, 24.9, 24.9, 24.95]), np.array([60.1, 60.1, 60.1, 60.12])
    browser.open(page(tmp_path, ["one", "two", "three", "far"], lng, lat))
    browser.click_at(*on_screen(browser, 24.9, 60.1))
    assert browser.text("#place h2") == "one"
    assert browser.texts("#here button") == ["two", "three"]
    browser.js("document.querySelectorAll('#here button')[1].click()")
    assert browser.text("#place h2") == "three"
    assert browser.texts("#here button") == ["one", "two"]


def test_search_finds_names_and_views_and_enter_shows_them(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.js("search.focus()")
    browser.key("CORNER of kauppa 1")
    assert browser.text("#found") == "9 places", "Kauppa 1, 10 to 17: by their views"
    assert browser.texts("#results li")[0].startswith("Kauppa 1")
    browser.frame()
    assert int(browser.js("return canvas.dataset.drawn")) == 9, "the others are dimmed"
    browser.key(DOWN, DOWN, ENTER)
    browser.frame()
    assert browser.text("#place h2") == "Kauppa 10"
    assert browser.js("return search.getAttribute('aria-activedescendant')") == "option-1"
    lng, lat = spread(20)
    x, y = on_screen(browser, lng[10], lat[10])
    box = browser.js("const b = canvas.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]")
    assert (x, y) == pytest.approx(box, abs=1), "the map goes there"
    browser.key(ESCAPE)
    browser.frame()
    assert browser.texts("#results li") == []
    browser.key("ärlig", ENTER)
    assert browser.text("#place h2") == "Café Ärlig"
    assert "Café Ärlig, shop" not in browser.text("#said")
    assert browser.text("#said") == "Café Ärlig, railway, 3 views", "and it is said to those who do not see"


def test_search_finds_full_width_letters_and_chinese(browser: Browser, small: Path) -> None:
    browser.open(small)
    for typed, name in (("ＫＡＵＰＰＡ 17", "Kauppa 17"), ("东村", "莫干山路东村")):
        browser.js("search.value = arguments[0]; search.dispatchEvent(new Event('input'))", typed)
        assert [text[: len(name)] for text in browser.texts("#results li")] == [name]
    browser.js("search.value = 'nowhere'; search.dispatchEvent(new Event('input'))")
    assert browser.text("#found") == "0 places"
    assert browser.js("return search.getAttribute('aria-expanded')") == "false"


def test_the_legend_counts_and_filters(browser: Browser, small: Path) -> None:
    browser.open(small)
    assert browser.texts("#kinds label") == ["shop10", "amenity5", "railway5"]
    lng, lat = spread(20)
    ground = colour(browser, "--ground")
    browser.js("document.querySelectorAll('#kinds input')[1].click()")
    browser.frame()
    assert int(browser.js("return canvas.dataset.drawn")) == 15
    x, y = on_screen(browser, lng[6], lat[6])  # a café
    assert browser.pixel(x, y) == ground
    browser.click_at(x, y)
    assert browser.js("return document.querySelector('#place h2')") is None, "what is not shown cannot be clicked"
    browser.js("none.click()")
    browser.frame()
    assert int(browser.js("return canvas.dataset.drawn")) == 0
    browser.js("all.click()")
    browser.frame()
    assert int(browser.js("return canvas.dataset.drawn")) == 20


def test_keys_move_zoom_and_choose(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.js("canvas.focus()")

    def view() -> list[float]:
        browser.frame()
        return [float(part) for part in browser.js("return canvas.dataset.view").split()]

    start = view()
    browser.key("+")
    assert view()[2] == pytest.approx(start[2] * 1.5)
    browser.key("\ue014")  # right
    east = view()
    assert east[0] == pytest.approx(start[0] + 80 / east[2] * 360)
    browser.key(HOME)
    assert view() == pytest.approx(start)
    browser.key(ENTER)
    lng, lat = spread(20)
    spots = np.array([mercator(x, y) for x, y in zip(lng, lat, strict=True)])
    nearest = int(np.argmin(np.hypot(*(spots - mercator(*start[:2])).T)))
    assert browser.text("#place .soft").startswith(f"n{nearest} ·"), "the place nearest to the middle"


def test_wheel_and_drag(browser: Browser, small: Path) -> None:
    browser.open(small)
    lng, lat = spread(20)
    x, y = on_screen(browser, lng[3], lat[3])
    at = round(x), round(y)  # the browser tells a wheel's place in whole pixels
    wheel = {"type": "mouseWheel", "x": at[0], "y": at[1], "deltaX": 0, "deltaY": -300}
    before = float(browser.js("return canvas.dataset.view").split()[2])
    browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    browser.wait(f"return +canvas.dataset.view.split(' ')[2] > {before}")
    grown = float(browser.js("return canvas.dataset.view").split()[2]) / before
    assert grown == pytest.approx(2.0)
    held = (at[0] + grown * (x - at[0]), at[1] + grown * (y - at[1]))
    assert on_screen(browser, lng[3], lat[3]) == pytest.approx(held, abs=0.01), "what is under the pointer stays"
    for kind, dx in (
        ("mouseMoved", 0),
        ("mousePressed", 0),
        ("mouseMoved", 30),
        ("mouseMoved", 60),
        ("mouseReleased", 60),
    ):
        where = {
            "x": at[0] + dx,
            "y": at[1],
            "button": "left",
            "buttons": int(kind != "mouseReleased"),
            "clickCount": 1,
        }
        browser.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **where})
    browser.frame()
    assert on_screen(browser, lng[3], lat[3]) == pytest.approx((held[0] + 60, held[1]), abs=0.01)
    assert browser.js("return document.querySelector('#place h2')") is None, "a drag is no click"


def test_the_scale_bar_is_as_long_as_it_says(browser: Browser, small: Path) -> None:
    browser.open(small)
    told, unit = browser.text("#metres").split()
    metres = float(told) * (1000 if unit == "km" else 1)
    left, right = browser.js("const b = scale.getBoundingClientRect(); return [b.left, b.right]")
    _, lat, scale = map(float, browser.js("return canvas.dataset.view").split())
    circle = 2 * math.pi * 6371008.8 * math.cos(math.radians(lat))
    assert (right - left) / scale * circle == pytest.approx(metres, rel=0.01)


def test_hostile_names_are_text(browser: Browser, tmp_path: Path) -> None:
    lng, lat = spread(len(HOSTILE))
    browser.open(page(tmp_path, HOSTILE, lng, lat))
    for i, name in enumerate(HOSTILE):
        browser.click_at(*on_screen(browser, lng[i], lat[i]))
        assert browser.text("#place h2") == name
        assert browser.texts("#place .views dd")[0] == f"{name}, Mannerheimintie {i}"
    browser.js("search.value = 'mannerheimintie'; search.dispatchEvent(new Event('input'))")
    assert len(browser.texts("#results li")) == len(HOSTILE)
    assert browser.js("return window.hacked") is None
    assert browser.js("return document.querySelectorAll('main img, main b, main script').length") == 0
    assert browser.complaints() == []
    assert browser.requests() == [(tmp_path / "map.html").as_uri()]


def test_the_policy_stops_what_is_not_the_pages_own(browser: Browser, small: Path) -> None:
    """Were a name ever to become markup, neither its script nor its image would be let through."""
    browser.open(small)
    browser.js(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"file:///etc/x.png\" onerror=\"window.hacked = 1\">')"
    )
    browser.js(
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)"
    )
    browser.frame()
    assert browser.js("return window.hacked") is None
    assert sum("Content Security Policy" in line for line in browser.complaints()) >= 2


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_the_ground(browser: Browser, small: Path, dark: bool) -> None:
    browser.screen(dark=dark)
    browser.open(small)

    def luminance(name: str) -> float:
        parts = [c / 255 for c in colour(browser, name)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    assert (luminance("--paper") < 0.1) is dark
    assert min(contrast(f"--k{i}", ground) for i in range(12) for ground in ("--ground", "--paper")) >= 3
    texts = [
        ("--ink", "--paper"),
        ("--soft", "--paper"),
        ("--ink", "--ground"),
        ("--grid-ink", "--ground"),
        ("--ink", "--chosen"),
    ]
    assert min(contrast(*pair) for pair in texts) >= 4.5
    x, y = on_screen(browser, 24.9007, 60.1003)
    assert browser.pixel(x, y) == colour(browser, "--k0"), "drawn in the scheme's own colours"


def test_every_control_has_a_name(browser: Browser, small: Path) -> None:
    browser.open(small)
    browser.js("canvas.focus()")
    tree = browser.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    controls = {"button", "checkbox", "combobox", "searchbox", "listbox", "application", "DisclosureTriangle"}
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
    found = [(role, name) for role, name in named if role in controls]
    assert {role for role, _ in found} >= {"button", "checkbox", "application"}
    assert ("checkbox", "shop 10") in [(role, " ".join(name.split())) for role, name in found]
    assert [role for role, name in found if not name.strip()] == []


def test_a_phone(browser: Browser, small: Path) -> None:
    browser.screen(390, 844, touch=True)
    browser.open(small)
    assert browser.js("return document.documentElement.scrollWidth") <= 390, "nothing sticks out at the side"
    lng, lat = spread(20)
    browser.tap_at(*on_screen(browser, lng[7], lat[7]))
    assert browser.text("#place h2") == "Kauppa 7"
    top = browser.js("return document.querySelector('#place h2').getBoundingClientRect().top")
    assert top < 844, "the name is in sight without scrolling"
    small_targets = browser.js(
        "return [...document.querySelectorAll('button, #search')].map(e => e.getBoundingClientRect())"
        ".filter(b => b.width && (b.width < 24 || b.height < 24)).length"
    )
    assert small_targets == 0


def test_two_fingers_zoom_and_choose_nothing(browser: Browser, small: Path) -> None:
    browser.screen(390, 844, touch=True)
    browser.open(small)
    lng, lat = spread(20)
    x, y = on_screen(browser, lng[7], lat[7])
    before = float(browser.js("return canvas.dataset.view").split()[2])
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", 0)):
        points = [{"x": x, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}] if apart else []
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    browser.frame()
    assert float(browser.js("return canvas.dataset.view").split()[2]) / before == pytest.approx(2.0, rel=0.02)
    assert on_screen(browser, lng[7], lat[7]) == pytest.approx((x, y), abs=3), "what lies under a finger stays there"
    assert browser.js("return document.querySelector('#place h2')") is None, "though a finger is lifted from it"


def test_twenty_thousand_places_stay_usable(browser: Browser, tmp_path: Path) -> None:
    lng, lat = spread(20_000)
    file = page(tmp_path, [f"Paikka {i}" for i in range(20_000)], lng, lat)
    browser.open(file)
    painted = int(browser.js("return canvas.dataset.painted"))
    drawn = browser.js(
        "const t = performance.now(); for (let i = 0; i < 20; i++) "
        "canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: i % 2 ? 50 : -50, cancelable: true}));"
        "return performance.now() - t"
    )
    browser.frame()
    searched = browser.js(
        "const t = performance.now(); search.value = 'paikka 19999'; search.dispatchEvent(new Event('input'));"
        "return performance.now() - t"
    )
    print(
        f"20,000 places: {file.stat().st_size / 1e6:.1f} MB, painted after {painted} ms, searched in {searched:.0f} ms"
    )
    assert browser.text("#summary") == "20,000 places"
    assert browser.text("#found") == "1 place"
    assert painted < 20_000
    assert drawn < 2_000
    assert searched < 5_000
    browser.js("search.focus()")
    browser.key(ENTER)
    assert browser.text("#place h2") == "Paikka 19999"
    browser.frame()
    browser.click_at(*on_screen(browser, lng[19_999], lat[19_999]))
    assert browser.text("#place h2") == "Paikka 19999"


def test_a_sample_and_a_strange_source_say_so(browser: Browser, tmp_path: Path) -> None:
    found = inspect_file(city(tmp_path, [f"x{i}" for i in range(50)], *spread(50), ids="poi-{}"), Look(places=0))
    assert found.city is not None
    write_page(found.city, tmp_path / "map.html", "t", seed=7, most=30)
    browser.open(tmp_path / "map.html")
    assert browser.text("#summary") == "A sample of 30 of 50 places (seed 7)"
    assert browser.text("#attribution") == "Source of the data: unknown"
    assert int(browser.js("return canvas.dataset.drawn")) == 30
    assert json.loads(browser.text("#data"))["kinds"] == ["shop", "amenity", "railway"]
