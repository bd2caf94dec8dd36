"""Write docs/layers.md: a section per layer, its equation and its costs taken from the layer itself.

    python docs/make_layers.py

What cannot be computed stands in docs/layers.toml.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convfold import cost, layers
from convfold.algebra import op as read
from convfold.algebra import text
from convfold.files import write_text

HERE = Path(__file__).parent
SIZE = (28, 28)
INPUT = "x".join(map(str, (1, 64, *SIZE)))


def arguments(section: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of the section's example."""
    given = [tuple(a) if isinstance(a, list) else a for a in section.get("arguments", [64, 128, 3])]
    return given, section.get("options", {})


def call(name: str, section: dict[str, Any]) -> str:
    """The Python that builds the example."""
    given, options = arguments(section)
    words = [*map(repr, given), *(f"{key}={value!r}" for key, value in options.items())]
    return f"convfold.layers.{layers.find(name, 2).__name__}({', '.join(words)})"


def build(name: str, section: dict[str, Any]) -> tuple[nn.Module, torch.Tensor]:
    """The example without a bias, and an input."""
    given, options = arguments(section)
    return layers.build(name, 2, *given, **options, bias=False).eval(), torch.empty(1, given[0], *SIZE)


def law(layer: nn.Module) -> str:
    """The docstring that states the layer's equation, as Markdown."""
    documented = next(c for c in type(layer).__mro__ if c.__doc__)
    return re.sub(r"``(.+?)``", r"`\1`", inspect.getdoc(documented) or "")


def source(layer: nn.Module) -> str:
    """The papers, from the head of the layer's file."""
    module = inspect.getmodule(next(c for c in type(layer).__mro__ if c.__doc__))
    words = (inspect.getdoc(module) or "").partition("\n\n")[2].replace("\n", " ")
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", words)


def row(name: str, layer: nn.Module, x: torch.Tensor) -> str:
    """One row of a table of costs."""
    report = cost(layer, x)
    return f"| {name} | {report.macs:,} | {report.params:,} | {report.convolutions} | {report.operators} |"


HEAD = "| | multiply-accumulates | parameters | convolutions | operators |\n|---|---:|---:|---:|---:|"


def section(name: str, page: dict[str, Any]) -> str:
    """The section of one layer."""
    layer, x = build(name, page)
    rows = [row("as it runs", layer, x)]
    equation = ""
    if hasattr(layer, "fold"):
        rows.append(row("folded", layer.fold(), x))
        equation = f"\n    {text(read(layer))}\n"
    table = "\n".join((HEAD, *rows))
    papers = source(layer)
    return f"""## {page["title"]}

`layers.build("{name}", dims, ...)`, `{type(layer).__name__[:-2]}{{1,2,3}}d`

{law(layer)}
{equation}
`{call(name, page)}` on {INPUT}, without its bias:

{table}

{page["use"].strip()}
{f"{chr(10)}{papers}{chr(10)}" if papers else ""}"""


def main() -> None:
    """The page."""
    torch.manual_seed(0)
    pages = tomllib.loads((HERE / "layers.toml").read_text())
    introduction = pages.pop("introduction")
    assert sorted(pages) == layers.names()
    plain = nn.Conv2d(64, 128, 3, padding=1, bias=False), torch.empty(1, 64, *SIZE)
    rows = [row("`nn.Conv2d(64, 128, 3, padding=1)`", *plain)]
    for name, page in pages.items():
        rows.append(row(f"`{call(name, page).removeprefix('convfold.layers.')}`", *build(name, page)))
    whole = "\n".join((HEAD, *rows))
    sections = "\n".join(section(name, page) for name, page in pages.items())
    write_text(HERE / "layers.md", f"{introduction.strip()} {INPUT}, without a bias:\n\n{whole}\n\n{sections}")


if __name__ == "__main__":
    main()
