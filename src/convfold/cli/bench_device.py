"""``convfold bench device``: the user's machine measured, so that seconds of layers can be predicted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.cli.outputs import check_outputs
from convfold.cost.device.law import ALL, COUNTED
from convfold.cost.device.measure import Effort
from convfold.cost.device.work import KINDS
from convfold.files import output_folder, write_text
from convfold.report import render
from convfold.studies.bench.device.page import page
from convfold.studies.bench.device.study import Measured, bench_device, usable_device
from convfold.studies.bench.device.words import answer, headline

__all__ = ["device"]

_GIGA = 1e9
_WIDE = 110


def device(
    name: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(min=1, help="torch's threads; as many as it uses, left out.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few, small shapes: a first look, not figures to quote.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write the roofline and the laws here, as a page of HTML.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Save everything measured as JSON in this file, too.")] = None,
) -> None:
    """Measure this machine's roofs and the seconds of each kind of operator; say why depthwise is slow.

    Kept in the cache folder (convfold/device-*.json under XDG_CACHE_HOME), for this machine, device, number of threads
    and version of torch. From there the seconds of a model's layers are predicted, and the objective "latency" of plan
    and fold spares timing what is sure to lose. One thread is timed on the CPU clock of the process, which other
    work does not move; more are timed on the wall's, and want a machine with nothing else to do.
    """
    chosen = usable_device(name)
    for path in (report, out):
        if path is not None:
            output_folder(path.parent)
    check_outputs([("--report", report), ("--out", out)], [])
    console = Console()
    with console.status("roofs") as status:
        measured = bench_device(chosen, Effort.quick() if quick else Effort(), threads, status.update)
        kept = measured.device.save()
    wide = console if console.is_terminal else Console(width=_WIDE)
    wide.print(_table(measured))
    for sentence in (headline(measured), *answer(measured)):
        console.print(sentence, emoji=False, markup=False, highlight=False)
    written = [kept]
    if out is not None:
        measured.save(out)
        written.append(out)
    if report is not None:
        write_text(report, render(page(measured, _command(name, threads, quick))))
        written.append(report)
    for path in written:
        console.print(f"saved: {path}", emoji=False, markup=False, highlight=False, soft_wrap=True)


def _command(name: str, threads: int | None, quick: bool) -> str:
    told = [*(["--device", name] if name != "cpu" else []), *(["--threads", str(threads)] if threads else [])]
    return shlex.join(
        ["convfold", "bench", "device", *told, *(["--quick"] if quick else []), "--report", "device.html"]
    )


def _table(measured: Measured) -> Table:
    found = measured.device
    roofs = found.roofs
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=str(found.place))
    table.caption = (
        f"Roofs: {roofs.peak / _GIGA:,.0f} GFLOP/s, {roofs.bandwidth / _GIGA:,.0f} GB/s from memory, "
        f"{roofs.cached / _GIGA:,.0f} GB/s from cache; they meet at {found.ridge:.1f} FLOP/byte. Misses: factors on "
        "held-out shapes, median (quartiles)."
    )
    table.add_column("kind")
    for head in ("overhead us", "GB/s", "GMAC/s", "shapes", "miss", "of a x MACs"):
        table.add_column(head, justify="right")
    for kind in (*KINDS, COUNTED, ALL):
        law, error = found.laws.get(kind), found.errors[kind]
        terms = ["", "", ""] if law is None else [f"{law.overhead * 1e6:.1f}", _rate(law.byte), _rate(law.mac)]
        table.add_row(kind, *terms, str(error.count), str(error), str(measured.by_macs.get(kind, "")))
    return table


def _rate(seconds: float) -> str:
    return f"{1 / seconds / _GIGA:.1f}" if seconds else "-"
