"""The map page in Chromium: positions and colours of points, selection, search, legend, keys, touch, safety."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.tables import write_pois, write_views
from m3gal_cli.inspect import InspectOptions, inspect_file
from m3gal_cli.inspect.page import write_page
from tests.helpers.browser import Browser, contrast, luminance

pytestmark = pytest.mark.integration

ENTER, DOWN, ESCAPE, HOME, RIGHT = "\ue007", "\ue015", "\ue00c", "\ue011", "\ue014"
HOSTILE = ["</script><script>window.hacked = 1</script>", "<img src=x onerror='window.hacked = 1'>"]
HOSTILE += ["\"'`${window.hacked = 1}`'\"", "line\u2028separator\u2029<!--<script>"]
HOSTILE += ["&lt;b&gt; <b>bold</b> {{data}}", "javascript:window.hacked=1"]
KINDS = ("shop=bakery", "shop=kiosk", "amenity=cafe", "railway=station")
NAMES = [f"Kauppa {i}" for i in range(18)] + ["莫干山路东村", "Café Ärlig"]
EARTH_M = 2 * math.pi * 6371008.8


def grid(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return lng and lat of places on a grid of about 100 m, off the lines of the graticule."""
    side, steps = math.ceil(math.sqrt(count)), np.arange(count)
    return 24.9007 + (steps % side) * 0.002, 60.1003 + (steps // side) * 0.001


def make_page(folder: Path, names: list[str], places: tuple[np.ndarray, np.ndarray]) -> Path:
    """Write the tables of a city with three views per place, and its map page; return the page."""
    pois = pd.DataFrame({"poi_id": [f"n{i}" for i in range(len(names))], "name": names, "street": "Katu"})
    pois["lng"], pois["lat"] = places
    pois["address"] = [f"{name}, Katu {i}" for i, name in enumerate(names)]
    pois["category"] = [KINDS[i % len(KINDS)] for i in range(len(names))]
    write_pois(pois, folder / "poi_database_t.csv")
    columns = pois[["poi_id", "lng", "lat"]].assign(address2=pois["address"], kind2="poi")
    door = columns.assign(address1=[f"{name} door {i}" for i, name in enumerate(names)], kind1="door")
    corner = columns.assign(address1="corner of " + pois["name"], kind1="corner")
    write_views(pd.concat([door, corner], ignore_index=True), folder / "same_poi_views_t.csv")
    city = inspect_file(folder / "same_poi_views_t.csv", InspectOptions(places=0)).city
    assert city is not None
    write_page(city, folder / "map.html", "Kaupunki 城市")
    return folder / "map.html"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 20 places."""
    return make_page(tmp_path_factory.mktemp("small"), NAMES, grid(20))


def open_map(browser: Browser, path: Path) -> Browser:
    """Open a page and wait until its map is drawn."""
    browser.open(path)
    browser.wait("return document.getElementById('canvas').dataset.painted !== undefined")
    return browser


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    """The browser with the page of 20 places open."""
    return open_map(browser, file)


def mercator(lng: float, lat: float) -> tuple[float, float]:
    """Return Web Mercator coordinates in the unit square."""
    return lng / 360 + 0.5, 0.5 - math.asinh(math.tan(math.radians(lat))) / (2 * math.pi)


def view(page: Browser) -> list[float]:
    """Return the centre of the map in degrees, and its scale in pixels of the whole world."""
    page.wait_for_frame()
    return [float(part) for part in page.js("return canvas.dataset.view").split()]


def drawn(page: Browser) -> int:
    """Return the number of points drawn at full strength."""
    page.wait_for_frame()
    return int(page.js("return canvas.dataset.drawn"))


def box(page: Browser) -> list[float]:
    """Return left, top, width and height of the map."""
    return list(page.js("const b = canvas.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"))


def point_of(page: Browser, i: int, places: tuple[np.ndarray, np.ndarray] = grid(20)) -> tuple[float, float]:
    """Return the page coordinates where place i must be drawn."""
    lng, lat, scale = view(page)
    (x, y), (centre_x, centre_y) = mercator(places[0][i], places[1][i]), mercator(lng, lat)
    left, top, width, height = box(page)
    return (x - centre_x) * scale + left + width / 2, (y - centre_y) * scale + top + height / 2


def pixel(page: Browser, x: float, y: float) -> tuple[int, ...]:
    """Return the colour of the map at a point of the page."""
    read = "const b = canvas.getBoundingClientRect(), k = canvas.width / b.width; return [...canvas.getContext('2d')"
    read += ".getImageData(Math.round((arguments[0] - b.left) * k), Math.round((arguments[1] - b.top) * k), 1, 1).data]"
    return tuple(page.js(read, x, y)[:3])


def colour(page: Browser, name: str) -> tuple[int, ...]:
    """Return the value of a CSS colour variable."""
    value = page.js(f"return getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    return tuple(int(value[i : i + 2], 16) for i in (1, 3, 5))


def selected(page: Browser) -> str | None:
    """Return the title of the selected place."""
    return page.js("return document.querySelector('#details h2')?.textContent ?? null")  # type: ignore[no-any-return]


def search(page: Browser, text: str) -> None:
    page.js("search.value = arguments[0]; search.dispatchEvent(new Event('input'))", text)


def test_the_page_requests_only_itself_and_shows_all_places(page: Browser, file: Path) -> None:
    assert page.requests() == [file.as_uri()]
    assert page.console_errors() == []
    assert page.driver.title == "Kaupunki 城市"
    assert (page.text("#summary"), page.text("#attribution")) == ("20 places", "© OpenStreetMap contributors")
    assert drawn(page) == 20


def test_points_are_drawn_at_their_position_in_the_colour_of_their_kind(page: Browser) -> None:
    """The scale bar has the length that it states."""
    colours = {"shop": "--k0", "amenity": "--k1", "railway": "--k2"}  # by number of places, then by name
    left, _, width, _ = box(page)
    for i in range(20):
        x, y = point_of(page, i)
        assert pixel(page, x, y) == colour(page, colours[KINDS[i % 4].split("=")[0]]), i
        assert left < x < left + width
    number, unit = page.text("#metres").split()
    _, lat, scale = view(page)
    metres = page.js("return scale.getBoundingClientRect().width") / scale * EARTH_M * math.cos(math.radians(lat))
    assert metres == pytest.approx(float(number) * (1000 if unit == "km" else 1), rel=0.01)


def test_a_few_far_places_do_not_shrink_the_city(browser: Browser, tmp_path: Path) -> None:
    places = grid(100)
    places[0][-3:] += 3.0
    page = open_map(browser, make_page(tmp_path, [f"x{i}" for i in range(100)], places))
    west, east = (point_of(page, i, places)[0] for i in (0, 9))
    left, _, width, _ = box(page)
    assert left < west < east < left + width
    assert east - west > width / 3
    assert drawn(page) == 97


def test_a_click_on_a_point_shows_facts_and_views(page: Browser) -> None:
    lng, lat = grid(20)
    for i in (7, 18):
        page.click(*point_of(page, i))
        assert selected(page) == NAMES[i]
        assert KINDS[i % 4] in page.text("#details .kind")
        assert f"n{i} · {lng[i]:.6f}, {lat[i]:.6f}" in page.text("#details .muted")
        assert page.texts("#details .views dt") == ["poi", "corner", "door"]
        views = [f"{NAMES[i]}, Katu {i}", f"corner of {NAMES[i]}", f"{NAMES[i]} door {i}"]
        assert page.texts("#details .views dd") == views
        assert page.texts("#details .facts dt") + page.texts("#details .facts dd") == ["street", "Katu"]
    x, y = point_of(page, 0)
    page.click(x + 20, y - 20)
    assert selected(page) == NAMES[18], "a click beside every point selects none"


def test_all_places_at_one_position_can_be_selected(browser: Browser, tmp_path: Path) -> None:
    places = np.array([24.9, 24.9, 24.9, 24.95]), np.array([60.1, 60.1, 60.1, 60.12])
    page = open_map(browser, make_page(tmp_path, ["one", "two", "three", "far"], places))
    page.click(*point_of(page, 0, places))
    assert (selected(page), page.texts("#same-location button")) == ("one", ["two", "three"])
    page.js("document.querySelectorAll('#same-location button')[1].click()")
    assert (selected(page), page.texts("#same-location button")) == ("three", ["one", "two"])


def test_search_finds_views_and_enter_centres_the_place(page: Browser) -> None:
    page.js("search.focus()")
    page.press("CORNER of kauppa 1")
    assert page.text("#result-count") == "9 places", "Kauppa 1, 10 to 17, by their views"
    assert page.texts("#results li")[0].startswith("Kauppa 1")
    assert drawn(page) == 9, "the others are dimmed"
    page.press(DOWN, DOWN, ENTER)
    assert selected(page) == "Kauppa 10"
    assert page.js("return search.getAttribute('aria-activedescendant')") == "option-1"
    left, top, width, height = box(page)
    assert point_of(page, 10) == pytest.approx((left + width / 2, top + height / 2), abs=1)
    page.press(ESCAPE)
    assert page.texts("#results li") == []
    page.press("ärlig", ENTER)
    assert selected(page) == "Café Ärlig"
    assert page.text("#announcement") == "Café Ärlig, railway, 3 views", "for screen readers"
    for text, name in (("ＫＡＵＰＰＡ 17", "Kauppa 17"), ("东村", "莫干山路东村")):
        search(page, text)
        assert [result[: len(name)] for result in page.texts("#results li")] == [name]


def test_the_legend_counts_and_filters_kinds(page: Browser) -> None:
    assert page.texts("#kinds label") == ["shop10", "amenity5", "railway5"]
    page.js("document.querySelectorAll('#kinds input')[1].click()")
    assert drawn(page) == 15
    x, y = point_of(page, 6)  # a café
    assert pixel(page, x, y) == colour(page, "--map-background")
    page.click(x, y)
    assert selected(page) is None, "a hidden place cannot be clicked"
    for button, count in (("none", 0), ("all", 20)):
        page.js(f"{button}.click()")
        assert drawn(page) == count


def test_keys_move_zoom_and_select(page: Browser) -> None:
    page.js("canvas.focus()")
    start = view(page)
    page.press("+")
    assert view(page)[2] == pytest.approx(start[2] * 1.5)
    page.press(RIGHT)
    lng, _, scale = view(page)
    assert lng == pytest.approx(start[0] + 80 / scale * 360)
    page.press(HOME)
    assert view(page) == pytest.approx(start)
    page.press(ENTER)
    points = np.array([mercator(x, y) for x, y in zip(*grid(20), strict=True)])
    nearest = int(np.argmin(np.hypot(*(points - mercator(*start[:2])).T)))
    assert page.text("#details .muted").startswith(f"n{nearest} ·"), "the place nearest to the centre"


def test_the_wheel_zooms_at_the_pointer_and_a_drag_moves_the_map(page: Browser) -> None:
    x, y = point_of(page, 3)
    mouse_x, mouse_y = round(x), round(y)  # wheel events have whole pixels
    before = view(page)[2]
    page.mouse("mouseWheel", mouse_x, mouse_y, deltaX=0, deltaY=-300)
    page.wait(f"return +canvas.dataset.view.split(' ')[2] > {before}")
    factor = view(page)[2] / before
    assert factor == pytest.approx(2.0)
    zoomed = (mouse_x + factor * (x - mouse_x), mouse_y + factor * (y - mouse_y))
    assert point_of(page, 3) == pytest.approx(zoomed, abs=0.01), "the point under the pointer stays there"
    for kind, dx in (("mouseMoved", 0), ("mousePressed", 0), ("mouseMoved", 30), ("mouseMoved", 60)):
        page.mouse(kind, mouse_x + dx, mouse_y, buttons=1)
    page.mouse("mouseReleased", mouse_x + 60, mouse_y, buttons=0)
    assert point_of(page, 3) == pytest.approx((zoomed[0] + 60, zoomed[1]), abs=0.01)
    assert selected(page) is None, "a drag is no click"


def test_hostile_names_are_shown_as_text(browser: Browser, tmp_path: Path) -> None:
    places = grid(len(HOSTILE))
    page = open_map(browser, make_page(tmp_path, HOSTILE, places))
    for i, name in enumerate(HOSTILE):
        page.click(*point_of(page, i, places))
        assert selected(page) == name
        assert page.texts("#details .views dd")[0] == f"{name}, Katu {i}"
    search(page, "katu")
    assert len(page.texts("#results li")) == len(HOSTILE)
    assert page.js("return window.hacked") is None
    assert page.js("return document.querySelectorAll('main img, main b, main script').length") == 0
    assert page.console_errors() == []
    assert page.requests() == [(tmp_path / "map.html").as_uri()]


@pytest.mark.parametrize("dark", [False, True])
def test_colours_have_enough_contrast_in_both_schemes(browser: Browser, file: Path, dark: bool) -> None:
    browser.set_screen(dark=dark)
    page = open_map(browser, file)
    assert (luminance(colour(page, "--background")) < 0.1) is dark
    grounds = [colour(page, name) for name in ("--map-background", "--background")]
    assert min(contrast(colour(page, f"--k{i}"), ground) for i in range(12) for ground in grounds) >= 3
    pairs = [("text", "background"), ("muted", "background"), ("text", "map-background")]
    pairs += [("grid-text", "map-background"), ("text", "selected")]
    assert min(contrast(colour(page, f"--{one}"), colour(page, f"--{other}")) for one, other in pairs) >= 4.5
    assert pixel(page, *point_of(page, 0)) == colour(page, "--k0"), "points have the colours of the scheme"


def test_every_control_has_an_accessible_name(page: Browser) -> None:
    page.js("canvas.focus()")
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "checkbox", "combobox", "searchbox", "listbox", "application", "DisclosureTriangle"}
    nodes = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
    controls = [(role, " ".join(name.split())) for role, name in nodes if role in roles]
    assert {role for role, _ in controls} >= {"button", "checkbox", "application"}
    assert ("checkbox", "shop 10") in controls
    assert [role for role, name in controls if not name] == []


def test_the_page_fits_a_phone_taps_select_and_two_fingers_zoom(browser: Browser, file: Path) -> None:
    browser.set_screen(390, 844, touch=True)
    page = open_map(browser, file)
    assert page.js("return document.documentElement.scrollWidth") <= 390
    page.touch("touchStart", point_of(page, 7))
    page.touch("touchEnd")
    page.wait_for_frame()
    assert selected(page) == "Kauppa 7"
    top = page.js("return document.querySelector('#details h2').getBoundingClientRect().top")
    assert top < 844, "the name is visible without scrolling"
    too_small = page.js(
        "return [...document.querySelectorAll('button, #search')].map(e => e.getBoundingClientRect())"
        ".filter(b => b.width && (b.width < 24 || b.height < 24)).length"
    )
    assert too_small == 0
    place, before = point_of(page, 3), view(page)[2]
    for kind, distance in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        page.touch(kind, place, (place[0] + distance, place[1]))
    page.touch("touchEnd")
    assert view(page)[2] / before == pytest.approx(2.0, rel=0.02)
    assert point_of(page, 3) == pytest.approx(place, abs=3), "the point under a finger stays there"
    assert selected(page) == "Kauppa 7", "two fingers select nothing"
