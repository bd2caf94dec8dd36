"""A cost report as text: a table or a tree of modules, sorted and filtered, in the width of a terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from convfold.cost.report import CostReport, Row
from convfold.cost.tables.columns import ADDED, COLUMNS, DEFAULT, cell, figures, summed
from convfold.cost.tables.text import aligned
from convfold.cost.tables.units import human_bytes
from convfold.cost.training import TrainingCost
from convfold.errors import InvalidArgument

__all__ = ["chosen", "exact_totals", "loud", "report_table", "step_totals", "tree_lines"]

_LEAST = 16  # characters of a module's path that are always shown
_TYPE = 18


def chosen(report: CostReport, glob: str | None, sort: str | None) -> list[Row]:
    """The rows whose path matches `glob`, in order of execution or by a column: figures from the largest on.

    Raises InvalidArgument where no path matches.
    """
    rows = [row for row in report.rows if not glob or fnmatchcase(row.path, glob)]
    if not rows and glob:
        paths = [row.path for row in report.rows if row.path][:3]
        raise InvalidArgument(
            "no row's module is called so", where="--filter", got=repr(glob),
            expected=f"a glob over paths as {', '.join(paths)}" if paths else "", hint="'*' stands for dots too.",
        )  # fmt: skip
    if sort is None:
        return rows
    if sort == "module":
        return sorted(rows, key=lambda row: row.path)
    keyed = [(figures(row, (sort,))[sort], row) for row in rows]
    if COLUMNS[sort].kind == "text":
        return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]
    blank = [row for key, row in keyed if key is None]
    known = sorted((pair for pair in keyed if pair[0] is not None), key=lambda pair: pair[0], reverse=True)
    return [row for _, row in known] + blank


def report_table(
    report: CostReport,
    columns: Sequence[str] = DEFAULT,
    *,
    sort: str | None = None,
    glob: str | None = None,
    tree: bool = False,
    width: int | None = None,
) -> str:
    """The report as a table; with `width`, names are shortened until it fits where that is possible.

    A tree shows every module with what it and those below it cost. Raises InvalidArgument where `glob` matches nothing.
    """
    rows, names = chosen(report, glob, sort), (*columns, *ADDED)
    if tree:
        lines = [(label, found) for label, _, found in tree_lines(report, rows, sort, names)]
    else:
        lines = [(row.path or "(the model)", figures(row, names)) for row in rows]
    ends = [("total", figures(report, names))]
    if glob:
        ends.insert(0, ("matched", summed([figures(row, ADDED) for row in rows])))
    body = [(label, *(cell(name, found[name]) for name in columns)) for label, found in [*lines, *ends]]
    head = ("module", *(COLUMNS[name].title for name in columns))
    left = 1 + sum(1 for name in columns if COLUMNS[name].kind == "text")
    return aligned(_fitted([head, *body], columns, width, tree), left, len(ends))


def tree_lines(
    report: CostReport, rows: Sequence[Row], sort: str | None = None, names: Collection[str] = COLUMNS
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Every module on the way to `rows`: its name drawn as a branch, its path, and what is below it together."""
    below: dict[str, list[str]] = {}
    own = {row.path: row for row in rows}
    for path in own:
        while path:
            above = path.rpartition(".")[0]
            if path in below.setdefault(above, []):
                break
            below[above].append(path)
            path = above
    held = {path: found for path, found in _held(report).items() if not rows or path in own or path in below}
    told: dict[str, dict[str, Any]] = {}

    def tell(path: str) -> dict[str, Any]:
        parts = [tell(child) for child in below.get(path, ())]
        mine = [figures(own[path], names)] if path in own else []
        told[path] = summed([*mine, *parts, *([held[path]] if path in held and path not in own else [])])
        if mine:
            told[path] |= {k: mine[0][k] for k in ("type", "output", "receptive_field", "kernel_rank")}
        return told[path]

    tell("")
    lines = [("(the model)", "", told[""])]

    def draw(path: str, indent: str) -> None:
        children = below.get(path, [])
        if sort and sort != "module" and COLUMNS[sort].kind != "text":
            children = sorted(children, key=lambda child: -(told[child][sort] or 0))
        for number, child in enumerate(children):
            last = number == len(children) - 1
            name = child[len(path) + 1 :] if path else child
            lines.append((f"{indent}{'└─ ' if last else '├─ '}{name}", child, told[child]))
            draw(child, indent + ("   " if last else "│  "))

    draw("", "")
    return lines


