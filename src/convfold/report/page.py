"""The page: sections of text, tables, figures and code, rendered by one template into one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from convfold.report.environment import environment

__all__ = ["Code", "Fact", "Figure", "Figures", "Page", "Section", "Table", "Text", "render"]


@dataclass(frozen=True)
class Fact:
    """One figure for the top of the page."""

    value: str
    label: str


@dataclass(frozen=True)
class Text:
    """Paragraphs; with `listed`, a list."""

    paragraphs: Sequence[str]
    listed: bool = False
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table:
    """Column titles and rows of text; the first column names the row, the others are figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Figure:
    """An inline SVG (or other markup made by this package) with a caption."""

    markup: str
    caption: str = ""
    heading: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side where there is room; `wide` gives each the whole width."""

    figures: Sequence[Figure]
    wide: bool = False
    kind: ClassVar[str] = "figures"


@dataclass(frozen=True)
class Code:
    """A command or the like, to be copied."""

    content: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Section:
    """A heading with its content; `anchor` is the name to link to."""

    anchor: str
    title: str
    content: Sequence[Text | Table | Figures | Code]


@dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    lead: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    footer: str = ""
    eyebrow: str = field(default="convfold")


def render(page: Page) -> str:
    """The page as one HTML document that asks for nothing from outside. Needs jinja2."""
    return environment().get_template("page.html.j2").render(page=page)
