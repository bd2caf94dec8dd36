"""What the browser tests of a fold's page ask of it."""

from __future__ import annotations

from typing import Any

from support.browser import COLOURS

__all__ = ["CONTRASTS", "DESK", "NARROW", "SPILT", "at", "in_sight", "panel", "tops"]

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
CONTRASTS = (
    COLOURS
    + """
// A canvas turns any notation of a colour into bytes.
const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const bytes = (c, under) => { pen.fillStyle = `rgb(${under.slice(0, 3).join(",")})`; pen.fillRect(0, 0, 1, 1);
  pen.fillStyle = c; pen.fillRect(0, 0, 1, 1); return [...pen.getImageData(0, 0, 1, 1).data]; };
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
)


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
