"""The page of a fold in a real browser: zooming, dragging, keys, tables, and how it looks on screens of any width."""

from __future__ import annotations

from typing import Any

import pytest

from support.browser import PHONE
from support.graph_browser import CONTRASTS, DESK, NARROW, SPILT, at, in_sight, panel, tops

pytestmark = pytest.mark.browser


def test_zoom_by_buttons_keys_and_wheel_keeps_the_place(show: Any) -> None:
    browser = show("large")

    def scale() -> int:
        return int(at(browser, "#scale").text.split()[0])

    start = scale()
    at(browser, "[data-zoom=in]").click()
    assert scale() > start
    at(browser, "[data-zoom=out]").click()
    assert scale() == start
    canvas = at(browser, ".canvas[data-side=before]")
    canvas.send_keys("+")
    assert scale() > start
    canvas.send_keys("0")
    width = "const c = document.querySelector('.canvas'); return c.scrollWidth - c.clientWidth"
    assert browser.execute_script(width) <= 1
    browser.execute_script("document.querySelector('.canvas').scrollTop = 900")
    under = browser.execute_script(
        "const c = document.querySelector('.canvas'), b = c.getBoundingClientRect();"
        "const s = parseFloat(document.querySelector('#scale').textContent);"
        "const y = (c.scrollTop + 200) / s;"
        "c.dispatchEvent(new WheelEvent('wheel', {deltaY: -60, ctrlKey: true, cancelable: true, bubbles: true,"
        " clientX: b.left + 100, clientY: b.top + 200}));"
        "return [y * s, (c.scrollTop + 200) / parseFloat(document.querySelector('#scale').textContent) * s]"
    )
    assert under[1] == pytest.approx(under[0], rel=0.05)


