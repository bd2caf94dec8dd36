"""``convfold bench zoo``: named models folded, against themselves and against timm's own fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from convfold.cli.models import Aim, Objective
from convfold.cli.names import listed
from convfold.errors import InvalidArgument
from convfold.files import output_folder
from convfold.studies.bench.zoo.models import FAMILIES, OWN, default_models
from convfold.studies.bench.zoo.study import LOG, ZooRun, bench_zoo, summarise, violations
from convfold.studies.bench.zoo.values import ZooSetting

__all__ = ["zoo"]

WIDE = 170
QUICK = ZooSetting(samples=2, rounds=9, seconds=5.0, folding=False)


def zoo(
    models: Annotated[str, typer.Option(help="Names with commas between them; the default list when left out.")] = "",
    families: Annotated[bool, typer.Option("--families", help="Leave out torchvision's classification set.")] = False,
    size: Annotated[int | None, typer.Option(min=8, help="Height and width of inputs, not the model's own.")] = None,
    seed: Annotated[int, typer.Option(help="For weights, statistics and inputs.")] = 0,
    objective: Aim = Objective.MACS,
    quick: Annotated[bool, typer.Option("--quick", help="Two inputs, few rounds, folding not timed.")] = False,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Time the models.")] = True,
    onnx: Annotated[bool, typer.Option("--onnx/--no-onnx", help="Export, count and time in ONNX Runtime.")] = True,
    folding: Annotated[bool, typer.Option("--folding/--no-folding", help="Time and memory of folding.")] = True,
    limit: Annotated[float, typer.Option(min=1, help="Seconds for each of a model's processes.")] = 1800.0,
    jobs: Annotated[int, typer.Option(min=1, help="Models at once; more than one disturbs the times.")] = 1,
    retry: Annotated[bool, typer.Option("--retry", help="Measure models again that failed.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure all models again.")] = False,
    out: Annotated[Path, typer.Option(help=f"Folder of {LOG}.")] = Path("results"),
) -> int:
    """Fold named models with random statistics: costs, errors, latencies, and timm's own fold beside it.

    One line of JSON per model goes to zoo.jsonl in OUT; started again with the same options, models that have
    their line are not measured again. Exit code 1 when a model fails or breaks a promise.
    """
    setting = replace(QUICK if quick else ZooSetting(), size=size, seed=seed, latency=latency, onnx=onnx)
    setting = replace(setting, folding=setting.folding and folding, objective=objective.value)
    names = _names(models, families)
    run = ZooRun(names, setting, output_folder(out), limit, jobs, retry, again)
    console = Console()

    def tell(name: str, result: Mapping[str, Any], left: int) -> None:
        said = "; ".join(violations(result)) or "fine"
        status.update(f"zoo: {left} of {len(names)} models left")
        line = f"{_short(name)}: {said} ({result['wall_seconds']:g} s)"
        console.print(line, emoji=False, markup=False, highlight=False, soft_wrap=True)

    with console.status(f"zoo: {len(names)} models") as status:
        results = bench_zoo(run, tell)
    # A file or a pipe is not as narrow as the terminal that rich assumes there.
    wide = console if console.is_terminal else Console(width=WIDE)
    wide.print(_table(results))
    summary = summarise(results)
    console.print(str(summary), emoji=False, markup=False, highlight=False, soft_wrap=True)
    return 1 if summary.broken else 0


def _names(models: str, families: bool) -> list[str]:
    if not models:
        return list(FAMILIES if families else default_models())
    chosen = listed(models)
    if not chosen:
        raise InvalidArgument("--models names no model", got=repr(models), expected="names with commas between")
    # A bare name is one of the list's, or timm's.
    known = {name.rpartition(":")[2]: name for name in reversed(FAMILIES)} | {_short(OWN): OWN}
    return [name if ":" in name else known.get(name, f"timm:{name}") for name in chosen]


def _short(name: str) -> str:
    return "two_dbb" if name == OWN else name.removeprefix("timm:")


def _table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title="original / timm's fold / convfold")
    table.caption = "Latency: original / convfold and timm / convfold. float32: error of the fold over the original's."
    table.add_column("model", overflow="fold")
    heads = ("convolutions", "MMACs", "operators", "float64", "float32", "eager", "ONNX Runtime", "fold s", "MiB")
    for head in heads:
        table.add_column(head, justify="right")
    for name, result in results.items():
        table.add_row(_short(name), *(["failed"] if "failed" in result else _cells(result)))
    return table


def _cells(result: Mapping[str, Any]) -> list[str]:
    costs = result["cost"]

    def three(key: str, scale: float, form: str) -> str:
        found = [costs[who] for who in ("original", "timm", "convfold") if who in costs]
        return " / ".join(f"{totals[key] / scale:{form}}" for totals in found)

    ratios = [result["float32_ratio"][who] for who in ("convfold", "timm") if who in result["float32_ratio"]]
    folds = [result[key] for key in ("fold", "timm_fold") if key in result]
    eager, runtime = result.get("latency", {}).get("eager"), result.get("latency_onnxruntime")
    return [
        three("convolutions", 1, ".0f"),
        three("macs", 1e6, ".1f"),
        three("operators", 1, ".0f"),
        f"{result['error_float64']:.0e}",
        " / ".join(f"{value:.2f}" for value in ratios),
        _latencies(eager),
        _latencies(runtime),
        " / ".join(_figure(f, "seconds", ".2f") for f in folds),
        " / ".join(_figure(f, "memory_mib", ".0f") for f in folds),
    ]


def _latencies(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return " / ".join(f"{found[who]['median']:.2f}" for who in ("original", "timm") if who in found)


def _figure(found: Mapping[str, Any], key: str, form: str) -> str:
    value = found.get(key)
    return "-" if value is None else f"{value:{form}}"
