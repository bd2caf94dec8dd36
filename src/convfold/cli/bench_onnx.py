"""``convfold bench onnx``: exported files folded, beside what they were and what other optimisers make of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.cli.names import listed
from convfold.files import output_folder
from convfold.studies.bench.onnx import LOG, MODELS, OnnxSetting, bench_onnx, broken

__all__ = ["onnx"]

WIDE = 150


def onnx(
    models: Annotated[str, typer.Option(help="Names with commas between them; the default list when left out.")] = "",
    rounds: Annotated[int, typer.Option(min=2, help="Rounds of paired measurements.")] = 21,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one run that is timed.")] = 1,
    seed: Annotated[int, typer.Option(help="For weights, statistics and inputs.")] = 0,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Time the files.")] = True,
    out: Annotated[Path, typer.Option(help=f"Folder of {LOG}.")] = Path("results"),
) -> int:
    """Export models by both of torch's exporters, fold the files, and compare nodes, errors and latencies.

    Latency is CPU time in ONNX Runtime, all optimisations, one thread: the unfolded file's over the folded one's, with
    the folded one against itself as control, and what onnxsim and onnxslim make of the unfolded file beside it where
    they are installed. One line of JSON per file goes to onnx.jsonl in OUT. Exit code 1 when a file breaks a promise.
    """
    names = tuple(listed(models)) or MODELS
    console = Console()

    def tell(name: str, result: dict[str, Any]) -> None:
        said = "; ".join(broken(result)) or "fine"
        console.print(f"{name}: {said}", emoji=False, markup=False, highlight=False, soft_wrap=True)

    with console.status("onnx"):
        results = bench_onnx(names, OnnxSetting(seed, rounds, batch, latency), output_folder(out), tell)
    wide = console if console.is_terminal else Console(width=WIDE)
    wide.print(_table(results))
    return 1 if any(broken(result) for result in results.values()) else 0


def _table(results: dict[str, dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title="given -> folded")
    table.caption = "Latency over the folded file's in ONNX Runtime. L2: error against float64 over the given file's."
    table.add_column("model", overflow="fold")
    for head in ("Conv", "BN", "Add", "MMACs", "L2", "given", "onnxsim", "onnxslim", "control"):
        table.add_column(head, justify="right")
    for name, result in results.items():
        table.add_row(name.rpartition(":")[2], *(["failed"] if "failed" in result else _cells(result)))
    return table


def _cells(result: dict[str, Any]) -> list[str]:
    given, folded = result["nodes"]["given"], result["nodes"]["folded"]
    counts = [f"{given[kind]} -> {folded[kind]}" for kind in ("Conv", "BatchNormalization", "Add")]
    macs = " -> ".join(f"{macs / 1e6:.1f}" for macs in result["macs"])
    times = result.get("latency", {}).get("over_folded", {})
    others = [
        f"{times[who]['median']:.2f}" if who in times else "-" for who in ("given", "onnxsim", "onnxslim", "control")
    ]
    ratio = "-" if result["l2_ratio"] is None else f"{result['l2_ratio']:.2f}"
    return [*counts, macs, ratio, *others]
