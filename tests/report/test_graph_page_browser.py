"""The page of a fold in a real browser: choosing, searching, zooming, with a mouse, with keys, on a narrow screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")

from convfold.report.graph_page import write_graph_page
from support.browser import PHONE, set_screen

from .graph_examples import explanation, single

pytestmark = pytest.mark.browser

DESK, NARROW = 1400, 700
# Texts of nodes that leave their box, or meet each other, at full size.
SPILT = """
return [...document.querySelectorAll("svg.graph .node")].filter((node) => {
  const box = node.querySelector(".box").getBoundingClientRect();
  const texts = [...node.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
  const out = texts.some((t) => t.left < box.left || t.right > box.right || t.top < box.top || t.bottom > box.bottom);
  const meet = texts.some((a, k) => texts.slice(k + 1).some((b) => a.width * b.width > 0
    && a.left < b.right && b.left < a.right && a.top + 1 < b.bottom - 1 && b.top + 1 < a.bottom - 1));
  const mark = node.querySelector(".mark"), what = node.querySelector(".what").getBoundingClientRect();
  return out || meet || (mark && mark.getBoundingClientRect().left < what.right);
}).map((node) => node.textContent);
"""
# [text, contrast on its true background] of all that stands beside the graphs, and in them.
CONTRASTS = """
const parse = (c) => { const m = c.match(/[\\d.]+/g); return m ? m.map(Number) : null; };
const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((v) => {
  v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const behind = (node) => { for (; node; node = node.parentElement) {
  const c = parse(getComputedStyle(node).backgroundColor);
  if (c && (c.length < 4 || c[3] === 1)) return c; } return [255, 255, 255]; };
// A canvas turns any notation of a colour into bytes.
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const bytes = (c, under) => { pen.fillStyle = `rgb(${under.slice(0, 3).join(",")})`; pen.fillRect(0, 0, 1, 1);
  pen.fillStyle = c; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05); };
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement, said = walker.currentNode.textContent.trim();
  if (!said || node.closest("script, style, title, :disabled")) continue;
  const style = getComputedStyle(node), ground = behind(node);
  const box = node.closest(".node") && node.closest(".node").querySelector(
    node.matches(".number") && !node.closest(".o-back") ? ".strip" : ".box");
  const under = box ? bytes(getComputedStyle(box).fill, ground) : ground;
  found.push([said.slice(0, 40), contrast(parse(node.closest("svg") ? style.fill : style.color), under)]);
}
return found;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    wanted = {"large": explanation(27), "small": explanation(3), "single": single()}
    assert len(wanted["large"]["graphs"]["before"]["nodes"]) > 900
    wanted["nasty"] = single('<img src=x onerror="document.title=1">', "</script><script>document.title=2</script>")
    ratio = {"median": 3.31, "low": 3.2, "high": 3.4, "rounds": 9}
    times = {"before": 1234.5, "after": 1000.1, "ratio": ratio}
    wanted["timed"] = explanation(3) | {
        "before": {"macs": 1_512_581_120, "convolutions": 45, "operators": 1240, "params": 9_105_640},
        "after": {"macs": 1_361_451_008, "convolutions": 23, "operators": 1046, "params": 8_309_384},
        "latency": [{"runtime": name, **times} for name in ("ONNX Runtime", "OpenVINO")],
    }
    for name, told in wanted.items():
        write_graph_page(folder / f"{name}.html", told)
    return {name: folder / f"{name}.html" for name in wanted}


@pytest.fixture
def show(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    """Opens a page; afterwards, nothing may have been complained of or loaded."""

    def opened(name: str, width: int = DESK, scheme: str = "light") -> Any:
        set_screen(browser, width, scheme)
        browser.get(pages[name].as_uri())
        return browser

    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0


def at(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def panel(browser: Any) -> str:
    return str(at(browser, "#panel").text)


def in_sight(browser: Any, selector: str, side: str = "before") -> bool:
    """Whether the node lies inside its pane's window."""
    return bool(
        browser.execute_script(
            "const n = document.querySelector(arguments[0]).getBoundingClientRect();"
            "const c = document.querySelector(`.canvas[data-side=${arguments[1]}]`).getBoundingClientRect();"
            "return n.left >= c.left && n.right <= c.right && n.top >= c.top && n.bottom <= c.bottom",
            selector,
            side,
        )
    )


def tops(browser: Any) -> list[float]:
    return list(browser.execute_script("return [...document.querySelectorAll('.canvas')].map((c) => c.scrollTop)"))


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
