"""The demo's page in a real browser: on a desk, on a phone, in the dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from support.browser import COLOURS, PHONE, set_screen

from .conftest import Demo

pytestmark = pytest.mark.browser

DESK = 1200
# WCAG AA: text, and graphics that carry meaning.
TEXT_CONTRAST, LINE_CONTRAST = 4.5, 3.0

# Colours as drawn on their true background: [what, contrast, is it text] for all that can be read or seen.
CONTRASTS = (
    COLOURS
    + """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || node.closest("style, title")) continue;
  const style = getComputedStyle(node);
  const colour = parse(node.closest("svg") ? style.fill : style.color);
  found.push([walker.currentNode.textContent.trim().slice(0, 40), contrast(colour, behind(node)), true]);
}
for (const node of document.querySelectorAll("svg path")) {
  const style = getComputedStyle(node), stroke = style.stroke;
  if (stroke === "none" || parseFloat(style.strokeWidth) < 1.5 || parseFloat(style.strokeOpacity) < 1) continue;
  found.push(["line " + stroke, contrast(parse(stroke), behind(node)), false]);
}
return found;
"""
)
SHAPES = """
return [...document.querySelectorAll("svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const drawn = [...svg.querySelectorAll("path, rect, use")].filter((n) => {
    const b = n.getBoundingClientRect(); return b.width + b.height > 0; }).length;
  return [svg.getAttribute("aria-label"), svg.querySelector("title").textContent, box.left, box.width, box.height,
    drawn, getComputedStyle(svg).visibility];
});
"""


def show(browser: Any, demo: Demo, width: int, scheme: str = "light") -> None:
    """Open the report in a window of this width and colour scheme."""
    set_screen(browser, width, scheme)
    browser.get((Path(demo.out) / "report.html").resolve().as_uri())


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_no_console_message_and_nothing_loaded(browser: Any, demo: Demo, width: int) -> None:
    browser.get_log("browser")
    show(browser, demo, width)
    assert browser.title == "Train wide, ship plain"
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_every_plot_is_visible_and_named(browser: Any, demo: Demo, width: int, scheme: str) -> None:
    show(browser, demo, width, scheme)
    plots = browser.execute_script(SHAPES)
    # One card of curves, two plots of errors, three of costs, and the tiles: three branches and the fold.
    assert len(plots) == 1 + 2 + 3 + 4
    for name, title, left, wide, high, drawn, visibility in plots:
        assert name, "a plot has no name for a screen reader"
        assert title == name
        assert visibility == "visible"
        assert wide >= 60, name
        assert high >= 60, name
        assert left >= 0, name
        assert left + wide <= width, name
        assert drawn >= 9, name


def test_no_sideways_scrolling_on_a_phone(browser: Any, demo: Demo) -> None:
    show(browser, demo, PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= PHONE
    tables = browser.execute_script(
        "return [...document.querySelectorAll('table')].map((t) => ["
        "t.getBoundingClientRect().width, t.parentElement.clientWidth, getComputedStyle(t.parentElement).overflowX])"
    )
    assert any(inner > outer for inner, outer, _ in tables), "no table is wide enough for this test to mean anything"
    assert all(overflow == "auto" for _, _, overflow in tables)
    smallest = browser.execute_script(
        "return Math.min(...[...document.querySelectorAll('svg text')].map((t) => t.getBoundingClientRect().height))"
    )
    assert smallest >= 8, "the plots' text is too small on a phone"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(browser: Any, demo: Demo, scheme: str) -> None:
    show(browser, demo, DESK, scheme)
    found = browser.execute_script(CONTRASTS)
    texts = [(what, contrast) for what, contrast, is_text in found if is_text]
    drawn = [(what, contrast) for what, contrast, is_text in found if not is_text]
    assert len(texts) > 100
    assert len(drawn) >= 6
    assert [entry for entry in texts if entry[1] < TEXT_CONTRAST] == []
    assert [entry for entry in drawn if entry[1] < LINE_CONTRAST] == []


def test_dark_mode_has_colours_of_its_own(browser: Any, demo: Demo) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        show(browser, demo, DESK, scheme)
        colours[scheme] = browser.execute_script(
            "const of = (s, p) => getComputedStyle(document.querySelector(s))[p];"
            "return [of('body', 'backgroundColor'), of('body', 'color'), of('figure svg text', 'fill'),"
            " of('figure', 'backgroundColor'), of('.cell', 'fill'), of('.eyebrow', 'color')]"
        )
    assert all(a != b for a, b in zip(colours["light"], colours["dark"], strict=True))
