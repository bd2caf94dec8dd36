"""The page of a fold in a real browser: choosing, searching, what a click tells."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.browser import PHONE
from support.graph_browser import DESK, NARROW, at, in_sight, panel, tops

pytestmark = pytest.mark.browser


def test_a_page_of_900_operators_opens_quickly_and_answers(show: Any) -> None:
    start = time.monotonic()
    browser = show("large")
    at(browser, "#before-900").get_attribute("id")
    assert time.monotonic() - start < 3
    start = time.monotonic()
    at(browser, "#query").send_keys("se.fc1")
    at(browser, "#next").click()
    assert "stages.0.0.se.fc1" in panel(browser)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("width", [DESK, NARROW, PHONE])
def test_figures_stay_in_their_cards(show: Any, width: int) -> None:
    browser = show("timed", width)
    script = """
      return [...document.querySelectorAll(".facts div")].filter((card) => {
        const box = card.getBoundingClientRect(), range = document.createRange();
        range.selectNodeContents(card);
        const text = range.getBoundingClientRect();
        return text.left < box.left || text.right > box.right || text.bottom > box.bottom;
      }).map((card) => card.textContent)"""
    assert browser.execute_script(script) == []
    assert browser.execute_script("return document.querySelectorAll('.facts div').length") == 6


def test_a_click_on_an_operator_tells_what_became_of_it(show: Any) -> None:
    browser = show("small")
    at(browser, "#before-2 .box").click()
    told = panel(browser)
    for part in (
        "BN",
        "stages.0.0.conv_dw.branches.0.bn",
        "net.py:12",
        "1 × 48 × 28 × 28",
        "folded into stages.0.0.conv_dw",
    ):
        assert part in told
    for part in (
        "0 collapse",
        "Conv2d(48, 48, 3)",
        "1.360 M → 340.0 k",
        "13 → 1",
        "BN after a convolution scales its rows",
    ):
        assert part in told
    assert "relative error 1.2e-16, bound 1.0e-13" in told
    assert "chosen" in at(browser, "#before-2").get_attribute("class")
    near = browser.execute_script(
        "return [...document.querySelectorAll('.near')].map((e) => [e.dataset.from, e.dataset.to])"
    )
    assert sorted(near) == [["1", "2"], ["2", "10"]]


def test_a_click_on_what_was_left_tells_why(show: Any) -> None:
    browser = show("small")
    at(browser, "#query").send_keys("stages.0.0.se.fc1\n")
    told = panel(browser)
    assert "left" in told
    assert "its only linear neighbour is a mean" in told
    assert "Nothing to do." in told


def test_the_panels_links_lead_along_the_graph(show: Any) -> None:
    browser = show("small")
    at(browser, "#before-2 .box").click()
    at(browser, "#panel .link").click()
    assert "stages.0.0.conv_dw.branches.0.conv" in panel(browser)
    assert "chosen" in at(browser, "#before-1").get_attribute("class")


def test_a_region_is_lit_in_both_graphs_and_told_from_its_hull(show: Any) -> None:
    browser = show("small")
    move = "document.querySelector(arguments[0]).dispatchEvent(new PointerEvent(arguments[1], {bubbles: true}))"
    browser.execute_script(move, "#before-1 .box", "pointerover")
    lit = browser.execute_script(
        "return [...document.querySelectorAll('.node.hot')]"
        ".map((n) => [n.ownerSVGElement.dataset.side, n.dataset.region])"
    )
    assert {tuple(entry) for entry in lit} == {("before", "0"), ("after", "0")}
    browser.execute_script(move, ".hull[data-region='1']", "click")
    assert panel(browser).startswith("1 collapse")
    assert "Operators before (13)" in panel(browser)
    assert len(browser.find_elements("css selector", ".node.chosen")) == 13 + 1


def test_search_counts_highlights_and_goes_round(show: Any) -> None:
    browser = show("large")
    query = at(browser, "#query")
    query.send_keys("STAGES.1.3.conv_pw.branches.2")
    hits = browser.find_elements("css selector", ".node.hit")
    assert at(browser, "#found").text == f"{len(hits)} found"
    assert {"stages.1.3.conv_pw.branches.2.conv", "stages.1.3.conv_pw.branches.2.bn"} == {
        hit.find_element("css selector", "title").get_attribute("textContent").split(", ")[1] for hit in hits
    }
    count = len(hits)
    seen = []
    for k in range(count + 1):
        query.send_keys("\n")
        assert at(browser, "#found").text == f"{k % count + 1} of {count}"
        current = at(browser, ".node.current").get_attribute("id")
        assert in_sight(browser, f"#{current}", current.split("-")[0])
        seen.append(current)
    assert len(set(seen)) == count
    assert seen[0] == seen[-1]
    at(browser, "#previous").click()
    assert at(browser, ".node.current").get_attribute("id") == seen[-2]
    # The outline shows the way to what was found.
    assert at(browser, "#tree .go[title='stages.1.3.conv_pw.branches.2']").is_displayed()
    query.send_keys("no such module")
    assert at(browser, "#found").text == "no match"
    assert browser.find_elements("css selector", ".node.hit") == []
    query.send_keys("\ue00c")
    assert at(browser, "#found").text == ""
    assert browser.find_elements("css selector", ".searching") == []


def test_both_graphs_scroll_together_and_line_up(show: Any) -> None:
    browser = show("large")
    browser.execute_script("document.querySelector('.canvas[data-side=after]').scrollTop = 3000")
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 100)")
    assert tops(browser) == [3000, 3000]
    middle = (
        "const box = (s) => [...document.querySelectorAll(s)].map((n) => n.getBoundingClientRect());"
        "const before = box('#graph .canvas[data-side=before] .node[data-region=\"30\"]');"
        "const [after] = box('#graph .canvas[data-side=after] .node[data-region=\"30\"]');"
        "return [Math.min(...before.map((b) => b.top)), after.top, Math.max(...before.map((b) => b.top))]"
    )
    first, new, last = browser.execute_script(middle)
    assert first <= new <= last