def test_dragging_moves_the_graph_and_chooses_nothing(show: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser = show("large")
    at(browser, "#graph").location_once_scrolled_into_view  # noqa: B018
    node = at(browser, "#before-14 .box")
    ActionChains(browser).click_and_hold(node).move_by_offset(-40, -120).move_by_offset(0, -20).release().perform()
    assert tops(browser)[0] == pytest.approx(140, abs=3)
    assert browser.find_elements("css selector", ".node.chosen") == []
    node.click()
    assert "chosen" in at(browser, "#before-14").get_attribute("class")


def test_keys_walk_along_the_lines(show: Any) -> None:
    browser = show("small")
    first = at(browser, "#before-0")
    assert first.get_attribute("tabindex") == "0"
    assert first.aria_role == "button"
    assert first.accessible_name == "input, x"
    first.send_keys("\ue015")
    active = browser.switch_to.active_element
    assert active.get_attribute("id") == "before-1"
    active.send_keys("\ue014")
    beside = browser.switch_to.active_element
    assert beside.get_attribute("id") != "before-1"
    beside.send_keys("\ue012")
    active = browser.switch_to.active_element
    active.send_keys("\n")
    assert "stages.0.0.conv_dw.branches.0.conv" in panel(browser)
    active.send_keys("\ue013")
    assert browser.switch_to.active_element.get_attribute("id") == "before-0"
    browser.switch_to.active_element.send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "query"


def test_the_outline_opens_and_leads_to_a_module(show: Any) -> None:
    browser = show("large")
    assert "stages" in at(browser, "#tree").text
    toggle = at(browser, "#tree .toggle[aria-label='Modules inside stages']")
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "true"
    at(browser, "#tree .toggle[aria-label='Modules inside stages.1']").click()
    at(browser, "#tree .go[title='stages.1.4']").click()
    assert panel(browser).startswith("stages.1.4")
    assert "35 → " in panel(browser)
    chosen = browser.find_elements("css selector", "svg[data-side=before] .node.chosen")
    assert len(chosen) == 35
    toggle.click()
    assert toggle.get_attribute("aria-expanded") == "false"
    assert not at(browser, "#tree .go[title='stages.1.4']").is_displayed()


def test_the_map_leads_to_a_place(show: Any) -> None:
    browser = show("large")
    browser.execute_script("document.querySelector('.work').scrollIntoView()")
    at(browser, ".pane[data-side=before] .map").click()
    browser.execute_async_script("const done = arguments[0]; setTimeout(done, 100)")
    whole, window = browser.execute_script(
        "const c = document.querySelector('.canvas'); return [c.scrollHeight, c.clientHeight]"
    )
    assert tops(browser)[0] == pytest.approx((whole - window) / 2, rel=0.02)
    assert tops(browser)[1] == pytest.approx(tops(browser)[0], abs=1)


def test_the_table_is_sorted_sifted_and_leads_into_the_graph(show: Any) -> None:
    browser = show("small")
    read = (
        "return [...document.querySelectorAll('#table tbody tr')].filter((r) => !r.hidden)"
        ".map((r) => r.cells[Number(arguments[0])].textContent.trim())"
    )
    lines = browser.execute_script(read, 4)
    title = browser.find_elements("css selector", "#table .sort")[4]
    browser.execute_script("arguments[0].click()", title)
    assert browser.execute_script(read, 4) == sorted(lines, key=lambda line: int(line.split(":")[1]))
    browser.execute_script("arguments[0].click()", title)
    assert browser.execute_script(read, 4)[0] == max(lines, key=lambda line: int(line.split(":")[1]))
    assert browser.find_elements("css selector", "#table th")[4].get_attribute("aria-sort") == "descending"
    at(browser, "[data-keep=left]").click()
    assert set(browser.execute_script(read, 2)) == {"left"}
    assert at(browser, "#kept").text == "6 shown"
    at(browser, "#sift").send_keys("0.1.se")
    assert sorted(browser.execute_script(read, 0)) == ["stages.0.1.se.fc1", "stages.0.1.se.fc2"]
    at(browser, "#table tr:not([hidden]) .jump").click()
    assert "stages.0.1.se.fc" in panel(browser)
    browser.execute_script("document.querySelectorAll('#regions .sort')[4].click()")
    order = "return [...document.querySelectorAll('#regions tbody tr')].map((r) => Number(r.cells[4].dataset.value))"
    assert browser.execute_script(order) == sorted(browser.execute_script(order))


def test_legend_refusals_and_graph_choice(show: Any) -> None:
    browser = show("small")
    at(browser, "[data-outcome='rolled back']").click()
    assert panel(browser).startswith("5 rolled back")
    at(browser, "[data-show=after]").click()
    assert not at(browser, ".canvas[data-side=before]").is_displayed()
    assert at(browser, "[data-show=after]").get_attribute("aria-pressed") == "true"
    at(browser, "#before-0")
    browser.execute_script("document.querySelector('#refusals .jump').click()")
    assert panel(browser).startswith("stages.0.0.se.fc1")


@pytest.mark.parametrize("name", ["small", "single"])
def test_no_text_leaves_its_box_or_meets_another(show: Any, name: str) -> None:
    browser = show(name)
    while int(at(browser, "#scale").text.split()[0]) < 100:
        at(browser, "[data-zoom=in]").click()
    assert browser.execute_script(SPILT) == []


@pytest.mark.parametrize("width", [DESK, NARROW, PHONE])
def test_the_page_never_scrolls_sideways(show: Any, width: int) -> None:
    browser = show("large", width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    at(browser, "#before-0")
    shown = [at(browser, f".canvas[data-side={side}]").is_displayed() for side in ("before", "after")]
    assert shown == [True, width != PHONE]
    assert in_sight(browser, "#before-0")
    assert at(browser, "#panel").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(show: Any, scheme: str) -> None:
    browser = show("small", scheme=scheme)
    at(browser, "#before-2 .box").click()
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 300
    assert [entry for entry in found if entry[1] < 4.5] == []


def test_names_are_text_and_run_nothing(show: Any) -> None:
    browser = show("nasty")
    at(browser, "#before-0 .box").click()
    assert "</script><script>document.title=2</script>" in panel(browser)
    assert "<img src=x" in panel(browser)
    at(browser, "#query").send_keys("</script>\n")
    assert at(browser, "#found").text == "1 of 2"
    assert browser.title == "One: before and after the fold"
    assert browser.find_elements("css selector", "img") == []


def test_a_single_operator_needs_no_map(show: Any) -> None:
    browser = show("single")
    assert not at(browser, ".map").is_displayed()
    assert "Nothing folds" in at(browser, ".lead").text
    at(browser, "#after-0 .box").click()
    assert "conv 1x1" in panel(browser)
