"""``convfold cost``: what one forward pass, or one training step, executes and moves."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from convfold.cli.cost_conv import conv
from convfold.cli.cost_models import Counted, counted, counted_pair
from convfold.cli.models import FileModel, Inputs, Weights
from convfold.cli.outputs import check_outputs
from convfold.cli.progress import stages
from convfold.cost.compare import Comparison, compare, comparison_table
from convfold.cost.tables.columns import COLUMNS, DEFAULT, column_named
from convfold.cost.tables.table import chosen, exact_totals, loud, report_table, step_totals
from convfold.cost.what_if.scenario import Scenario, scenario, split_spec
from convfold.cost.what_if.text import scenario_text
from convfold.files import write_text
from convfold.report.cost_page import write_cost_page

__all__ = ["CostCommand", "cost", "terminal_width"]

_conv = typer.Typer(add_completion=False)
_conv.command("conv")(conv)


class CostCommand(TyperCommand):
    """``cost MODEL``; and ``cost conv``, a command of its own: no model is called conv."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the one that is meant."""
        if args[:1] == ["conv"]:
            command = typer.main.get_command(_conv)
            return command.make_context(f"{info_name} conv", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


Columns = Annotated[
    str | None,
    typer.Option(help=f"Which columns, with commas between: {', '.join(COLUMNS)}.", show_default=", ".join(DEFAULT)),
]


def cost(
    model: FileModel,
    input: Inputs = None,
    weights: Weights = None,
    tree: Annotated[bool, typer.Option("--tree", help="Show modules with all that is below them.")] = False,
    sort: Annotated[str | None, typer.Option(help="Order by a column, the largest first; or by module.")] = None,
    filter: Annotated[str | None, typer.Option(help="Show modules whose path matches this glob.")] = None,
    columns: Columns = None,
    wide: Annotated[bool, typer.Option("--wide", help="Show all columns.")] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Count a training step, with its backward pass.")
    ] = False,
    latency: Annotated[
        bool, typer.Option("--latency", help="Predict each module's time here, as convfold bench device measured.")
    ] = False,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="FORM[@GLOB]",
            help="Show the cost that convolutions would have as separable, grouped:4, rank:8, ...; repeatable.",
        ),
    ] = None,
    vs: Annotated[str | None, typer.Option(metavar="MODEL", help="Show what differs in this model.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 where an operator has no formula.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it here, as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write all of it here, as a page of HTML.")] = None,
) -> None:
    """Show what MODEL costs by module: MACs, FLOPs, parameters, bytes held, made and moved, and the receptive field.

    Counted on meta tensors: nothing is computed, and no input is too large. MODEL may be an .onnx file.

    `convfold cost conv --input 64x64x3 --kernel 5 --out 32` shows one layer in every form that it might have:
    `convfold cost conv --help`.
    """
    check_outputs([("--json", json_file), ("--report", report)], (model, weights, vs))
    shown = _columns(columns, wide)
    shown += ("seconds",) * (latency and "seconds" not in shown)
    by = None if sort is None else column_named(sort, "--sort")
    forms = [split_spec(one, "--what-if") for one in what_if or ()]
    with stages(2 if vs is None else 3) as stage:
        if vs is None:
            one, other = counted(model, input, weights, training, latency, stage), None
        else:
            one, other = counted_pair(model, vs, input, weights, training, latency, stage)
        scenarios = [scenario(one.report, one.layers, spec, glob) for spec, glob in forms]
    compared = None if other is None else compare(one.report, other.report, (one.name, other.name))
    chosen(one.report, filter, by)  # what is wrong with a glob is said before anything is written
    _write(one, compared, scenarios, json_file, report)
    for part in _told(one, compared, scenarios, shown, by, filter, tree):
        typer.echo(part)
    for path in (json_file, report):
        if path is not None:
            typer.echo(f"written: {path}")
    if strict:
        for each in (one, other):
            if each is not None:
                each.report.require_counted()


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere, and nothing is to be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _columns(columns: str | None, wide: bool) -> tuple[str, ...]:
    if columns is None:
        return tuple(COLUMNS) if wide else DEFAULT
    found = [column_named(name, "--columns") for name in columns.split(",")]
    return tuple(name for name in found if name != "module")


def _write(
    one: Counted,
    compared: Comparison | None,
    scenarios: list[Scenario],
    json_file: Path | None,
    report: Path | None,
) -> None:
    if json_file is not None:
        found: dict[str, Any] = {"name": one.name, "inputs": one.inputs, **one.report.to_dict()}
        if scenarios:
            found["what_if"] = [each.to_dict() for each in scenarios]
        if compared is not None:
            found["versus"] = compared.to_dict()
        write_text(json_file, json.dumps(found, indent=1) + "\n")
    if report is not None:
        write_cost_page(report, one.report, one.name, one.inputs, compared, scenarios)


def _told(
    one: Counted,
    compared: Comparison | None,
    scenarios: list[Scenario],
    columns: tuple[str, ...],
    sort: str | None,
    glob: str | None,
    tree: bool,
) -> list[str]:
    width = terminal_width()
    parts = []
    if compared is not None:
        parts.append(comparison_table(compared, width=width, glob=glob))
    if not scenarios and compared is None:
        parts.append(report_table(one.report, columns, sort=sort, glob=glob, tree=tree, width=width))
    if compared is None:
        parts.append(exact_totals(one.report))
    for each in (one.report, None if compared is None else compared.b):
        if each is not None and each.training is not None:
            parts.append(step_totals(each.training))
    parts += [scenario_text(each, width) for each in scenarios]
    missed = loud(one.report)
    missed_there = "" if compared is None else loud(compared.b)
    parts += [missed] if missed else []
    parts += [f"{compared.names[1]}:\n{missed_there}"] if compared is not None and missed_there else []
    return ["\n\n".join(parts)]
