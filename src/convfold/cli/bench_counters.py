"""``convfold bench counters``: layers with a closed form, asked of every counter of operations that is installed."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.cli.names import listed
from convfold.cli.progress import stages
from convfold.errors import FileProblem, InvalidArgument
from convfold.files import output_folder, write_text
from convfold.studies.bench.counters.speed import against_forward, in_fresh_process
from convfold.studies.bench.counters.study import CounterStudy, bench_counters
from convfold.studies.bench.counters.table import CASES
from convfold.studies.bench.counters.tools import TOOLS

__all__ = ["counters"]

WIDE = 190


def counters(
    tools: Annotated[str, typer.Option(help="Names with commas between them; all that are installed.")] = "",
    speed: Annotated[bool, typer.Option("--speed", help="Also time and memory of counting (a minute).")] = False,
    out: Annotated[Path, typer.Option(help="Save everything as JSON in this file.")] = Path("results/counters.json"),
) -> int:
    """Count layers whose multiply-accumulates have a closed form, with convfold and with other counters.

    Exit code 1 when convfold is not exact on every one.
    """
    chosen = _tools(tools)
    if out.is_dir():
        raise FileProblem("--out is a folder", where=str(out), expected="the name of a file")
    output_folder(out.parent)
    with stages(len(CASES) + (2 if speed else 0)) as stage:
        study = bench_counters(chosen, stage)
        if speed:
            stage("a forward pass of resnet50 against counting it")
            figures: dict[str, Any] = {"forward": against_forward()}
            stage("repvgg_b3 at 4096x4096")
            study = replace(study, speed={**figures, "large": in_fresh_process()})
    console = Console()
    # A file or a pipe is not as narrow as the terminal that rich assumes there.
    wide = console if console.is_terminal else Console(width=WIDE)
    wide.print(_table(study))
    for line in _sentences(study):
        console.print(line, emoji=False, markup=False, highlight=False, soft_wrap=True)
    options = [*(["--tools", tools] if tools else []), *(["--speed"] if speed else [])]
    command = shlex.join(["convfold", "bench", "counters", *options])
    write_text(out, json.dumps({"command": command, **study.to_dict()}, indent=1) + "\n")
    console.print(f"saved: {out}", emoji=False, markup=False, highlight=False)
    return 0 if study.counts("convfold")["exact"] == len(study.answers) else 1


def _tools(names: str) -> list[str]:
    chosen = listed(names)
    for name in chosen:
        if name not in TOOLS:
            raise InvalidArgument("--tools names no counter", got=repr(name), expected=f"one of {', '.join(TOOLS)}")
    return chosen and list(dict.fromkeys(["convfold", *chosen]))


def _table(study: CounterStudy) -> Table:
    caption = (
        "exact; x2: twice the truth; (x1.1): more by biases, norms and activations, counted as products; "
        "zero: nothing, silently; failed: an error instead of a number."
    )
    table = Table(title="Multiply-accumulates", caption=caption, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("case")
    table.add_column("truth", justify="right")
    for tool, version in study.versions.items():
        table.add_column(f"{tool}\n{version.split('+')[0]}", justify="right")
    for answers in study.answers:
        said = [answers.shown(tool) for tool in study.versions]
        table.add_row(answers.case.name, f"{answers.case.macs.value:,}", *said)
    return table


def _sentences(study: CounterStudy) -> list[str]:
    total = len(study.answers)
    lines = []
    for tool in study.versions:
        counts = study.counts(tool)
        rest = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "exact" and count)
        lines.append(f"{tool}: {counts['exact']} of {total} exact" + (f" ({rest})" if rest else ""))
    missing = [tool for tool in TOOLS if tool not in study.versions]
    if missing:
        lines.append(f"not asked: {', '.join(missing)}")
    if study.speed:
        lines.append(_speed(study.speed))
    return lines


def _speed(speed: dict[str, Any]) -> str:
    forward, large = speed["forward"], speed["large"]
    first = large["runs"][0]
    return (
        f"cost of {forward['model']} over one forward pass, CPU time: {forward['cost / forward']['median']:.2f} "
        f"(control {forward['forward / forward']['median']:.2f}); {large['model']} at "
        f"{'x'.join(map(str, large['input']))}, first call: {first['seconds']:.2f} s, {first['mib']:.0f} MiB"
    )
