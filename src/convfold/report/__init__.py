"""One self-contained HTML page: text, tables and figures that follow the reader's colour scheme."""

from __future__ import annotations

from convfold.report.heat import Tile, equation
from convfold.report.page import Code, Fact, Figure, Figures, Page, Section, Table, Text, render
from convfold.report.plots import Bar, Curve, Dots, bars, curves, dots

__all__ = [
    "Bar",
    "Code",
    "Curve",
    "Dots",
    "Fact",
    "Figure",
    "Figures",
    "Page",
    "Section",
    "Table",
    "Text",
    "Tile",
    "bars",
    "curves",
    "dots",
    "equation",
    "render",
]
