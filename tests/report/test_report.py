"""The page's parts: no colour of their own, nothing from outside, everything escaped."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from convfold.report import (
    Bar,
    Code,
    Curve,
    Dots,
    Fact,
    Figure,
    Figures,
    Page,
    Section,
    Table,
    Text,
    Tile,
    bars,
    curves,
    dots,
    equation,
    render,
)

CURVES = [
    Curve("a block", "accent", [1, 2, 3], [1.0, 0.5, 0.2], [0.9, 0.4, 0.1], [1.1, 0.6, 0.3]),
    Curve("plain", "plain", [1, 2, 3], [1.0, 0.6, 0.3], [0.9, 0.5, 0.2], [1.1, 0.7, 0.4]),
    Curve("control", "control", [1, 2, 3], [0.8, 0.4, 0.2], [0.7, 0.3, 0.0], [0.9, 0.5, 0.3]),
]
ROWS = [Dots("plain", "plain", [1.0, 2.0], 1.5, 0.5, 2.5), Dots("one seed", "accent", [2.0], 2.0, None, None)]
DRAWN = {
    "curves": lambda name: curves(name, "Curves & bands", [("loss", True, CURVES), ("error", False, CURVES)], "epoch"),
    "dots": lambda name: dots(name, "Dots & bands", ROWS, "error", zero=True, least=0.0),
    "bars": lambda name: bars(name, "Bars & bands", [Bar("plain", "plain", 1.0, 1.0), Bar("b", "accent", 9, 1)], "x"),
}


@pytest.mark.parametrize("kind", DRAWN)
def test_a_plot_is_well_formed_and_has_a_name(kind: str) -> None:
    tree = ElementTree.fromstring(f'<root xmlns="http://www.w3.org/2000/svg">{DRAWN[kind]("p")}</root>')
    svg = tree[0]
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == f"{kind.capitalize()} & bands"
    assert svg[0].text == svg.get("aria-label")
    assert svg.get("width") is None
    assert svg.get("viewBox")


@pytest.mark.parametrize("kind", DRAWN)
def test_a_plots_colours_are_the_pages(kind: str) -> None:
    drawn = DRAWN[kind]("p")
    used = set(re.findall(r"(?:fill|stroke): (#\w+|var\(--\w+\)|currentColor)", drawn))
    assert {"var(--plain)", "var(--accent)", "var(--muted)"} <= used
    assert {colour for colour in used if colour.startswith("#")} == set()


def test_labels_are_text_that_can_be_read_and_found() -> None:
    drawn = DRAWN["dots"]("p")
    assert re.search(r"<text[^>]*>one seed</text>", drawn)
    assert re.search(r"<text[^>]*>error</text>", drawn)


def test_two_plots_on_a_page_share_no_id() -> None:
    ids = [re.findall(r'\bid="([^"]+)"', DRAWN[kind](kind)) for kind in DRAWN]
    flat = [name for found in ids for name in found]
    assert flat
    assert len(set(flat)) == len(flat)


def test_a_plot_is_the_same_each_time() -> None:
    assert DRAWN["bars"]("p") == DRAWN["bars"]("p")


def test_an_axis_over_less_than_a_decade_has_ticks() -> None:
    drawn = bars("p", "t", [Bar("a", "accent", 1.3, 1.0)], "x")
    assert re.search(r"<text[^>]*>×1</text>", drawn)
    assert re.search(r"<text[^>]*>×2</text>", drawn)


def test_an_interval_below_what_can_be_is_cut_off() -> None:
    row = [Dots("plain", "plain", [1.0, 2.0], 1.5, -8.0, 11.0)]
    assert "−5" in dots("p", "t", row, "error")
    assert "−5" not in dots("p", "t", row, "error", least=0.0)


def test_a_kernel_shows_sign_and_size() -> None:
    drawn = equation([Tile("k", [[1.0, -0.5], [0.0, 0.25]]), Tile("one", [[-1.0]], "=", strong=True)], "Kernel")
    cells = re.findall(r'class="(positive|negative)" fill-opacity="([\d.]+)"><title>([^<]+)', drawn)
    assert cells == [
        ("positive", "1.000", "+1"),
        ("negative", "0.500", "-0.5"),
        ("positive", "0.000", "+0"),
        ("positive", "0.250", "+0.25"),
        ("negative", "1.000", "-1"),
    ]
    assert drawn.count('class="absent"') == 3
    assert 'aria-label="Kernel: one"' in drawn


def test_a_kernel_of_zeros_has_no_colour() -> None:
    assert 'fill-opacity="0.000"' in equation([Tile("zero", [[0.0]])], "Kernel")


class Attributes(HTMLParser):
    """Collects what a page refers to, and checks that tags are closed in order."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def a_page() -> str:
    return render(
        Page(
            title="Title <b>",
            lead="Lead & more",
            facts=[Fact("3 < 4", "a fact")],
            sections=[
                Section(
                    "one",
                    "One",
                    [
                        Text(["A <script>alert(1)</script> paragraph"]),
                        Text(["An item"], listed=True),
                        Table(["arm", "x"], [["plain", "1"], ["<i>", "2"]], "A caption"),
                        Figures([Figure(DRAWN["bars"]("p"), "Says & shows", "Heading")]),
                        Code("convfold demo --out 'a & b'"),
                    ],
                )
            ],
            footer="The end",
        )
    )


def test_a_page_is_well_formed_and_refers_to_nothing_outside() -> None:
    parser = Attributes()
    parser.feed(a_page())
    assert parser.open == []
    assert parser.links
    assert [link for link in parser.links if not link.startswith(("#", "data:"))] == []
    style = re.search(r"<style>\n:root.*?</style>", a_page(), re.DOTALL)
    assert style
    assert "url(" not in style.group()
    assert "@import" not in style.group()


def test_text_is_escaped_and_figures_are_not() -> None:
    page = a_page()
    assert "<script>" not in page
    assert "A &lt;script&gt;" in page
    assert "<title>Title &lt;b&gt;</title>" in page
    assert '<th scope="row">&lt;i&gt;</th>' in page
    assert "<svg role=" in page