def _held(report: CostReport) -> dict[str, dict[str, Any]]:
    """Modules that hold parameters and execute nothing themselves."""
    blank = dict.fromkeys(COLUMNS)
    return {path: {**blank, "params": count} for path, count in report.held.items() if count}


def _fitted(
    lines: Sequence[tuple[str, ...]], columns: Sequence[str], width: int | None, tree: bool
) -> list[tuple[str, ...]]:
    """The lines with types and module names shortened to fit."""
    if width is None:
        return list(lines)
    kind = columns.index("type") + 1 if "type" in columns else None
    short = [tuple(_cut(text, _TYPE, False) if at == kind else text for at, text in enumerate(line)) for line in lines]
    rest = sum(max(len(line[at]) for line in short) + 2 for at in range(1, len(short[0])))
    room = max(width - rest, _LEAST)
    return [(_cut(line[0], room, not tree), *line[1:]) for line in short]


def _cut(text: str, room: int, front: bool) -> str:
    if len(text) <= room:
        return text
    # The end of a path tells modules apart.
    return f"…{text[len(text) - room + 1 :]}" if front else f"{text[: room - 1]}…"


def exact_totals(report: CostReport) -> str:
    """The totals to the last digit, in two lines."""
    counts = f"{report.macs:,} MACs, {report.flops:,} FLOPs, {report.params:,} parameters"
    held = [
        f"weights {human_bytes(report.weight_bytes)}",
        f"peak {human_bytes(report.peak_bytes)}",
        f"activations {human_bytes(report.activation_bytes)}",
        f"traffic {human_bytes(report.traffic_bytes)}",
    ]
    if report.traffic_bytes:
        held.append(f"{report.flops / report.traffic_bytes:.3g} FLOP/B")
    field = report.receptive_field
    if field:
        held.append(f"receptive field {field:,}")
    return f"{counts}\n{', '.join(held)}"


def step_totals(step: TrainingCost) -> str:
    """A training step in three lines: work, bytes that are held, and what optimisers keep."""
    work = f"{step.macs:,} MACs, {step.flops:,} FLOPs (forward {step.forward_macs:,} and {step.forward_flops:,})"
    held = [
        f"peak {human_bytes(step.peak_bytes)}",
        f"kept for the backward pass {human_bytes(step.kept_bytes)}",
        f"gradients {human_bytes(step.gradient_bytes)}",
        f"traffic {human_bytes(step.traffic_bytes)}",
    ]
    kept = ", ".join(f"{name} {human_bytes(size)}" for name, size in step.optimizer_bytes.items())
    return f"one training step: {work}\n{', '.join(held)}\noptimisers keep: {kept}"


def loud(report: CostReport) -> str:
    """What was not counted, so that nobody can miss it; empty where all was."""
    lines = list[str]()
    missed = {**(report.training.uncounted if report.training else {}), **report.uncounted}
    if missed:
        number = sum(missed.values())
        calls = "call" if number == 1 else "calls"
        lines.append(f"!! NOT COUNTED: {number} {calls} of operators without a formula; the totals are too low.")
        lines += [f"!!   {name} x{count}" for name, count in missed.items()]
    if report.real_run:
        lines.append(f"counted in a real run, since meta tensors would not do: {report.real_run}")
    return "\n".join(lines)
