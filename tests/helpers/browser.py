"""Chromium as the tests of this folder use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Browser:
    """Chromium with what the tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def screen(self, width: int = 1280, height: int = 800, dark: bool = False, touch: bool = False) -> None:
        """Set the size of the page in CSS pixels, the colour scheme and whether fingers point."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, page: Path) -> None:
        """Open a file and wait until its map is painted."""
        self.driver.get("about:blank")
        for log in ("performance", "browser"):  # what the page before asked for and said is not ours
            self.driver.get_log(log)
        self.driver.get(page.as_uri())
        self.wait("return document.getElementById('canvas').dataset.painted !== undefined")

    def js(self, script: str, *values: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, seconds: float = 20.0) -> None:
        """Wait until a script returns something true."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.02).until(lambda driver: driver.execute_script(script))

    def frame(self) -> None:
        """Wait until what was asked for is drawn: two frames."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def pixel(self, x: float, y: float) -> tuple[int, ...]:
        """Red, green and blue of the map at a point of the page."""
        read = "const b = canvas.getBoundingClientRect(), k = canvas.width / b.width;return [...canvas.getContext('2d')"
        read += (
            ".getImageData(Math.round((arguments[0] - b.left) * k), Math.round((arguments[1] - b.top) * k), 1, 1).data]"
        )
        return tuple(self.js(read, x, y)[:3])

    def text(self, selector: str) -> str:
        """What an element holds as text."""
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        """What each of the elements holds as text."""
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector))

    def key(self, *keys: str) -> None:
        """Press keys where the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def click_at(self, x: float, y: float) -> None:
        """Click with the mouse at a point of the page, in CSS pixels from the top left."""
        where = {"x": x, "y": y, "button": "left", "clickCount": 1}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, **where})
        self.frame()

    def tap_at(self, x: float, y: float) -> None:
        """Tap with a finger."""
        touch = {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]}
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.frame()

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [t["params"]["request"]["url"] for t in told if t["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What the console says, warnings and errors."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
