"""Diagrams drawn from expressions: well-formed, every operator's box there, and visible in a browser."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from convfold import blocks
from convfold.algebra import Affine, Chain, Concat, Conv, ConvTranspose, Flat, Identity, Op, Pad, Select, Sum
from convfold.algebra import op as read
from convfold.geometry import Axis, point
from convfold.report.diagram import diagram

SVG = "{http://www.w3.org/2000/svg}"
NEEDS: dict[str, tuple[Any, ...]] = {"dilated": (4, 4, 7), "repmlp": (4, 4, 2, 2)}


def block(name: str) -> torch.nn.Module:
    options = {} if name == "repmlp" else {"padding": 1}
    built = blocks.build(name, 2, *NEEDS.get(name, (4, 4, 3)), **options).eval()
    return built.partition if name == "repmlp" else built


def expected(op: Op) -> Counter[str]:
    """The label of every box, and the sign of every junction, from the expression alone."""
    if isinstance(op, Chain):
        return sum((expected(part) for part in op.parts), Counter())
    if isinstance(op, Sum):
        return sum((expected(term) for term in op.terms), Counter({"+": 1}))
    if isinstance(op, Concat):
        return sum((expected(term) for term in op.terms), Counter({"[ ]": 1}))
    if isinstance(op, Flat):
        return expected(op.inner)
    if isinstance(op, Identity) or (isinstance(op, Pad) and op.window == point(op.dims)):
        return Counter()
    kind = type(op).__name__
    if kind == "Affine":
        return Counter([{(True, False): "× v", (False, True): "+ b", (True, True): "× v + b"}[
            (op.scale is not None, op.shift is not None)]])  # fmt: skip
    if kind == "Pad":
        return Counter(["crop" if min(min(pair) for pair in op.pads) < 0 else "pad"])
    if kind in ("Norm", "Select"):
        return Counter([{"Norm": "BN", "Select": "channels"}[kind]])
    if not op.window:
        return Counter(["linear"])
    name = {"AvgPool": "avg", "Conv": "conv", "ConvTranspose": "transposed"}[kind]
    if kind != "AvgPool" and op.groups > 1:
        name = "depthwise" if op.groups == op.in_channels else "grouped"
    label = f"{name} {'×'.join(str(axis.kernel) for axis in op.window)}"
    rate = max(axis.dilation for axis in op.window)
    return Counter([label + (f", dilation {rate}" if rate > 1 and kind != "AvgPool" else "")])


def labels(svg: str) -> Counter[str]:
    return Counter(node.text for node in ElementTree.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("name", blocks.names())
def test_every_operator_of_a_block_has_its_box(name: str) -> None:
    module = block(name)
    expression = read(module)
    drawn = diagram(expression, f"{name}, train form")
    assert labels(drawn) == expected(expression)
    assert sum(labels(drawn).values()) >= 2


def test_labels() -> None:
    weight = torch.zeros(4, 1, 3, 3)
    window = (Axis(3, 1, 2, 1, 1), Axis(3))
    expression = (
        Conv(weight, None, window, 4)
        >> Pad(4, ((-1, 0), (0, 0)))
        >> Pad(4, ((1, 0), (0, 0)))
        >> Pad(4, ((0, 0), (0, 0)))
        >> Affine(torch.ones(4), torch.ones(4), 2)
        >> Select((1, 0), 4, 2)
        >> ConvTranspose(torch.zeros(2, 2, 2, 2), None, (Axis(2, 2), Axis(2, 2)))
    )
    names = ["depthwise 3×3, dilation 2", "crop", "pad", "× v + b", "channels", "transposed 2×2"]
    assert labels(diagram(expression, "t")) == Counter(names) == expected(expression)


@pytest.mark.parametrize("name", blocks.names())
def test_a_diagram_is_well_formed_and_all_of_it_lies_inside(name: str) -> None:
    root = ElementTree.fromstring(diagram(read(block(name)), 'A & "B" <C>'))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == root[0].text == 'A & "B" <C>'
    width, height = float(root.get("width", "0")), float(root.get("height", "0"))
    assert root.get("viewBox") == f"0 0 {width:.0f} {height:.0f}"
    boxes = [[float(node.get(key, "nan")) for key in ("x", "y", "width", "height")] for node in root.iter(f"{SVG}rect")]
    assert boxes
    for x, y, w, h in boxes:
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, a, b in boxes[i + 1 :]:
            assert x + w <= u or u + a <= x or y + h <= v or v + b <= y, "two boxes overlap"
    style = next(node for node in root if node.tag == f"{SVG}style").text or ""
    assert "prefers-color-scheme:dark" in style
    assert "url(" not in style
    assert "@import" not in style


# Every box with the text in it: [label, width of the box, width of the text, whether the text lies inside].
INSIDE = """
return [...document.querySelectorAll("g")].map((group) => {
  const box = group.querySelector("rect").getBoundingClientRect();
  const text = group.querySelector("text").getBoundingClientRect();
  return [group.textContent, box.width, text.width, text.left >= box.left && text.right <= box.right
    && text.top >= box.top && text.bottom <= box.bottom];
});
"""


@pytest.mark.browser
def test_a_browser_shows_every_diagram(browser: Any, tmp_path: Path) -> None:
    for name in blocks.names():
        path = tmp_path / f"{name}.svg"
        drawn = diagram(read(block(name)), name)
        path.write_text(drawn)
        browser.get(path.as_uri())
        size = browser.execute_script(
            "const box = document.documentElement.getBoundingClientRect(); return [box.width, box.height];"
        )
        root = ElementTree.fromstring(drawn)
        assert size == [float(root.get("width", "0")), float(root.get("height", "0"))]
        assert min(size) > 30
        shown = browser.execute_script(INSIDE)
        assert Counter(label for label, *_ in shown) == labels(drawn) - Counter({"+": 99, "[ ]": 99})
        for label, box, text, inside in shown:
            assert inside, f"{name}: {label!r}, {text:.0f} wide, leaves its box of {box:.0f}"
            assert text > 5
