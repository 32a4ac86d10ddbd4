"""Chromium, driven by selenium and the Chrome DevTools protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Browser:
    """A Chromium window; coordinates are CSS pixels from the top left of the page."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def set_screen(self, width: int = 1280, height: int = 800, dark: bool = False, touch: bool = False) -> None:
        """Set page size, colour scheme and whether the pointer is a finger."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def open(self, page: Path) -> None:
        """Open a file in a blank window with empty logs."""
        self.driver.get("about:blank")
        for log in ("performance", "browser"):
            self.driver.get_log(log)  # reading a log empties it
        self.driver.get(page.as_uri())

    def js(self, script: str, *values: Any) -> Any:
        """Run a script in the page and return its result."""
        return self.driver.execute_script(script, *values)

    def wait(self, script: str, seconds: float = 20.0) -> None:
        """Wait until a script returns a true value."""
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.driver, seconds, 0.02).until(lambda driver: driver.execute_script(script))

    def wait_for_frame(self) -> None:
        """Wait for two animation frames, so that requested drawing is done."""
        self.driver.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        )

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.js("return document.querySelector(arguments[0]).textContent", selector))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all matching elements."""
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector))

    def press(self, *keys: str) -> None:
        """Press keys in the focused element, and wait for a frame."""
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()
        self.wait_for_frame()

    def mouse(self, kind: str, x: float, y: float, **options: Any) -> None:
        """Send a mouse event of the DevTools protocol."""
        values = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1} | options
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", values)

    def click(self, x: float, y: float) -> None:
        """Click with the mouse at a point, and wait for a frame."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, x, y)
        self.wait_for_frame()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Send a touch event of the DevTools protocol with these fingers."""
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    def requests(self) -> list[str]:
        """Return the addresses requested since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]

    def console_errors(self) -> list[str]:
        """Return the warnings and errors on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def luminance(rgb: tuple[int, ...]) -> float:
    """Return the relative luminance of a colour (WCAG 2.1)."""
    parts = [c / 255 for c in rgb]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the contrast ratio of two colours (WCAG 2.1)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
