"""The columns that costs are shown, sorted and compared by: their names, titles, and how a figure is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from convfold.cost.report import CostReport, Row
from convfold.cost.tables.units import human, human_bytes, human_seconds, sizes
from convfold.errors import UnknownName

__all__ = ["ADDED", "COLUMNS", "DEFAULT", "TOTALS", "Column", "cell", "column_named", "figures"]


@dataclass(frozen=True)
class Column:
    """A figure of a row: its title in a narrow table, what it is, and how it is written.

    `kind`: text, count, bytes, ratio, seconds, or sizes.
    """

    title: str
    says: str
    kind: str


COLUMNS = {
    "type": Column("type", "class of the module", "text"),
    "output": Column("output", "shape of the first result", "text"),
    "macs": Column("MACs", "multiply-accumulates of convolutions and products", "count"),
    "flops": Column("FLOPs", "two for each of them, and everything else", "count"),
    "params": Column("params", "elements of parameters", "count"),
    "weight_bytes": Column("weights", "bytes of parameters and buffers", "bytes"),
    "activation_bytes": Column("activ.", "bytes of what it makes", "bytes"),
    "traffic_bytes": Column("traffic", "bytes that its operators read and write", "bytes"),
    "intensity": Column("FLOP/B", "FLOPs for each byte of traffic", "ratio"),
    "receptive_field": Column("field", "positions of the input that a result depends on", "sizes"),
    "degrees_of_freedom": Column("freedom", "dimension of the set of its maps", "count"),
    "kernel_rank": Column("rank", "rank of its kernel, outputs by inputs", "count"),
    "seconds": Column("time", "predicted for this machine, by convfold bench device", "seconds"),
    "convolutions": Column("conv", "convolutions, and products with constants", "count"),
    "operators": Column("oper", "operators that are neither views nor copies", "count"),
}
DEFAULT = ("type", "macs", "flops", "params", "weight_bytes", "activation_bytes", "traffic_bytes", "intensity")
# What adds up over rows.
ADDED = (
    "macs",
    "flops",
    "params",
    "weight_bytes",
    "activation_bytes",
    "traffic_bytes",
    "degrees_of_freedom",
    "seconds",
    "convolutions",
    "operators",
)


# Totals as a table of them names them.
TOTALS = {
    "macs": "MACs",
    "flops": "FLOPs",
    "params": "parameters",
    "weight_bytes": "weight bytes",
    "activation_bytes": "activation bytes",
    "peak_bytes": "peak bytes",
    "traffic_bytes": "traffic bytes",
    "convolutions": "convolutions",
    "operators": "operators",
}


def column_named(name: str, where: str) -> str:
    """`name`, or the column with that title. Raises UnknownName with near ones."""
    titled = {column.title.lower().rstrip("."): key for key, column in COLUMNS.items()}
    wanted = name.strip().lower().replace("-", "_")
    found = wanted if wanted in ("module", *COLUMNS) else titled.get(wanted.rstrip("."))
    if found is None:
        near = get_close_matches(wanted, ["module", *COLUMNS, *titled], 3, 0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else ""
        raise UnknownName(
            "no column is called so", where=where, got=repr(name), expected=f"one of module, {', '.join(COLUMNS)}",
            hint=hint,
        )  # fmt: skip
    return found


def figures(counted: Row | CostReport, names: Collection[str] = COLUMNS) -> dict[str, Any]:
    """What a row, or a whole report, has in each column of these names; None in others, and where there is none.

    A rank takes longer than all the rest of a report: it is worked out only where it is named.
    """
    found = {name: getattr(counted, name, None) if name in names else None for name in COLUMNS}
    if isinstance(counted, Row):
        found["output"] = " ".join(sizes(shape) for shape in counted.outputs)
    else:
        found["type"] = counted.model
    return summed([found]) | {k: v for k, v in found.items() if k not in ADDED}


def summed(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several lines together: sums where they add up, and the intensity of the whole."""
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    for name in ADDED:
        known = [line[name] for line in lines if line[name] is not None]
        found[name] = sum(known) if known else None
    if found["traffic_bytes"]:
        found["intensity"] = (found["flops"] or 0) / found["traffic_bytes"]
    return found


def cell(name: str, value: Any) -> str:
    """A figure as it is written."""
    if value in (None, ()):
        return ""
    kind = COLUMNS[name].kind
    if kind == "bytes":
        return human_bytes(value)
    if kind == "seconds":
        return human_seconds(value)
    if kind == "count":
        return human(value)
    if kind == "ratio":
        return f"{value:.3g}" if value < 1000 else human(value)
    if kind == "sizes":
        return sizes(value) if isinstance(value, tuple) else human(value)
    return str(value)
