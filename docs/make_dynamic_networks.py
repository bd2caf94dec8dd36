"""Write docs/dynamic-networks.md: the reference networks, counted, beside what the papers say.

    python docs/make_dynamic_networks.py

Published numbers and their sources stand in docs/dynamic-networks.toml.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from convfold import cost
from convfold.dynamic import networks
from convfold.files import write_text

HERE = Path(__file__).parent


class Counted(NamedTuple):
    """A network at paper size, in millions; `alone` are the MACs without mixing and routing."""

    macs: float
    alone: float
    parameters: float
    parent: float

    def of(self, quantity: str) -> float:
        """The quantity as the papers state it: percentages against the parent, else millions."""
        return {
            "MACs": self.macs,
            "MACs, convolutions alone": self.alone,
            "parameters": self.parameters,
            "reduction": 100 * (1 - self.macs / self.parent),
            "reduction, convolutions alone": 100 * (1 - self.alone / self.parent),
            "increase": 100 * (self.macs / self.parent - 1),
        }[quantity]


@cache
def totals(factory: str, options: tuple[tuple[str, Any], ...]) -> tuple[float, float]:
    """MACs and parameters on one 224x224 image, in millions, without any memory."""
    with torch.device("meta"):
        model = getattr(networks, factory)(**dict(options)).eval()
        report = cost(model, torch.empty(1, 3, 224, 224))
    assert not report.uncounted
    return report.macs / 1e6, report.params / 1e6


def counted(entry: dict[str, Any]) -> Counted:
    """One network of the list."""
    options = entry.get("options", {})
    macs, parameters = totals(entry["factory"], tuple(options.items()))
    wide = {name: value for name, value in options.items() if name == "width"}
    stated = {name: tuple(value) for name, value in entry.get("parent_options", {}).items()}
    parent = totals(entry["parent"], tuple({**wide, **stated}.items()))[0]
    own = entry["factory"].startswith("dy_")
    alone = totals(entry["factory"], (("kind", "static"),))[0] if own else parent
    return Counted(macs, alone, parameters, parent)


HEAD = """| network | MACs | convolutions alone | parameters | published | here | difference |
|---|---:|---:|---:|---|---:|---:|"""


def rows(entry: dict[str, Any]) -> list[str]:
    """A row per published number; one without where there is none."""
    own = counted(entry)
    first = f"{entry['title']} | {own.macs:,.1f} | {own.alone:,.1f} | {own.parameters:.2f}"
    lines = []
    for item in entry["published"]:
        here = own.of(item["quantity"])
        sign = " %" if item["quantity"].startswith(("reduction", "increase")) else " M"
        said = f"{item['quantity']} {item['value']:g}{sign} [{item['source']}]"
        lines.append(f"| {first} | {said} | {here:,.1f}{sign} | {100 * (here / item['value'] - 1):+.1f} % |")
        first = " | | | "
    return lines or [f"| {first} | | | |"]


def main() -> None:
    """The page."""
    page = tomllib.loads((HERE / "dynamic-networks.toml").read_text())
    table = "\n".join([HEAD, *(line for entry in page["network"] for line in rows(entry))])
    sources = "\n".join(f"* **{name}**: {text}." for name, text in page["sources"].items())
    falls = "\n".join(f"* **{entry['title']}.** {entry['why']}" for entry in page["network"] if "why" in entry)
    parts = (page["introduction"].strip(), table, "Sources:", sources, "Where they differ:", falls)
    write_text(HERE / "dynamic-networks.md", "\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
