"""A browser for tests that look at a page: Debian's chromium, without a window."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

__all__ = ["COLOURS", "PHONE", "browser", "opener", "set_screen"]

PHONE = 390
# Functions for scripts that run in a page: a colour's numbers, its luminance (WCAG), what is drawn behind a node, and
# how two colours contrast.
COLOURS = """
const parse = (c) => { const m = c.match(/[\\d.]+/g); return m ? m.map(Number) : null; };
const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((v) => {
  v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (node) => { for (; node; node = node.parentElement) {
  const c = parse(getComputedStyle(node).backgroundColor);
  if (c && (c.length < 4 || c[3] === 1)) return c; } return [255, 255, 255]; };
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05); };
"""
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def _missing(reason: str) -> None:
    if os.environ.get("CONVFOLD_REQUIRE_BROWSER") == "1":
        pytest.fail(f"CONVFOLD_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium that keeps what its console says; without one the test is skipped, or fails where one is required."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or driver is None:
        _missing("chromium and chromedriver are not installed")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        _missing("selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


def set_screen(browser: Any, width: int, scheme: str) -> None:
    """A screen of this width, a phone's for `PHONE`, and of this colour scheme."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE},
    )


def opener(browser: Any, pages: Mapping[str, Path], usual: int) -> Iterator[Any]:
    """For a fixture: opens a page by name; afterwards, nothing may have been complained of or loaded."""

    def opened(name: str, width: int = usual, scheme: str = "light") -> Any:
        set_screen(browser, width, scheme)
        browser.get(pages[name].as_uri())
        return browser

    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
