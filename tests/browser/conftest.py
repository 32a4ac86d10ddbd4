"""A headless Chromium. The tests are skipped, with a message, without Chromium, its driver or selenium."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.helpers.browser import Browser

SWITCHES = ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
SWITCHES += ("disable-background-networking", "disable-component-update", "window-size=1280,800")


def find_program(*names: str) -> str:
    """Return the path of the first installed program; skip the test if there is none."""
    path = next((path for name in names if (path := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"NOT TESTED in a browser: {names[0]} is not installed (apt-get install chromium chromium-driver)")
    return path


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser with an empty profile for all tests."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="NOT TESTED in a browser: selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = find_program("chromium", "chromium-browser", "google-chrome")
    for switch in (*SWITCHES, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{switch}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(find_program("chromedriver", "chromium.chromedriver")))
    driver.set_page_load_timeout(60)
    yield Browser(driver)
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The browser with a desktop screen and the light colour scheme."""
    chromium.set_screen()
    return chromium
