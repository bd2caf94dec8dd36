"""``convfold bench dynamic``: what a dynamic convolution costs, and whether it chooses the best way to run."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
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
from convfold.studies.bench.dynamic import KINDS, PASSES, DynamicResult, DynamicSetting, bench_dynamic, cases
from convfold.studies.timing import circumstances, one_thread, steady_allocator

__all__ = ["dynamic"]

WIDE = 150


def dynamic(
    kinds: Annotated[str, typer.Option(help=f"Some of {', '.join(KINDS)}; all when left out.")] = "",
    rounds: Annotated[int | None, typer.Option(min=2, help="Rounds of paired measurements.", show_default="15")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few small cases: a first look.")] = False,
    seed: Annotated[int, typer.Option(help="For weights and inputs.")] = 0,
    out: Annotated[Path, typer.Option(help="Save everything as JSON in this file.")] = Path(
        "results/bench-dynamic.json"
    ),
) -> int:
    """CondConv's layer against a static convolution, and its own choice against every way of execution by hand.

    CPU time on one thread, forward alone and forward with backward; beside it timm's CondConv2d, where it is
    installed, and the peak memory of a training step. Exit code 1 when the choice is slower than the best way by more
    than 5 % beyond what equal layers show, or a step takes more memory than the grouped form.
    """
    setting = _setting(kinds, rounds, quick)
    if out.is_dir():
        raise FileProblem("--out is a folder", where=str(out), expected="the name of a file")
    output_folder(out.parent)
    allocator = steady_allocator()
    with one_thread():
        record: dict[str, Any] = {"study": "bench dynamic", **circumstances(allocator), "setting": asdict(setting)}
    results: list[DynamicResult] = []
    with stages(len(list(cases(setting))) * len(PASSES)) as stage:
        stage("first case")
        for run in bench_dynamic(setting, seed):
            result = run()
            results.append(result)
            # After every case: an hour that is interrupted has measured something.
            record["results"] = [r.to_dict() for r in results]
            write_text(out, json.dumps(record, indent=1) + "\n")
            stage(f"after {result.case}, {result.way}")
    console = Console()
    wide = console if console.is_terminal else Console(width=WIDE)
    for way in PASSES:
        wide.print(_table(way, [result for result in results if result.way == way]))
    for line in _sentences(results):
        console.print(line, emoji=False, markup=False, highlight=False, soft_wrap=True)
    console.print(f"saved: {out}", emoji=False, markup=False, highlight=False)
    return 0 if all(result.within and _is_lean(result) for result in results) else 1


def _setting(kinds: str, rounds: int | None, quick: bool) -> DynamicSetting:
    setting = DynamicSetting.quick() if quick else DynamicSetting()
    chosen = tuple(listed(kinds))
    for name in chosen:
        if name not in KINDS:
            raise InvalidArgument("--kinds names no kind", got=repr(name), expected=f"some of {', '.join(KINDS)}")
    setting = replace(setting, kinds=chosen) if chosen else setting
    return setting if rounds is None else replace(setting, rounds=rounds)


def _is_lean(result: DynamicResult) -> bool:
    return not result.peaks or result.peaks["auto"] <= result.peaks["whole"]


def _table(way: str, results: list[DynamicResult]) -> Table:
    columns = ("auto", "grouped", "whole", "loop", "product", "patches", "feature", "timm")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=f"{way}: CPU time over a static convolution")
    table.caption = "whole: grouped without chunks. auto / best: median, and the most that the control allows."
    table.add_column("case")
    for head in (*columns, "auto / best", "memory"):
        table.add_column(head, justify="right")
    for r in results:
        over = [f"{r.over_static[name].median:.2f}" if name in r.over_static else "-" for name in columns]
        memory = f"{r.peaks['auto'] / r.peaks['whole']:.2f}" if r.peaks else "-"
        verdict = (
            f"{r.choice.median:.2f} <= {r.allowed:.2f}" if r.within else f"{r.choice.median:.2f} > {r.allowed:.2f}"
        )
        table.add_row(str(r.case), *over, verdict, memory)
    return table


def _sentences(results: list[DynamicResult]) -> list[str]:
    slow = [r for r in results if not r.within]
    lines = [f"choice: as fast as the best way in {len(results) - len(slow)} of {len(results)}"]
    lines += [f"  not: {r.case}, {r.way}: {r.choice} of {r.best}, allowed {r.allowed:.3f}" for r in slow]
    steps = [r for r in results if r.peaks]
    if steps:
        worst = max(r.peaks["auto"] / r.peaks["whole"] for r in steps)
        lines.append(f"memory of a training step: at most {worst:.3f} of the grouped form's")
    timm = [r for r in results if "timm" in r.over_static]
    if timm:
        faster = sum(r.over_static["auto"].median <= r.over_static["timm"].median for r in timm)
        lines.append(f"timm's CondConv2d: auto is as fast or faster in {faster} of {len(timm)}")
    return lines
